"""Predictors of attention: any spec is read, and what cannot be read is refused."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from qejax import models, nets, spaces
from qejax.spaces import Wire
from tests.registry import RTOL, element_of, theta_of

SPEC = spaces.attention("", Wire(3), Wire(3), heads=2, head_dim=2).spec()


@pytest.mark.parametrize("quasi", ["relative", "canonical", "learned_gauge"])
@pytest.mark.one_in(3)
def test_attention_is_read_alike_on_its_whole_orbit(quasi):
    predictor = models.Predictor(
        SPEC,
        2,
        quasi,
        config=models.PredictorConfig(depth=1, embed=4, hidden=4, heads=1),
        rngs=nnx.Rngs(0),
    )
    theta, other = theta_of(SPEC, 0), theta_of(SPEC, 1)
    moved = spaces.act(SPEC, element_of(SPEC, 0), theta)
    run = jax.jit(predictor.__call__)
    score, spread = run(theta), abs(run(other) - run(theta))
    assert abs(run(moved) - score) <= RTOL * spread
    assert spread > 1e-6
    wrong = {**moved, "key": theta["key"]}
    assert abs(run(wrong) - score) > 1e-6


def test_paths_need_a_chain_of_layers():
    net = nets.transformer(4, 1, 2, 4, image=(4, 4, 1), patch=2)
    config = models.PredictorConfig(statistics=("paths",))
    with pytest.raises(
        ValueError, match="follows paths through a chain of layers and cannot be taken"
    ):
        models.Predictor(net.spec, network=net, config=config, rngs=nnx.Rngs(0))


def test_spectra_are_those_of_the_products():
    theta = theta_of(SPEC, 0)
    free = spaces.settled_spec(SPEC)
    normal = spaces.canonical_form(SPEC, theta).theta
    product = jnp.einsum(
        "ehd,fhd->hef", theta["query"]["kernel"], theta["key"]["kernel"]
    )
    values = jnp.linalg.svd(product, compute_uv=False)[:, :2]
    bias = theta["query"]["bias"]
    assert bias.shape == (2, 2)
    query = normal["query"]["kernel"]
    square = jnp.sum(query**2, 0) + normal["query"]["bias"] ** 2
    stacked = jnp.concatenate([theta["query"]["kernel"], bias[None]], 0)
    whole = jnp.einsum("ehd,fhd->hef", stacked, theta["key"]["kernel"])
    expected = jnp.linalg.svd(whole, compute_uv=False)[:, :2]
    assert jnp.allclose(jnp.sort(square.ravel()), jnp.sort(expected.ravel()), rtol=1e-9)
    assert not jnp.allclose(expected, values)
    found = models.STATISTICS["spectra"].read(models.Subject(SPEC, theta))
    assert found.shape == (len(free.spaces[1:]) * 15,)
