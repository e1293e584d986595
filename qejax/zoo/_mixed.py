"""Batches of networks of mixed architectures: one shape each, of a few for the zoo."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from qejax.nets import Network, PadSize, padded, padded_vector, rung_of
from qejax.spaces import Chain


class MixedBatch(NamedTuple):
    """`B` networks padded to one size.

    Attributes:
        rows: `[B]`, which networks they are.
        there: `[B]`, false where a network only fills up the batch: leave it out of
            losses and counts.
        chains: stacked, leading axis `B`.
        size: of all of them.
    """

    rows: np.ndarray
    there: np.ndarray
    chains: Chain
    size: PadSize


def mixed_batches(
    networks: Sequence[Network],
    weights: Sequence[Any],
    ladder: Sequence[PadSize],
    batch_size: int,
    seed: int | Sequence[int] | None = None,
) -> Iterator[MixedBatch]:
    """Yields every network once, in batches of one size each; NumPy alone.

    A network goes to the cheapest size of the ladder that holds it. All batches have
    `batch_size` networks, the last of a size is filled up by repeating its first, so
    that a program compiles once for each size. Networks are padded batch by batch.

    Args:
        networks: architectures.
        weights: of each network: a vector in the order of `qejax.spaces.ravel`, or a
            nested dict of NumPy arrays.
        ladder: sizes, see `qejax.nets.ladder_of`.
        batch_size: `B`.
        seed: of the order of networks and batches, such as `(seed, epoch)`; `None`
            keeps that of `networks`, size by size. Equal seeds give equal batches.

    Raises:
        ValueError: if there are not as many weights as networks, `batch_size` is below
            1, or a network fits no size.

    Example:
        >>> from qejax import nets
        >>> found = [nets.mlp((4, n, 2)) for n in (3, 9, 4)]
        >>> sizes = [net.spec.num_parameters for net in found]
        >>> vectors = [np.zeros(size, np.float32) for size in sizes]
        >>> ladder = nets.ladder_of(found, 2)
        >>> [b.rows.tolist() for b in mixed_batches(found, vectors, ladder, 2)]
        [[0, 2], [1, 1]]
    """
    if len(networks) != len(weights) or batch_size < 1:
        raise ValueError(
            f"mixed_batches: expected weights of each of {len(networks)} networks, and "
            f"batches of at least 1, got {len(weights)} and batch_size={batch_size}."
        )
    rungs = [rung_of(network, ladder) for network in networks]
    draw = None if seed is None else np.random.default_rng(seed)
    plan: list[tuple[PadSize, np.ndarray]] = []
    for size in dict.fromkeys(ladder):
        rows = np.flatnonzero([rung == size for rung in rungs])
        rows = rows if draw is None else draw.permutation(rows)
        cuts = range(batch_size, len(rows), batch_size)
        plan += [(size, part) for part in np.split(rows, cuts) if len(part)]
    order = range(len(plan)) if draw is None else draw.permutation(len(plan))
    for number in order:
        size, rows = plan[number]
        there = np.arange(batch_size) < len(rows)
        rows = np.concatenate([rows, np.repeat(rows[:1], batch_size - len(rows))])
        chains = [_padded(networks[row], weights[row], size) for row in rows]
        stacked: Any = jax.tree.map(lambda *leaves: np.stack(leaves), *chains)
        yield MixedBatch(rows, there, stacked, size)


def _padded(network: Network, weights: Any, size: PadSize) -> Chain:
    if isinstance(weights, np.ndarray):
        return padded_vector(network, weights, size)
    return padded(network, weights, size)
