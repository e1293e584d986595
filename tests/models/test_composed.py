"""The linear map that is left of a transformer without its nonlinearities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import models, nets, spaces
from tests.registry import NETS, RTOL, element_of, gap, theta_of

IMAGES = [
    name
    for name, row in NETS.items()
    if row.net.config.kind == "transformer" and row.vocabulary is None
]


def composed(net: nets.Network, theta: object) -> jax.Array:
    shape = models.input_shape(net)
    return models.Subject(net.spec, theta, net, shape).composed


def test_it_is_the_derivative_where_nothing_else_is_nonlinear() -> None:
    """Without queries attention is even; without norms the rest is linear."""
    net = nets.transformer(
        4,
        2,
        2,
        5,
        image=(4, 4, 1),
        patch=2,
        num_outputs=3,
        norm="none",
        activation="identity",
        position="none",
    )
    theta = theta_of(net.spec, 0)
    for block in ("block_00", "block_01"):
        query = theta[block]["attention"]["query"]
        query.update(jax.tree.map(jnp.zeros_like, query))
    slope = jax.jacfwd(lambda x: net.apply(theta, x[None])[0])(jnp.zeros((4, 4, 1)))
    patches = slope.reshape(3, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(3, 4, 4)
    subject = models.Subject(net.spec, theta, net, (4, 4, 1))
    # The size of the last kernel is apart in a normal form.
    found = jnp.exp(subject.scale) * subject.composed
    assert found.shape == (3, 4)
    # Every patch is a quarter of the mean.
    assert gap(found, patches.sum(1)) < 1e-10
    assert gap(patches[:, 0], patches[:, 3]) < 1e-10


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.one_in(6)
def test_it_is_invariant_and_tells_networks_apart(name: str) -> None:
    net = NETS[name].net
    theta, other = theta_of(net.spec, 0), theta_of(net.spec, 1)
    moved = spaces.act(net.spec, element_of(net.spec, 0), theta)
    here, there, elsewhere = (composed(net, one) for one in (theta, moved, other))
    assert gap(there, here) <= RTOL
    assert gap(elsewhere, here) > 1e-2
    sketch = models.SKETCHES["filters"]
    assert not sketch.fits(net)
    shape = models.input_shape(net)
    read = sketch.read(models.Subject(net.spec, theta, net, shape))
    assert float(jnp.linalg.norm(read)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "outputs", "says"),
    [
        ("filters", 5, "'filters' composes a linear map of dense inputs and cannot"),
        ("classes", 300, "'classes' compares at most 256 outputs .* not 300, and"),
    ],
)
def test_what_a_language_model_has_no_sketch_of(
    name: str, outputs: int, says: str
) -> None:
    net = nets.transformer(
        4, 1, 2, 3, vocabulary=7, length=3, num_outputs=outputs, pool="tokens"
    )
    config = models.PredictorConfig(sketches=(name,))
    with pytest.raises(ValueError, match=says):
        models.Predictor(net.spec, network=net, config=config, rngs=nnx.Rngs(0))
    kept = models.Predictor(net.spec, network=net, rngs=nnx.Rngs(0)).config.sketches
    assert name not in kept


def test_a_chain_of_layers_has_its_path_sums() -> None:
    net = nets.mlp((3, 4, 2), "leaky_relu")
    theta = theta_of(net.spec, 0)
    normal = spaces.canonical_form(net.spec, theta).theta
    expected = normal["layer_00"]["kernel"] @ normal["layer_01"]["kernel"]
    np.testing.assert_allclose(composed(net, theta), expected.T, rtol=1e-12)
