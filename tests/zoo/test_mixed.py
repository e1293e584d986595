"""Batches of mixed architectures: every network once, one size each, from a seed."""

from typing import Any

import jax
import numpy as np
import pytest

from qejax import nets, zoo
from tests.registry import theta_of

NETWORKS = [nets.mlp((4, n, 3)) for n in (3, 5, 4, 9, 2)]
NETWORKS += [nets.mlp((4, n, n, 3), "tanh") for n in (3, 7, 4)]
NETWORKS += [nets.cnn(1, (3, 4), num_outputs=3)]
LADDER = nets.ladder_of(NETWORKS, 3)
VECTORS = [
    np.random.default_rng(n).normal(size=net.spec.num_parameters)
    for n, net in enumerate(NETWORKS)
]


def batches(seed: Any) -> list[zoo.MixedBatch]:
    return list(zoo.mixed_batches(NETWORKS, VECTORS, LADDER, 2, seed))


@pytest.mark.parametrize("seed", [None, 0, (3, 1)])
def test_every_network_comes_once(seed: Any) -> None:
    found = batches(seed)
    rows = np.concatenate([batch.rows[batch.there] for batch in found])
    assert sorted(rows.tolist()) == list(range(len(NETWORKS)))
    assert {batch.size for batch in found} == set(LADDER)
    for batch in found:
        shapes = {x.shape[0] for x in jax.tree.leaves(batch.chains)}
        assert shapes == {2}
        assert batch.chains.live.shape[1:] == (batch.size.layers, batch.size.width)
        for number, row in enumerate(batch.rows):
            alone = nets.padded_vector(NETWORKS[row], VECTORS[row], batch.size)
            for a, b in zip(alone, batch.chains, strict=True):
                np.testing.assert_array_equal(a, b[number])


def test_a_seed_decides_the_order() -> None:
    def order(seed: Any) -> list[list[int]]:
        return [batch.rows.tolist() for batch in batches(seed)]

    assert order((0, 1)) == order((0, 1))
    assert order((0, 1)) != order((0, 2))
    assert order(None) == order(None)


def test_trees_do_as_well_as_vectors() -> None:
    theta = jax.tree.map(np.asarray, theta_of(NETWORKS[0].spec, 0))
    (batch,) = zoo.mixed_batches(NETWORKS[:1], [theta], LADDER, 1)
    np.testing.assert_array_equal(
        batch.chains.first[0, 0, 0, :4, :3], theta["layer_00"]["kernel"]
    )


def test_wrong_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="mixed_batches: expected weights of each of"):
        next(zoo.mixed_batches(NETWORKS, VECTORS[1:], LADDER, 2))
    with pytest.raises(ValueError, match="batch_size=0"):
        next(zoo.mixed_batches(NETWORKS, VECTORS, LADDER, 0))
