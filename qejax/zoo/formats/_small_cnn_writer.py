"""Writing a Small CNN Zoo directory, for whoever reads the public one."""

import csv
import gzip
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qejax.nets import CNNConfig
from qejax.zoo._listing import Listing, chunks
from qejax.zoo.formats._small_cnn_files import LABELS, PREFIX, STRIDE
from qejax.zoo.formats._writing import check_labels, single

OWN = ("step", "run", "activation", "modeldir")
"""Columns of `hyper` that have a place of their own in the table."""


def write_small_cnn_zoo(directory: Path, listings: Mapping[str, Listing]) -> None:
    """Writes networks as `weights.npy`, `layout.csv` and `metrics.csv.gz`.

    `list_small_cnn_zoo(directory, checkpoint="all")` lists the same networks again. The
    bias of a layer comes before its kernel, as in the public zoo.

    Args:
        directory: exists and is empty.
        listings: by bucket; convolutional networks that differ in activations alone.

    Raises:
        ValueError: if networks are no plain convolutional networks of one layout, or a
            label is missing.
    """
    one = single(directory, listings, _shapes)
    for name, listing in listings.items():
        check_labels(directory, name, listing, LABELS)
    layout, order, start = [], [], 0
    leaves = {leaf.path: leaf for leaf in one.network.spec.leaves}
    ends = np.cumsum([leaf.size for leaf in leaves.values()]).tolist()
    offsets = dict(zip(leaves, [0, *ends], strict=False))
    for layer, name in _names(one).items():
        for kind in ("bias", "kernel"):
            leaf = next(
                x for x in one.network.spec.leaves if x.path == f"{layer}/{kind}"
            )
            order.append(np.arange(leaf.size) + offsets[leaf.path])
            layout.append((f"{name}/{kind}:0", start, start + leaf.size, leaf.stored))
            start += leaf.size
    columns = np.concatenate(order)
    count = sum(map(len, listings.values()))
    with (directory / "weights.npy").open("wb") as file:
        about = {"descr": "<f4", "fortran_order": False, "shape": (count, start)}
        np.lib.format.write_array_header_1_0(file, about)
        for listing in listings.values():
            for _, vectors in chunks(listing):
                file.write(np.ascontiguousarray(vectors[:, columns]).tobytes())
    with (directory / "layout.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(("varname", "start_idx", "end_idx", "shape"))
        writer.writerows((name, a, b, str(shape)) for name, a, b, shape in layout)
    (directory / "metrics.csv.gz").write_bytes(_metrics(listings))


def _shapes(listing: Listing) -> Any:
    """What networks of one layout have in common; `None` for other networks."""
    config = listing.network.config
    if not isinstance(config, CNNConfig):
        return None
    same = replace(config, activation="relu")
    # Three plain strided convolutions and a dense layer, or so: `_network` reads these.
    plain = CNNConfig(
        config.in_channels,
        config.channels,
        config.windows,
        STRIDE,
        num_outputs=config.num_outputs,
    )
    return same if same == plain else None


def _names(listing: Listing) -> dict[str, str]:
    """Keras's names of the layers: `conv2d`, `conv2d_1`, ..., `dense`."""
    *convolutions, last = (layer.name for layer in listing.network.layers)
    found = {
        name: f"sequential/conv2d_{number}" if number else "sequential/conv2d"
        for number, name in enumerate(convolutions)
    }
    return found | {last: "sequential/dense"}


def _metrics(listings: Mapping[str, Listing]) -> bytes:
    names = [
        name
        for name in dict.fromkeys(
            name for listing in listings.values() for name in listing.hyper
        )
        if name not in OWN
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    head = [f"{PREFIX}activation", *(f"{PREFIX}{name}" for name in names)]
    writer.writerow(["", *head, "modeldir", "step", *LABELS])
    row = 0
    for listing in listings.values():
        config = listing.network.config
        assert isinstance(config, CNNConfig)
        steps = listing.hyper.get("step", np.zeros(len(listing), int))
        for at in range(len(listing)):
            hyper = [listing.hyper[n][at] if n in listing.hyper else "" for n in names]
            labels = [listing.labels[name][at] for name in LABELS]
            about = [config.activation[0], *hyper, listing.runs[at], int(steps[at])]
            writer.writerow([row, *about, *labels])
            row += 1
    # No time of writing in the header: the same zoo is the same bytes.
    return gzip.compress(text.getvalue().encode(), mtime=0)
