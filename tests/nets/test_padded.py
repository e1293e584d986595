"""Networks as padded chains: what goes where, which size, and which do not fit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, spaces
from tests.registry import theta_of

SMALL = nets.cnn(
    1,
    (3, 4),
    (5, 2),
    pools=(2, 1),
    padding=("SAME", "VALID"),
    head="flatten",
    image=(10, 9),
    hidden=(6,),
    num_outputs=3,
)
SKIPS = nets.skip_cnn(
    (3, 4, 6, 3), residual=(-1, -1, 0), activation=("relu", "tanh", "leaky_relu")
)


def test_kernels_are_centred_and_units_come_first() -> None:
    net = nets.cnn(1, (3, 4), (3, 2), num_outputs=2)
    theta = theta_of(net.spec, 0)
    chain = nets.padded(net, theta, nets.PadSize(4, 5, 5, 2, 3))
    np.testing.assert_array_equal(
        chain.first[1:4, 1:4, :1, :3], theta["layer_00"]["kernel"]
    )
    np.testing.assert_array_equal(
        chain.middle[0, 1:3, 1:3, :3, :4], theta["layer_01"]["kernel"]
    )
    np.testing.assert_array_equal(chain.last[0, 0, :4, :2], theta["layer_02"]["kernel"])
    total = sum(float(jnp.sum(jnp.abs(x))) for x in jax.tree.leaves(theta))
    kept = (chain.first, chain.middle, chain.last, chain.bias, chain.last_bias)
    assert sum(float(jnp.sum(jnp.abs(x))) for x in kept) == pytest.approx(total)
    assert chain.live.sum(1).tolist() == [3, 4, 0, 0]
    assert chain.sides.tolist() == [[3, 3], [2, 2], [0, 0], [0, 0], [1, 1]]
    assert int(chain.depth) == 2


def test_a_flattened_map_is_a_window() -> None:
    chain = nets.padded(SMALL, theta_of(SMALL.spec, 0))
    assert nets.size_of(SMALL) == nets.PadSize(3, 6, 5, 1, 3)
    # 10 x 9 pooled to 5 x 4, a window of 2: 4 x 3 positions.
    assert chain.sides.tolist() == [[5, 5], [2, 2], [4, 3], [1, 1]]
    kernel = theta_of(SMALL.spec, 0)["layer_02"]["kernel"].reshape(4, 3, 4, 6)
    np.testing.assert_array_equal(chain.middle[1, :4, 1:4, :4, :6], kernel)


def test_ties_and_groups_are_data() -> None:
    chain = nets.padded(SKIPS, theta_of(SKIPS.spec, 0))
    assert chain.root[:, :4].tolist() == [[0] * 4, [1] * 4, [0, 0, 0, 2]]
    assert chain.scaled.sum(1).tolist() == [4, 0, 3]
    assert chain.signed.sum(1).tolist() == [0, 6, 0]
    assert chain.skip.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    sine = nets.coordinate((2, 3, 1), "sine(2)")
    chain = nets.padded(sine, theta_of(sine.spec, 0))
    assert chain.turn.tolist() == [np.pi / 2]
    assert chain.signed.all()


def test_numpy_stays_numpy_and_vectors_are_the_same() -> None:
    for net in (SMALL, SKIPS):
        theta = theta_of(net.spec, 0, jnp.float32)
        vector = np.asarray(spaces.ravel(net.spec, theta))
        plain = nets.padded(net, jax.tree.map(np.asarray, theta))
        chains = (plain, nets.padded_vector(net, vector), nets.padded(net, theta))
        kinds = [{type(x) for x in jax.tree.leaves(chain)} for chain in chains[:2]]
        assert kinds == [{np.ndarray}] * 2
        for other in chains[1:]:
            for a, b in zip(plain, other, strict=True):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype


def test_facts_tell_layers_apart() -> None:
    def facts(**fields: Any) -> np.ndarray:
        net = nets.cnn(1, (3, 3), **fields)
        return np.asarray(nets.padded(net, theta_of(net.spec, 0)).facts)

    plain = facts()
    for fields in (
        {"activation": "tanh"},
        {"activation": "gaussian(1)"},
        {"strides": 2},
        {"padding": "SAME"},
        {"pools": 2},
        {"windows": 2},
    ):
        assert np.any(facts(**fields) != plain), fields
    assert np.any(facts(activation="gaussian(1)") != facts(activation="gaussian(2)"))
    assert np.any(plain[0] != plain[1])
    assert plain.shape == (2, nets.NUM_FACTS)


def test_a_ladder_holds_every_network() -> None:
    draw = np.random.default_rng(0)
    found = []
    for depth in draw.integers(1, 5, 60):
        widths = [int(width) for width in draw.integers(2, 60, depth)]
        found.append(nets.mlp((4, *widths, 3)))
    costs = []
    for count in (1, 2, 4):
        ladder = nets.ladder_of(found, count)
        assert 1 <= len(ladder) <= count
        assert ladder == nets.ladder_of(found[::-1], count)
        rungs = [nets.rung_of(net, ladder) for net in found]
        assert set(rungs) == set(ladder)
        costs.append(sum(rung.entries for rung in rungs))
        for net, rung in zip(found, rungs, strict=True):
            assert rung.holds(nets.size_of(net))
    assert costs == sorted(costs, reverse=True)
    assert costs[2] < 0.7 * costs[0]


def test_what_cannot_be_padded_is_named() -> None:
    with pytest.raises(ValueError, match="with at least one hidden layer, got"):
        nets.size_of(nets.mlp((4, 3)))
    vit = nets.transformer(4, 1, 2, 3, image=(4, 2, 1), patch=2, num_outputs=2)
    with pytest.raises(ValueError, match="padded: expected a chain of layers"):
        nets.size_of(vit)
    net = nets.mlp((4, 9, 3))
    small = nets.PadSize(1, 8, inputs=4, outputs=3)
    with pytest.raises(ValueError, match="got one that needs"):
        nets.padded(net, theta_of(net.spec, 0), small)
    with pytest.raises(ValueError, match="that fits one of"):
        nets.rung_of(net, [small])
    with pytest.raises(ValueError, match="expected 75 weights of"):
        nets.padded_vector(net, np.zeros(74))
    with pytest.raises(ValueError, match="at least one network and one size"):
        nets.ladder_of([])
    with pytest.raises(ValueError, match="pad size: windows are centred"):
        nets.PadSize(1, 3, window=4)
    with pytest.raises(ValueError, match="sizes should be integers of at least 1"):
        nets.PadSize(0, 3)
