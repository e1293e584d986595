"""The gradient of a loss that is smoothed along the orbit is that of its mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.teleport.smoothed import Noise, smoothed
from qejax import gauges, nets
from tests.registry import theta_of

SPEC = nets.mlp_spec((3, 4, 5, 2))
THETA = theta_of(SPEC, 0)
NOISE = Noise(space=0.3, unit=0.1, pairs=4000)
SLOPE = {"hidden_0": jnp.arange(4.0) - 1, "hidden_1": jnp.linspace(2.0, -1.0, 5)}


def logs(theta):
    """Logarithms of sizes of units, against those of `THETA`."""

    def rows(theta):
        first = jnp.linalg.norm(theta["layer_00"]["kernel"], axis=0)
        last = jnp.linalg.norm(theta["layer_02"]["kernel"], axis=1)
        return {"hidden_0": jnp.log(first), "hidden_1": -jnp.log(last)}

    return jax.tree.map(jnp.subtract, rows(theta), rows(THETA))


def gradient(loss, at=0.0, noise=NOISE):
    """Value and gradient of the smoothed loss by the logarithms of sizes."""
    key = jax.random.key(1)

    def of(x):
        g = {n: gauges.SIZES["positive_scale"](jnp.exp(v)) for n, v in x.items()}
        return smoothed(SPEC, g, THETA, loss, noise, key)

    x = jax.tree.map(lambda s: jnp.full_like(s, at), SLOPE)
    return jax.jit(jax.value_and_grad(of))(x)


def linear(theta):
    found = logs(theta)
    return sum(jnp.sum(found[name] * SLOPE[name]) for name in SLOPE)


def test_the_gradient_of_a_line_is_its_slope():
    value, slope = gradient(linear)
    assert value == pytest.approx(0, abs=1e-12)
    for name, want in SLOPE.items():
        np.testing.assert_allclose(slope[name], want, atol=0.4)
        assert float(jnp.sum(slope[name])) == pytest.approx(float(want.sum()), abs=0.4)


def test_it_sees_a_jump_that_a_derivative_does_not():
    def jump(theta):
        return jnp.where(jnp.mean(logs(theta)["hidden_0"]) > 0.05, 1.0, 0.0)

    # The mean of a step over normal noise of this size has the density as its slope.
    sd = (NOISE.space**2 + NOISE.unit**2 / 4) ** 0.5
    density = np.exp(-((0.05 / sd) ** 2) / 2) / (sd * np.sqrt(2 * np.pi))
    _, slope = gradient(jump)
    assert float(jnp.sum(slope["hidden_0"])) == pytest.approx(density, rel=0.1)
    assert float(jnp.sum(slope["hidden_1"])) == pytest.approx(0, abs=0.3)
    # Control: unrolled, there is nothing to see.
    alone = jax.grad(jump)(THETA)
    assert not any(np.any(x) for x in jax.tree.leaves(alone))


def test_it_is_told_where_the_element_leads():
    value, slope = gradient(lambda theta: linear(theta) ** 2 / 2, at=0.5)
    off = 0.5 * float(sum(s.sum() for s in SLOPE.values()))
    spread = sum(
        NOISE.space**2 * float(s.sum()) ** 2 + NOISE.unit**2 * float((s * s).sum())
        for s in SLOPE.values()
    )
    assert float(value) == pytest.approx((off**2 + spread) / 2, rel=0.1)
    want = off * float(SLOPE["hidden_0"].sum())
    assert float(jnp.sum(slope["hidden_0"])) == pytest.approx(want, rel=0.2)
