"""The laws can fail: wrong elements, wrong specs and no elements are all seen.

Of transformers, `test_function_kept` sees it: by its controls, and on wrong specs.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from qejax.testing._draws import act_one_sided
from tests.layer_specs import fast_jit
from tests.registry import (
    MOVED_MLPS_AND_CNNS,
    NETS,
    compiled,
    element_of,
    gap,
    inputs_of,
    theta_of,
)


@pytest.mark.parametrize("name", MOVED_MLPS_AND_CNNS)
def test_elements_move_the_weights(name):
    spec, run = NETS[name].net.spec, compiled(name)
    theta = theta_of(spec, 0)
    assert gap(run.act(element_of(spec, 0), theta), theta) > 1e-2


def test_samples_span_what_was_asked():
    spec = NETS["mixed"].net.spec
    sample = jax.jit(jax.vmap(lambda key: spaces.sample(key, spec, 1e4, jnp.float64)))
    draws = sample(jax.random.split(jax.random.key(1), 64))
    for space in spec.spaces:
        scale = np.asarray(draws[space.name].scale)
        assert len(np.unique(np.asarray(draws[space.name].perm), axis=0)) > 1
        if space.group == "positive_scale":
            assert 1e-4 <= scale.min() < 1e-3
            assert 1e3 < scale.max() <= 1e4
        elif space.group == "sign":
            assert 0.2 < np.mean(scale > 0) < 0.8
        else:
            assert np.all(scale == 1)


@pytest.mark.parametrize("name", MOVED_MLPS_AND_CNNS)
def test_other_weights_are_another_function(name):
    row, run = NETS[name], compiled(name)
    x = inputs_of(row)
    one, two = (run.apply(theta_of(row.net.spec, seed), x) for seed in (0, 1))
    assert gap(two, one) > 1e-2


@pytest.mark.parametrize("name", MOVED_MLPS_AND_CNNS)
def test_every_space_must_be_moved_on_both_sides(name):
    """Space by space: an element that only its writers feel changes the function."""
    row, run = NETS[name], compiled(name)
    spec, x = row.net.spec, inputs_of(row)
    theta = theta_of(spec, 0)
    before = run.apply(theta, x)

    @fast_jit
    def broken(theta: Any) -> Any:
        moved = {}
        for space in spec.spaces:
            g: Any = spaces.identity(spec, jnp.float64)
            # Reversed and scaled or flipped: never an inert element, but at width one.
            kick = {"positive_scale": 3.0, "permutation": 1.0}
            g[space.name] = g[space.name]._replace(
                perm=jnp.arange(space.size)[::-1],
                scale=jnp.full(space.size, kick.get(space.group, -1.0)),
            )
            moved[space.name] = act_one_sided(spec, g, space.name, theta)
        return moved

    for space, wrong in broken(theta).items():
        assert gap(run.apply(wrong, x), before) > 1e-6, space


def test_a_wrong_degree_is_seen():
    """relu^2 read as relu: the spec of one is not a symmetry of the other."""
    net, wrong = NETS["relu squared"], NETS["tanh"]
    spec = replace(wrong.net.spec, spaces=net.net.spec.spaces)
    theta, x = theta_of(spec, 0), inputs_of(net)
    moved = spaces.act(spec, element_of(spec, 0, 3.0), theta)
    run = compiled("relu squared")
    assert gap(run.apply(moved, x), run.apply(theta, x)) > 1e-2


def test_scales_are_no_symmetry_of_gelu():
    net = NETS["gelu"]
    spec = replace(
        net.net.spec,
        spaces=tuple(replace(s, group="positive_scale") for s in net.net.spec.spaces),
    )
    theta, x = theta_of(spec, 0), inputs_of(net)
    moved = spaces.act(spec, element_of(spec, 0, 3.0), theta)
    run = compiled("gelu")
    assert gap(run.apply(moved, x), run.apply(theta, x)) > 1e-2
