"""The symmetry of a spec is a symmetry of its network: the function is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from tests.registry import (
    MOVED,
    NETS,
    RTOL,
    compiled,
    element_of,
    gap,
    inputs_of,
    theta_of,
)


@pytest.mark.parametrize("name", NETS)
def test_function_kept(name):
    row, run = NETS[name], compiled(name)
    x = inputs_of(row)
    for seed in range(3):
        theta, g = theta_of(row.net.spec, seed), element_of(row.net.spec, seed)
        before, after = run.apply(theta, x), run.apply(run.act(g, theta), x)
        # Relative to each output over the data: its constant part would hide a gap.
        size = np.max(np.abs(before - before.mean(0, keepdims=True)), axis=0)
        assert np.all(np.abs(after - before) <= RTOL * size), name


@pytest.mark.parametrize("name", MOVED)
def test_units_move_with_their_space(name):
    """Unit `i` of the result is unit `perm[i]`, times its scale to the degree."""
    row, run = NETS[name], compiled(name)
    spec, x = row.net.spec, inputs_of(row)
    theta, g = theta_of(spec, 0), element_of(spec, 0)
    units = jax.jit(row.net.units)
    before, after = units(theta, x)[1], units(run.act(g, theta), x)[1]
    assert list(before) == [space.name for space in spec.spaces]
    for space in spec.spaces:
        scale = np.asarray(g[space.name].scale)
        degree = _degree(spec, space.name)
        moved = np.asarray(before[space.name])[..., np.asarray(g[space.name].perm)]
        expected = moved * scale**degree
        np.testing.assert_allclose(
            after[space.name],
            expected,
            rtol=RTOL,
            atol=RTOL * float(np.max(np.abs(expected))),
        )


def _degree(spec: spaces.WeightSpec, name: str) -> int:
    (power,) = {
        axis.power
        for leaf in spec.leaves
        for axis in leaf.axes
        if axis.space == name and axis.power < 0
    }
    return -power


@pytest.mark.parametrize("name", ["five hidden layers", "cnn, same, flatten", "tanh"])
def test_function_kept_in_float32(name):
    """1e-5 is 20 times the worst gap of float32 at this depth."""
    row, run = NETS[name], compiled(name)
    theta = theta_of(row.net.spec, 0, jnp.float32)
    x = inputs_of(row, dtype=jnp.float32)
    g = element_of(row.net.spec, 0, dtype=jnp.float32)
    after = run.apply(run.act(g, theta), x)
    assert after.dtype == jnp.float32
    assert gap(after, run.apply(theta, x)) < 1e-5
