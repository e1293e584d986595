"""Writing coordinate networks as the public zoos of fits hold them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qejax.nets import CoordinateConfig
from qejax.zoo._fit_config import CONVENTIONS
from qejax.zoo._listing import Listing, chunks
from qejax.zoo._zoo import SPLITS
from qejax.zoo.files import write_torch
from qejax.zoo.formats._dws_inr import LAYOUT as DWS
from qejax.zoo.formats._dws_inr import TABLE
from qejax.zoo.formats._fits import Layout, tensor_names
from qejax.zoo.formats._nfn_siren import LAYOUT as NFN
from qejax.zoo.formats._writing import check_labels, single

FOLDER, PREFIX = "siren_mnist_wts", "randinit_smaller"
"""Of NFN SIREN: the public readers of MNIST and of Fashion-MNIST take either name."""


def write_nfn_siren(directory: Path, listings: Mapping[str, Listing]) -> None:
    """Writes fits in [-1, 1] as `siren_mnist_wts/PREFIX_LABELs/netINDEX.pth`.

    The index is `hyper["signal"]`, or the number of the network; extra fits
    (`hyper["copy"]` from 1) are in folders `PREFIX_augN_LABELs`.

    Args:
        directory: exists and is empty.
        listings: one bucket of sine networks, label `class`.

    Raises:
        ValueError: if networks are none of this zoo, or two are of one image and copy.
    """

    def place(listing: Listing, at: int) -> Path:
        copy = int(listing.hyper["copy"][at]) if "copy" in listing.hyper else 0
        prefix = f"{PREFIX}_aug{copy - 1}" if copy else PREFIX
        label = int(listing.labels["class"][at])
        return Path(FOLDER, f"{prefix}_{label}s", f"net{_signal(listing, at)}.pth")

    _write(NFN, directory, listings, place)


def write_dws_inr(directory: Path, listings: Mapping[str, Listing]) -> None:
    """Writes fits in [0, 1] as `mnist-inrs/.../model_final.pth`, and their splits.

    Args:
        directory: exists and is empty.
        listings: one bucket of sine networks, label `class`.

    Raises:
        ValueError: if networks are none of this zoo, or two are of one image.
    """

    def place(listing: Listing, at: int) -> Path:
        testing = (
            bool(listing.hyper["testing"][at]) if "testing" in listing.hyper else 0
        )
        kind = "testing" if testing else "training"
        label = int(listing.labels["class"][at])
        name = f"mnist_png_{kind}_{label}_{_signal(listing, at)}"
        return Path("mnist-inrs", name, "checkpoints", "model_final.pth")

    listing = _write(DWS, directory, listings, place)
    parts: dict[str, Any] = {name: {"path": [], "label": []} for name in SPLITS}
    codes = {code: name for name, code in SPLITS.items()}
    for at, code in enumerate(listing.split.tolist()):
        part = parts[codes[code]]
        part["path"].append(place(listing, at).as_posix())
        part["label"].append(str(int(listing.labels["class"][at])))
    (directory / TABLE).write_text(json.dumps(parts) + "\n")


def _signal(listing: Listing, at: int) -> int:
    return int(listing.hyper["signal"][at]) if "signal" in listing.hyper else at


def _write(
    layout: Layout,
    directory: Path,
    listings: Mapping[str, Listing],
    place: Callable[[Listing, int], Path],
) -> Listing:
    """Writes every network of the only bucket at its place; returns the bucket."""
    rules = CONVENTIONS[layout.convention]

    def common(listing: Listing) -> Any:
        config = listing.network.config
        plain = isinstance(config, CoordinateConfig) and config == CoordinateConfig(
            config.widths, offset=rules.offset, biases=config.biases
        )
        return config.to_dict() if plain else None

    listing = single(directory, listings, common)
    if len(listings) > 1:
        raise ValueError(
            f"{directory}: the format holds one set of networks, got buckets "
            f"{list(listings)}. Export them one by one."
        )
    check_labels(directory, next(iter(listings)), listing, ("class",))
    names = tensor_names(layout, listing.network)
    for rows, vectors in chunks(listing):
        for at, vector in zip(rows.tolist(), vectors, strict=True):
            path = directory / place(listing, at)
            if path.exists():
                raise ValueError(
                    f"{directory}: the format holds one network of an image and copy, "
                    f"got another one for {path.relative_to(directory)}: "
                    f"{str(listing.ids[at])!r}."
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            write_torch(path, _tensors(listing, names, vector))
    return listing


def _tensors(
    listing: Listing, names: Mapping[str, str], vector: np.ndarray
) -> dict[str, np.ndarray]:
    """The tensors of a network: kernels as PyTorch has them, before biases."""
    found, start = {}, 0
    for leaf in listing.network.spec.leaves:
        array = vector[start : start + leaf.size].reshape(leaf.stored)
        found[names[leaf.path]] = np.ascontiguousarray(array.T)
        start += leaf.size
    order = sorted(
        found, key=lambda name: (name.rsplit(".", 1)[0], name[-4:] == "bias")
    )
    return {name: found[name] for name in order}
