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

from qejax.zoo._listing import Found, Problem, in_memory
from qejax.zoo._splits import split_runs
from qejax.zoo._zoo import SPLITS, Zoo
from qejax.zoo.formats._fits import Fit, Layout, listing_of
from qejax.zoo.formats._protocols import CLEAN, check_protocol

LAYOUT = Layout("dws_inr", "seq.{}", "seq.{}", "unit")

TABLE = "mnist_splits.json"
FRACTIONS = (55 / 70, 5 / 70)
"""Of a clean split: 55,000, 5,000 and 10,000 of 70,000."""

FAITHFUL = "faithful_dws"
DWS_INR = (FAITHFUL, CLEAN)

PATTERN = re.compile(r"mnist_png_(training|testing)_(\d)_(\d{1,9})")
"""Of a network's folder: kind, label and index."""


def list_dws_inr(
    directory: str | Path, split_seed: int = 0, protocol: str | None = None
) -> Found:
    """Lists the networks of a DWS INR directory.

    Args:
        directory: holds a folder `mnist-inrs` and, if the split is to be that of the
            file, `mnist_splits.json`.
        split_seed: of the protocol "clean", a random split into 55 : 5 : 10.
        protocol: "faithful_dws" splits by the file; `None` does so where there is one.

    Returns:
        Bucket `fits` by kind and index. The label is `class`; `hyper` are `signal` (the
        index of the image in the training or the test file), `copy` and `testing`
        (which of the files).

    Raises:
        FileNotFoundError: if there are no such networks, or no file of splits.
        ValueError: if the file of splits cannot be read or names a network twice, or
            none of the files that are looked at is a network.
    """
    directory = Path(directory)
    table = directory / TABLE
    if protocol is None:
        protocol = FAITHFUL if table.is_file() else CLEAN
    check_protocol(directory, protocol, dict.fromkeys(DWS_INR))
    fits, problems = _fits(directory)
    names = np.array([fit.name for fit in fits])
    if protocol == CLEAN:
        codes = split_runs(names, split_seed, FRACTIONS)
    else:
        by_path = _codes(table, directory, {fit.path: fit.label for fit in fits})
        problems += by_path.pop(None, [])
        kept = [fit for fit in fits if fit.path in by_path]
        fits, names = kept, np.array([fit.name for fit in kept], str)
        codes = np.array([by_path[fit.path] for fit in fits], np.int8)
    if not fits:
        raise ValueError(f"{problems[0].why} There is no other network.")
    testing = np.array([name.split("_")[2] == "testing" for name in names], np.int64)
    listing = listing_of(LAYOUT, directory, fits, names, codes, testing=testing)
    advice = "remove the files to go on without them"
    return Found({"fits": listing}, tuple(problems), protocol, advice)


def load_dws_inr(directory: str | Path, *args: Any, **options: Any) -> Zoo:
    """Returns the networks of `list_dws_inr` in memory; see there for options.

    Raises:
        FileNotFoundError: as `list_dws_inr`.
        ValueError: if a file cannot be read, does not fit the others or the file of
            splits, or holds what is not finite; names the first, expected and found,
            and how many there are.
    """
    return in_memory(list_dws_inr(directory, *args, **options))["fits"]


def _fits(directory: Path) -> tuple[list[Fit], list[Problem]]:
    """The networks of a directory by kind and index, and odd folders."""
    found: list[tuple[str, Fit]] = []
    problems: list[Problem] = []
    pattern = "mnist-inrs/mnist_png_*/checkpoints/model_final.pth"
    for path in sorted(directory.glob(pattern)):
        name = path.parent.parent.name
        parts = PATTERN.fullmatch(name)
        if parts is None:
            why = f"{path}: expected a folder mnist_png_KIND_LABEL_INDEX, got {name!r}."
            problems.append(Problem(name, why))
            continue
        fit = Fit(path, name, int(parts[2]), int(parts[3]), 0)
        found.append((parts[1], fit))
    if not found and problems:
        raise ValueError(f"{problems[0].why} There is no other folder.")
    if not found:
        raise FileNotFoundError(
            f"{directory}: expected networks mnist-inrs/mnist_png_*/checkpoints/"
            f"model_final.pth, found none."
        )
    found.sort(key=lambda pair: (pair[0], pair[1].signal, pair[1].name))
    return [fit for _, fit in found], problems


def _codes(table: Path, directory: Path, labels: dict[Path, int]) -> dict[Any, Any]:
    """The split of every file, as the table says; what is wrong is under `None`."""
    if not table.is_file():
        raise FileNotFoundError(
            f"{table}: protocol {FAITHFUL!r} needs this file, found none. Use protocol "
            f"{CLEAN!r}."
        )
    try:
        parts = json.loads(table.read_text())
        rows = [
            (name, str(path), int(label))
            for name in SPLITS
            for path, label in zip(
                parts[name]["path"], parts[name]["label"], strict=True
            )
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{table}: expected {{'train': {{'path': [...], 'label': [...]}}, 'val': "
            f"..., 'test': ...}}, got {type(error).__name__}: {error}."
        ) from error
    codes: dict[Any, Any] = {}
    problems: list[Problem] = []
    for name, text, label in rows:
        # Never a path out of the folder.
        path = directory.joinpath(*PurePosixPath(text).parts[-4:])
        if path in codes:
            raise ValueError(
                f"{table}: split {name!r} should name every network once, got {text!r} "
                f"and found it twice."
            )
        if path not in labels:
            why = f"got {text!r} and found no such file."
            problems.append(
                Problem(text, f"{table}: split {name!r} should name networks, {why}")
            )
            continue
        codes[path] = SPLITS[name]
        if labels[path] != label:
            why = (
                f"{table}: split {name!r} should have the label of the folder, "
                f"{labels[path]} for {text!r}, got {label}."
            )
            problems.append(Problem(text, why))
            del codes[path]
            labels = {key: value for key, value in labels.items() if key != path}
    missing = [path for path in labels if path not in codes]
    problems += [
        Problem(
            path.parent.parent.name,
            f"{table}: every network should be in a split, found none for {path} "
            f"({len(missing)} of {len(labels)}). Add them, or use protocol {CLEAN!r}.",
        )
        for path in missing
    ]
    return codes | {None: problems}
