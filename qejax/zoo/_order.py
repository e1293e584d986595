"""The order in which networks come: a function of their number and a seed."""

from collections.abc import Iterator
from typing import Any

import numpy as np

AHEAD = 2
"""Batches that are ready before they are asked for."""


def batches_of(count: int, batch: int, seed: int | None, epochs: int | None) -> Any:
    """Returns a grain data set of the rows of every batch, the last one with fewer.

    Args:
        count: of networks, at least one.
        batch: networks in a batch.
        seed: of a new order in every epoch; `None` keeps the order of the zoo.
        epochs: how often every network comes; `None` for ever.
    """
    # grain takes a second to import.
    import grain

    ordered = grain.MapDataset.range(count)
    if seed is not None:
        ordered = ordered.seed(seed).shuffle()
    return ordered.repeat(epochs).batch(batch, drop_remainder=False)


def order_of(
    count: int, batch: int, seed: int | None, epochs: int
) -> Iterator[np.ndarray]:
    """Yields the rows of every batch; see `batches_of`."""
    import grain

    if count == 0:
        return iter(())
    ordered = batches_of(count, batch, seed, epochs)
    return iter(ordered.to_iter_dataset(grain.ReadOptions(num_threads=1)))
