"""Writing a Small Transformer Zoo directory, for whoever reads the public one."""

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qejax.nets import TransformerConfig, sine_positions
from qejax.zoo._listing import Listing, chunks
from qejax.zoo.files import write_torch
from qejax.zoo.formats._small_transformer_files import (
    ACCURACY,
    EPOCH,
    FILE,
    FOLDER,
    POSITIONS,
    SIZES,
    TABLE,
)
from qejax.zoo.formats._small_transformer_zoo import public_config, tensor_of
from qejax.zoo.formats._writing import check_labels, single

CHECKPOINT = "75"
"""What is written where `hyper` does not say: it is what is read by default."""


def write_small_transformer_zoo(
    directory: Path, listings: Mapping[str, Listing]
) -> None:
    """Writes `metadata/mnist.csv` and a file a network.

    Runs are called by eight letters and digits, as in the public zoo: those of the
    networks, where they are such names, else their numbers.

    Args:
        directory: exists and is empty.
        listings: one bucket of encoders as in the public zoo, label `test_accuracy`.

    Raises:
        ValueError: if networks are none of this zoo.
    """

    def common(listing: Listing) -> Any:
        config = listing.network.config
        if not isinstance(config, TransformerConfig) or config.image is None:
            return None
        same = public_config(_sizes(config))
        return config.to_dict() if same == replace(config) else None

    listing = single(directory, listings, common)
    if len(listings) > 1:
        raise ValueError(
            f"{directory}: the format holds one set of encoders, got buckets "
            f"{list(listings)}. Export them one by one."
        )
    check_labels(directory, next(iter(listings)), listing, ("test_accuracy",))
    config = listing.network.config
    assert isinstance(config, TransformerConfig)
    sizes = _sizes(config)
    table = np.asarray(sine_positions(int(config.length or 0), config.dim), np.float32)
    names = _names(listing)
    default = np.full(len(listing), CHECKPOINT)
    epochs = listing.hyper.get(EPOCH, default).astype(str).tolist()
    lines = []
    (directory / FOLDER).mkdir()
    for rows, vectors in chunks(listing):
        for at, vector in zip(rows.tolist(), vectors, strict=True):
            accuracy = float(listing.labels["test_accuracy"][at])
            epoch = epochs[at].split(".")[0]
            file = f"{names[at]}_{epoch}_{int(accuracy * 1e4)}.pt"
            tensors = {POSITIONS: table} | _tensors(listing, config, vector)
            write_torch(directory / FOLDER / file, tensors)
            hyper = {
                name: x[at]
                for name, x in listing.hyper.items()
                if name not in (*SIZES, EPOCH, "run")
            }
            own = {EPOCH: epoch, FILE: f"{FOLDER}/{file}"}
            label = {ACCURACY: listing.labels["test_accuracy"][at]}
            lines.append({**hyper, **sizes, **own, **label})
    path = directory / TABLE
    path.parent.mkdir()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _sizes(config: TransformerConfig) -> dict[str, int]:
    """The columns of the table that tell the architecture."""
    image = config.image or (0, 0, 0)
    values = (
        image[0],
        config.patch,
        image[2],
        config.num_outputs,
        config.dim,
        config.heads,
        max(1, config.hidden // config.dim),
        config.depth,
    )
    return dict(zip(SIZES, map(int, values), strict=True))


def _names(listing: Listing) -> list[str]:
    """Names of runs that the format can hold, all different."""
    runs = [str(run) for run in listing.runs]
    plain = all(run.isascii() and run.isalnum() and run.islower() for run in runs)
    if plain and len(set(runs)) == len(runs):
        return runs
    return [f"run{at:05d}" for at in range(len(runs))]


def _tensors(
    listing: Listing, config: TransformerConfig, vector: np.ndarray
) -> dict[str, np.ndarray]:
    found, start = {}, 0
    for leaf in listing.network.spec.leaves:
        flat = vector[start : start + leaf.size]
        name, array = tensor_of(config, leaf, flat)
        found[name] = array
        start += leaf.size
    return found
