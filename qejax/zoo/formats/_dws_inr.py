"""The public DWS INR zoo: sine networks fitted to images in [0, 1], 0.5 added.

`mnist-inrs/mnist_png_KIND_LABEL_INDEX/checkpoints/model_final.pth`; tensors
`seq.0.weight`, ..., `seq.2.bias`. An index counts the training or the test file of the
image set. Split by a file `mnist_splits.json`:
`{"train": {"path": [...], "label": [...]}, "val": ..., "test": ...}`.

Source: Navon et al. 2023, arXiv:2301.12780.
"""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from qejax.zoo._splits import split_networks
from qejax.zoo._zoo import SPLITS, Zoo
from qejax.zoo.formats._fits import Fit, zoo_of

TABLE = "mnist_splits.json"
FRACTIONS = (55 / 70, 5 / 70)
"""Where there is no file of splits: 55,000, 5,000 and 10,000 of 70,000."""


def load_dws_inr(directory: str | Path, split_seed: int = 0) -> Zoo:
    """Returns the networks of a DWS INR directory.

    Args:
        directory: holds a folder `mnist-inrs` and, if the split is to be that of the
            file, `mnist_splits.json`.
        split_seed: of a random split into 55 : 5 : 10, where there is no such file.

    Returns:
        The zoo by kind and index. The label is `class`; `hyper` is `signal` (the index
        of the image in the training or the test file) and `testing` (which of them).

    Raises:
        FileNotFoundError: if there are no such networks.
        ValueError: as `load_nfn_siren`, and if a network is in no split or in two, or a
            split names a file that is not there or another label; names it.
    """
    directory = Path(directory)
    pattern = re.compile(r"mnist_png_(training|testing)_(\d)_(\d{1,9})")
    files = []
    for path in directory.glob("mnist-inrs/mnist_png_*/checkpoints/model_final.pth"):
        found = pattern.fullmatch(path.parent.parent.name)
        if found is None:
            raise ValueError(
                f"{path}: expected a folder mnist_png_KIND_LABEL_INDEX, got "
                f"{path.parent.parent.name!r}."
            )
        files.append((found[1], int(found[3]), int(found[2]), path))
    if not files:
        raise FileNotFoundError(
            f"{directory}: expected networks mnist-inrs/mnist_png_*/checkpoints/"
            f"model_final.pth, found none."
        )
    files.sort()
    table = directory / TABLE
    if table.is_file():
        codes = _codes(table, directory, {path: label for *_, label, path in files})
    else:
        drawn = split_networks(len(files), split_seed, FRACTIONS)
        codes = {path: int(code) for (*_, path), code in zip(files, drawn, strict=True)}
    fits = [
        Fit(path, path.parent.parent.name, label, index, 0, codes[path])
        for _, index, label, path in files
    ]
    zoo = zoo_of("dws_inr", directory, fits, "seq.{}", "seq.{}", "unit")
    zoo.hyper["testing"] = np.array([kind == "testing" for kind, *_ in files], np.int64)
    return zoo


def _codes(table: Path, directory: Path, labels: dict[Path, int]) -> dict[Path, int]:
    """The split of every file, as the table says."""
    codes: dict[Path, int] = {}
    try:
        parts = json.loads(table.read_text())
        rows = [
            (name, path, int(label))
            for name in SPLITS
            for path, label in zip(
                parts[name]["path"], parts[name]["label"], strict=True
            )
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{table}: expected {{'train': {{'path': [...], 'label': [...]}}, 'val': "
            f"..., 'test': ...}}, got {type(error).__name__}: {error}."
        ) from error
    for name, text, label in rows:
        # Never a path out of the folder.
        path = directory.joinpath(*PurePosixPath(text).parts[-4:])
        if path in codes or path not in labels:
            found = "it twice" if path in codes else "no such file"
            raise ValueError(
                f"{table}: split {name!r} should name every network once, got {text!r} "
                f"and found {found}."
            )
        if labels[path] != label:
            raise ValueError(
                f"{table}: split {name!r} should have the label of the folder, "
                f"{labels[path]} for {text!r}, got {label}."
            )
        codes[path] = SPLITS[name]
    missing = [path for path in labels if path not in codes]
    if missing:
        raise ValueError(
            f"{table}: every network should be in a split, found none for {missing[0]} "
            f"({len(missing)} of {len(labels)}). Add them, or remove the file for a "
            f"random split."
        )
    return codes


def load_dws_inr_all(directory: str | Path, **options: Any) -> dict[str, Zoo]:
    """Returns `load_dws_inr(directory, **options)` as bucket `fits`."""
    return {"fits": load_dws_inr(directory, **options)}
