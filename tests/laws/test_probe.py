"""Probes: outputs are invariant, activations move with their units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import layers, nets, spaces
from tests.layer_specs import fast_jit
from tests.registry import NETS, RTOL, element_of, gap, theta_of

NAMES = ("mixed", "residual", "cnn, strided, gap")


def stream(name: str, **options: bool) -> layers.ProbeStream:
    row = NETS[name]
    return layers.ProbeStream(
        row.net, row.inputs, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **options
    )


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_invariant_and_units_covariant(name: str) -> None:
    spec, run = NETS[name].net.spec, fast_jit(stream(name))
    theta, g = theta_of(spec, 0), element_of(spec, 0)
    outputs, units = run(theta)
    moved_outputs, moved_units = run(spaces.act(spec, g, theta))
    assert gap(moved_outputs, outputs) <= RTOL
    # A unit is scaled to the degree of its activation.
    degree = {
        axis.space: -axis.power
        for leaf in spec.leaves
        for axis in leaf.axes
        if axis.space is not None and axis.power < 0
    }
    for space, x in units.items():
        expected = spaces.act_units(spec, g, units, degree[space])[space]
        assert gap(moved_units[space], expected) <= RTOL
        assert x.shape == (spec.space_by_name[space].size, 3)
        assert float(jnp.std(x)) > 1e-6


def test_another_network_gives_other_outputs() -> None:
    spec, run = NETS["mixed"].net.spec, fast_jit(stream("mixed"))
    assert gap(run(theta_of(spec, 1))[0], run(theta_of(spec, 0))[0]) > 1e-3


def test_inputs_are_trained_or_frozen() -> None:
    learned, fixed = stream("mixed"), stream("mixed", learned=False)
    assert isinstance(learned.inputs, nnx.Param)
    assert isinstance(fixed.inputs, layers.Frozen)
    theta = theta_of(NETS["mixed"].net.spec, 0)
    gradient = nnx.grad(lambda m: jnp.sum(m(theta)[0] ** 2))(learned)
    assert float(jnp.abs(gradient["inputs"][...]).max()) > 0


def test_no_probes_is_an_error() -> None:
    net = nets.mlp((2, 3, 2))
    with pytest.raises(ValueError, match="Leave the stream out"):
        layers.ProbeStream(net, (2,), 0, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("shape", [(8, 8, 1), (16,), (5,), (4, 6, 3)])
def test_smooth_inputs(shape: tuple[int, ...]) -> None:
    x = np.asarray(layers.smooth_inputs(jax.random.key(0), 3, shape))
    assert x.shape == (3, *shape)
    assert np.abs(x).max() <= 1
    assert x.std() > 0.1


def test_images_are_smooth() -> None:
    x = np.asarray(layers.smooth_inputs(jax.random.key(0), 16, (16, 16, 1)))[..., 0]
    x = x - x.mean((1, 2), keepdims=True)
    neighbours = (x[:, 1:] * x[:, :-1]).mean() / (x**2).mean()
    assert neighbours > 0.4
