"""Where gauges are at their limits: large parameters, many rounds, singular heads."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import gauges, spaces
from qejax.models import GaugeConfig
from qejax.models import _choices as choices
from tests.layer_specs import fast_jit
from tests.models.test_gauge import gauge_of
from tests.orbits import function_gap, weight_gap
from tests.registry import NETS, RTOL, theta_of


@pytest.mark.parametrize("factor", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("name", ["mixed", "adapters of an unknown network"])
@pytest.mark.one_in(2)
def test_large_parameters_and_many_rounds_keep_the_function(
    name: str, factor: float
) -> None:
    spec = NETS[name].net.spec
    gauge = gauge_of(spec, rounds=20, hidden=32, order=True)
    graph, params, rest = nnx.split(gauge, nnx.Param, ...)

    def run(params: Any, theta: Any) -> Any:
        g = nnx.merge(graph, params, rest).alpha(theta)
        return g, spaces.act(spec, g, theta)

    run = fast_jit(run)
    larger = jax.tree.map(lambda x: factor * x, params)
    for seed in range(3):
        theta = theta_of(spec, seed)
        g, there = run(larger, theta)
        spaces.check_elements(spec, g)
        assert function_gap(name, theta, there) < RTOL
        assert weight_gap(theta, there) > 1e-2


def test_matrices_of_a_path_stretch_by_no_more_than_is_left() -> None:
    spec = NETS["adapters of an unknown network"].net.spec
    spent = choices.nothing_spent(spec, jnp.float64)
    assert spent
    every = dict.fromkeys(spent, jnp.asarray(np.eye(2)))
    keys = jax.random.split(jax.random.key(0), 30)
    for number, key in enumerate(keys):
        drawn = {
            name: choices.Numbers(
                jnp.zeros(2), jax.random.normal(key, (2, 2)) * jnp.asarray(2.0)
            )
            for name in spent
        }
        own, spent = choices.within(drawn, spent)
        h = choices.elements(spec, own)
        if number < 5:  # Nothing is shrunk before it has to be.
            for name, x in own.items():
                np.testing.assert_array_equal(x.pairs, drawn[name].pairs)
        every = {name: h[name] @ every[name] for name in every}
    top = np.exp(choices.STRETCH) * (1 + 1e-6)
    for name, total in spent.items():
        np.testing.assert_allclose(total, choices.STRETCH)
        assert 10 < np.linalg.cond(every[name]) <= top


def test_singular_heads_keep_their_function() -> None:
    """By default rules and by the map, of matrices that have no inverse."""
    name = "adapters of an unknown network"
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0)
    for path, index in (("lora_a", 1), ("lora_b", 0)):
        own = theta["layers.0.q"]
        first = jnp.moveaxis(own[path], index, 0)[0]
        same = jnp.stack([first, 2 * first], index)
        theta = theta | {"layers.0.q": own | {path: same}}
    for rule in (lambda t: gauges.chosen(spec, t, GaugeConfig().start), None):
        g = fast_jit(rule or gauge_of(spec, rounds=3).alpha)(theta)
        spaces.check_elements(spec, g)
        assert function_gap(name, theta, spaces.act(spec, g, theta)) < RTOL
