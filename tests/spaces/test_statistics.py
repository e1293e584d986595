"""Statistics of weights: every entry has a name, and many networks give the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import _trees, nets, spaces
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec, Wire, dense
from tests.layer_specs import fast_jit

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
    rng = np.random.default_rng(0)
    return _trees.nest(
        {
            leaf.path: jnp.asarray(rng.standard_normal((count, *leaf.stored)))
            for leaf in spec.leaves
        }
    )


def _one(thetas: dict) -> dict:
    return jax.tree.map(lambda leaf: leaf[0], thetas)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.one_in(2)
def test_every_statistic_has_a_name(name: str) -> None:
    spec, theta = SPECS[name], _one(_weights(SPECS[name], 1))
    names = spaces.statistic_names(spec)

    def read(theta: dict) -> tuple[spaces.Canonical, jax.Array]:
        return (
            spaces.canonical_form(spec, theta),
            spaces.canonical_statistics(spec, theta),
        )

    normal, values = fast_jit(read)(theta)
    assert values.shape == (len(names),)
    assert len(set(names)) == len(names)
    found = dict(zip(names, np.asarray(values), strict=True))
    assert set(normal.log_norm) == set(spaces.log_norm_paths(spec))
    for path, leaf in _trees.flatten(normal.theta).items():
        np.testing.assert_allclose(found[f"{path}:mean"], leaf.mean(), rtol=1e-12)
        np.testing.assert_allclose(found[f"{path}:quantile=1"], leaf.max(), rtol=1e-12)
    for path, log_norm in normal.log_norm.items():
        np.testing.assert_allclose(found[f"{path}:log_norm"], log_norm, rtol=1e-12)


def test_log_norms_are_in_the_order_of_the_spec() -> None:
    assert spaces.log_norm_paths(TWO_OUTPUTS) == ("z", "a")
    thetas = _weights(TWO_OUTPUTS, 3)

    def read(theta: dict) -> jax.Array:
        return spaces.log_norms(spaces.canonical_form(TWO_OUTPUTS, theta))

    got = spaces.map_networks(read, thetas, batch_size=2)

    @fast_jit
    def alone(theta: dict) -> jax.Array:
        # Inside: JAX hands dicts back sorted by key.
        normal = spaces.canonical_form(TWO_OUTPUTS, theta)
        assert tuple(normal.log_norm) == ("z", "a")
        return jnp.stack(list(normal.log_norm.values()))

    want = alone(_one(thetas))
    np.testing.assert_allclose(got[0], want, rtol=1e-12)
    assert got.shape == (3, 2)
