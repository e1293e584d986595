"""Batches of networks of mixed architectures: one shape each, of a few for the zoo."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from qejax.nets import Network, PadSize, padded, padded_vector, rung_of
from qejax.spaces import Chain
from qejax.zoo._mixed_normal import MixedNormal


class PaddedNormal(NamedTuple):
    """Normal forms of `B` networks, padded to one size: what a predictor reads.

    `models.Measured(*normal)` of one is what `models.MixedPredictor.measure` returns.

    Attributes:
        chains: in normal form, stacked.
        layers: `[B, L, S]`, statistics of each layer, zero where there is none.
        statistics: `[B, F]`, of the network.
    """

    chains: Chain
    layers: Any
    statistics: Any


class MixedBatch(NamedTuple):
    """`B` networks padded to one size.

    Attributes:
        rows: `[B]`, which networks they are.
        there: `[B]`, false where a network only fills up the batch: leave it out of
            losses and counts.
        chains: stacked, leading axis `B`.
        size: of all of them.
        labels: by name, `[B]`, where the networks come with labels.
        normal: their normal forms, where they come with some.
    """

    rows: np.ndarray
    there: np.ndarray
    chains: Chain
    size: PadSize
    labels: Mapping[str, np.ndarray]
    normal: PaddedNormal | None


class Rows(NamedTuple):
    """The rows of one batch, filled up, before anything of them is read."""

    rows: np.ndarray
    there: np.ndarray
    size: PadSize


@dataclass(frozen=True)
class Plan:
    """Which networks come in which batch, for every epoch.

    Args:
        rungs: the size of each network.
        ladder: all sizes.
        batch_size: networks in a batch.

    Raises:
        ValueError: at construction, if `batch_size` is below 1.
    """

    rungs: Sequence[PadSize]
    ladder: Sequence[PadSize]
    batch_size: int

    def __post_init__(self) -> None:
        """Checks."""
        if self.batch_size < 1:
            raise ValueError(
                f"mixed batches: expected batches of at least 1 network, got "
                f"batch_size={self.batch_size}."
            )

    def __len__(self) -> int:
        """Returns the number of batches of an epoch, the same for all."""
        counts = [self.rungs.count(size) for size in dict.fromkeys(self.ladder)]
        return sum(-(-count // self.batch_size) for count in counts)

    def epoch(self, seed: int | Sequence[int] | None) -> list[Rows]:
        """Returns the batches of an epoch, in the order of a seed."""
        draw = None if seed is None else np.random.default_rng(seed)
        plan: list[Rows] = []
        for size in dict.fromkeys(self.ladder):
            rows = np.flatnonzero([rung == size for rung in self.rungs])
            rows = rows if draw is None else draw.permutation(rows)
            cuts = range(self.batch_size, len(rows), self.batch_size)
            plan += [self._filled(part, size) for part in np.split(rows, cuts)]
        plan = [part for part in plan if part.there.any()]
        order = range(len(plan)) if draw is None else draw.permutation(len(plan))
        return [plan[number] for number in order]

    def _filled(self, rows: np.ndarray, size: PadSize) -> Rows:
        there = np.arange(self.batch_size) < len(rows)
        fill = np.repeat(rows[:1], self.batch_size - len(rows))
        return Rows(np.concatenate([rows, fill]), there, size)


def mixed_batches(
    networks: Sequence[Network],
    weights: Sequence[Any],
    ladder: Sequence[PadSize],
    batch_size: int,
    seed: int | Sequence[int] | None = None,
    *,
    labels: Mapping[str, np.ndarray] | None = None,
    normal: MixedNormal | None = None,
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
        labels: by name, of each network; handed out with the batches.
        normal: of each network; padded and handed out with the batches.

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
    if len(networks) != len(weights):
        raise ValueError(
            f"mixed_batches: expected weights of each of {len(networks)} networks, got "
            f"{len(weights)}."
        )
    plan = Plan([rung_of(one, ladder) for one in networks], ladder, batch_size)
    for part in plan.epoch(seed):
        at = part.rows.tolist()
        yield padded_batch(
            part,
            [networks[row] for row in at],
            [weights[row] for row in at],
            {name: x[part.rows] for name, x in (labels or {}).items()},
            None if normal is None else normal.take(part.rows),
        )


def padded_batch(
    part: Rows,
    networks: Sequence[Network],
    weights: Sequence[Any],
    labels: Mapping[str, np.ndarray],
    normal: MixedNormal | None,
) -> MixedBatch:
    """Returns the batch of some rows, everything given for these rows alone."""
    pairs = list(zip(networks, weights, strict=True))
    chains = _stacked([_padded(net, one, part.size) for net, one in pairs])
    form = None
    if normal is not None:
        pairs = list(zip(networks, normal.vectors, strict=True))
        per_layer = normal.layers[0].shape[1]
        layers = np.zeros((len(pairs), part.size.layers, per_layer))
        for row, found in zip(layers, normal.layers, strict=True):
            row[: len(found)] = found
        form = PaddedNormal(
            _stacked([padded_vector(net, one, part.size) for net, one in pairs]),
            layers,
            normal.statistics,
        )
    return MixedBatch(*part[:2], chains, part.size, labels, form)


def _stacked(chains: Sequence[Chain]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *chains)


def _padded(network: Network, weights: Any, size: PadSize) -> Chain:
    if isinstance(weights, np.ndarray):
        return padded_vector(network, weights, size)
    return padded(network, weights, size)
