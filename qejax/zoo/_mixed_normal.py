"""Normal forms and statistics of networks of mixed architectures.

One compiled program for each of a few sizes, however many architectures there are; see
`spaces.chain_form`. In float64 on the CPU, as those of one architecture.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from qejax.nets import (
    Network,
    PadSize,
    ladder_of,
    mlp,
    padded_vector,
    rung_of,
    size_of,
    unpadded,
)
from qejax.spaces import Chain, ChainStatistics, chain_form, chain_statistics
from qejax.zoo._normal import (
    ENTRIES_AT_ONCE,
    NETWORKS_AT_ONCE,
    RECORD_FIELDS,
    float64_on_the_host,
)
from qejax.zoo._zoo import to_vectors

LAYERS = "layers"
"""Of a record of a mixed bucket: the statistics of its layers."""


MIXED_FIELDS = (RECORD_FIELDS["vectors"], RECORD_FIELDS["statistics"], LAYERS)
"""Names of the arrays of a `MixedNormal` in the records of a prepared zoo."""


class MixedNormal(NamedTuple):
    """The normal forms of `B` networks of mixed architectures, as NumPy arrays.

    Attributes:
        vectors: `B` arrays `[P]` float32, as many weights as a network has, in normal
            form: what its group still does is to permute units and to change signs.
        layers: `B` arrays `[l, S]` float64, see `spaces.chain_statistics`, of the
            hidden layers that a network has.
        statistics: `[B, F]` float64, likewise of the network; taken before weights are
            rounded to float32.
    """

    vectors: Sequence[np.ndarray]
    layers: Sequence[np.ndarray]
    statistics: np.ndarray

    def take(self, rows: np.ndarray) -> "MixedNormal":
        """Returns the normal forms of these rows, in this order."""
        at = rows.tolist()
        return MixedNormal(
            [self.vectors[row] for row in at],
            [self.layers[row] for row in at],
            self.statistics[rows],
        )

    @classmethod
    def joined(cls, parts: Sequence["MixedNormal"]) -> "MixedNormal":
        """Returns the normal forms of several parts, one after the other."""
        return cls(
            [vector for part in parts for vector in part.vectors],
            [rows for part in parts for rows in part.layers],
            np.concatenate([part.statistics for part in parts]),
        )


def mixed_normal_forms(
    networks: Sequence[Network],
    which: np.ndarray,
    vectors: Sequence[np.ndarray] | np.ndarray,
) -> MixedNormal:
    """Returns the normal forms of networks of mixed architectures.

    A network's normal form depends on it and on `networks`, not on who is beside it.

    Args:
        networks: all architectures, chains of layers with a hidden layer each.
        which: `[B]`, the architecture of each network, a place in `networks`.
        vectors: `B` arrays of weights, finite, with as many entries as a network has
            weights or more.

    Raises:
        ValueError: if a network is no chain of layers.
    """
    sizes = ladder_of(networks)
    rungs = [sizes.index(rung_of(network, sizes)) for network in networks]
    places, number = which.tolist(), np.array(rungs, np.int64)[which]
    normal: list[Any] = [None] * len(which)
    layers: list[Any] = [None] * len(which)
    statistics = np.zeros((len(which), widths()[1]))
    for rung, size in enumerate(sizes):
        rows = np.flatnonzero(number == rung)
        many = networks_at_once(size)
        for start in range(0, len(rows), many):
            chosen = rows[start : start + many].tolist()
            at = chosen + chosen[:1] * (many - len(chosen))
            chains, found = _forms(
                [
                    _chain(networks[places[row]], vectors[row], size)
                    for row in at  # the first again and again, to fill the program
                ]
            )
            for place, row in enumerate(chosen):
                network = networks[places[row]]
                one = jax.tree.map(lambda x, at=place: x[at], chains)
                normal[row] = _vector(network, one)
                depth = int(one.live.any(1).sum())
                layers[row] = found.layers[place, :depth]
                statistics[row] = found.network[place]
    return MixedNormal(normal, layers, statistics)


def from_mixed_records(
    found: Mapping[str, np.ndarray], networks: Sequence[Network]
) -> MixedNormal:
    """Returns the normal forms of stacked records.

    Args:
        found: `normal`, `statistics` and `layers` of the records, zeros behind what an
            architecture has.
        networks: the architecture of each.
    """
    per_layer = widths()[0]
    vectors, layers = [], []
    for network, vector, rows in zip(
        networks, found[RECORD_FIELDS["vectors"]], found[LAYERS], strict=True
    ):
        vectors.append(vector[: network.spec.num_parameters].copy())
        depth = size_of(network).layers
        layers.append(rows[: depth * per_layer].reshape(depth, per_layer).copy())
    return MixedNormal(vectors, layers, found[RECORD_FIELDS["statistics"]])


def networks_at_once(size: PadSize) -> int:
    """Returns how many networks of a size one call of the program takes."""
    return max(1, min(NETWORKS_AT_ONCE, ENTRIES_AT_ONCE // size.entries))


@functools.cache
def widths() -> tuple[int, int]:
    """Returns how many statistics there are of a layer, and of a network."""
    net = mlp((1, 1, 1))
    chain = padded_vector(net, np.zeros(net.spec.num_parameters, np.float32))
    found = jax.eval_shape(lambda c: chain_statistics(chain_form(c)), chain)
    return found.layers.shape[1], found.network.shape[0]


def _chain(network: Network, vector: np.ndarray, size: PadSize) -> Chain:
    own = vector[: network.spec.num_parameters]
    return padded_vector(network, own.astype(np.float64), size)


def _forms(chains: list[Chain]) -> tuple[Chain, ChainStatistics]:
    stacked: Any = jax.tree.map(lambda *leaves: np.stack(leaves), *chains)
    with float64_on_the_host():
        return jax.device_get(_program()(stacked))


@functools.cache
def _program() -> Callable[[Chain], tuple[Chain, ChainStatistics]]:
    """From stacked chains to normal forms and statistics; compiled for each shape."""

    def one(chain: Chain) -> tuple[Chain, ChainStatistics]:
        form = chain_form(chain)
        return form.chain, chain_statistics(form)

    return jax.jit(jax.vmap(one))


def _vector(network: Network, chain: Chain) -> np.ndarray:
    limit = float(np.finfo(np.float32).max)
    theta = unpadded(network, chain)
    one = jax.tree.map(lambda x: np.clip(x[None], -limit, limit), theta)
    return to_vectors(network.spec, one)[0]
