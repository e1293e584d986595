"""Statistics of weights: every entry has a name, and many networks give the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import _trees, nets, spaces
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec, Wire, dense

TWO_OUTPUTS = WeightSpec(
    (UnitSpace("hidden", 5, "positive_scale"),),
    (
        *dense("encode", Wire(4), Wire(5, "hidden")),
        # Named against the alphabet: the order is that of the spec.
        Leaf("z", (Axis(5, "hidden", -1), Axis(3))),
        Leaf("a", (Axis(5, "hidden", -1), Axis(2))),
    ),
)
SPECS = {
    "mlp": nets.mlp((4, 5, 3)).spec,
    "cnn": nets.cnn(1, (2, 3), 3, activation="tanh", num_outputs=4).spec,
    "no_hidden": nets.mlp((4, 3)).spec,
    "two_outputs": TWO_OUTPUTS,
}


def _weights(spec: WeightSpec, count: int) -> dict:
    leaves = {}
    for number, leaf in enumerate(spec.leaves):
        key = jax.random.key(number)
        leaves[leaf.path] = jax.random.normal(key, (count, *leaf.stored), "float64")
    return _trees.nest(leaves)


def _one(thetas: dict) -> dict:
    return jax.tree.map(lambda leaf: leaf[0], thetas)


@pytest.mark.parametrize("name", SPECS)
def test_every_statistic_has_a_name(name: str) -> None:
    spec, theta = SPECS[name], _one(_weights(SPECS[name], 1))
    names = spaces.statistic_names(spec)
    values = spaces.canonical_statistics(spec, theta)
    assert values.shape == (len(names),)
    assert len(set(names)) == len(names)
    found = dict(zip(names, np.asarray(values), strict=True))
    normal = spaces.canonical_form(spec, theta)
    assert tuple(normal.log_norm) == spaces.log_norm_paths(spec)
    for path, leaf in _trees.flatten(normal.theta).items():
        np.testing.assert_allclose(found[f"{path}:mean"], leaf.mean(), rtol=1e-12)
        np.testing.assert_allclose(found[f"{path}:quantile=1"], leaf.max(), rtol=1e-12)
    for path, log_norm in normal.log_norm.items():
        assert found[f"{path}:log_norm"] == log_norm


def test_log_norms_are_in_the_order_of_the_spec() -> None:
    assert spaces.log_norm_paths(TWO_OUTPUTS) == ("z", "a")
    thetas = _weights(TWO_OUTPUTS, 3)

    def read(theta: dict) -> jax.Array:
        return spaces.log_norms(spaces.canonical_form(TWO_OUTPUTS, theta))

    got = spaces.map_networks(read, thetas, batch_size=2)
    for row in range(3):
        normal = spaces.canonical_form(
            TWO_OUTPUTS, jax.tree.map(lambda leaf, row=row: leaf[row], thetas)
        )
        want = jnp.stack([normal.log_norm["z"], normal.log_norm["a"]])
        np.testing.assert_allclose(got[row], want, rtol=1e-12)
