"""Statistics read between knots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import models, nets, spaces
from qejax.models._predictor import intervals
from tests.registry import RTOL, element_of, theta_of

NET = nets.mlp((4, 5, 3))
KNOTS = (-1.0, 0.0, 2.0)


def test_intervals_add_up_to_the_clipped_number() -> None:
    x = jnp.linspace(-4, 4, 33)
    read = np.asarray(intervals(x, KNOTS)).reshape(3, -1)
    np.testing.assert_array_equal(read[0], x)
    np.testing.assert_allclose(read[1:].sum(0), np.clip(x, -1, 2) + 1, atol=1e-12)
    assert intervals(x, ()) is x


def test_a_head_with_knots_reads_more_and_stays_invariant() -> None:
    config = models.PredictorConfig(embed=4, hidden=4, heads=1, knots=KNOTS)
    model = models.Predictor(NET.spec, 0, config=config, rngs=nnx.Rngs(0))
    theta, other = theta_of(NET.spec, 0), theta_of(NET.spec, 1)
    moved = spaces.act(NET.spec, element_of(NET.spec, 0), theta)
    run = jax.jit(model.__call__)
    spread = abs(run(other) - run(theta))
    assert abs(run(moved) - run(theta)) <= RTOL * spread
    assert spread > 1e-6
    plain = models.PredictorConfig(embed=4, hidden=4, heads=1)
    fewer = models.Predictor(NET.spec, 0, config=plain, rngs=nnx.Rngs(0))
    size = models.num_parameters(fewer)
    statistics = fewer.constants["knots"].shape[1]
    assert models.num_parameters(model) == size + 4 * 2 * statistics


@pytest.mark.parametrize("knots", [(1.0,), (1.0, 0.0), (0.0, 0.0)])
def test_knots_that_do_not_rise(knots: tuple[float, ...]) -> None:
    config = models.PredictorConfig(knots=knots)
    with pytest.raises(ValueError, match="expected none, or two or more rising"):
        models.Predictor(NET.spec, 0, config=config, rngs=nnx.Rngs(0))
