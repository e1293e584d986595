"""Padded chains as weights again: the same ones, or those of the normal form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.architectures import Row
from qejax import nets, spaces
from tests.chain_networks import NETS, thetas
from tests.registry import RTOL, inputs_of

LARGE = nets.PadSize(7, 10, 7, 5, 10, 5)


@pytest.mark.parametrize("name", NETS)
def test_what_was_padded_comes_back(name: str) -> None:
    net, theta = NETS[name], thetas()[name]
    for size in (None, LARGE):
        again = nets.unpadded(net, nets.padded(net, theta, size))
        assert jax.tree.structure(again) == jax.tree.structure(theta)
        for got, want in zip(
            jax.tree.leaves(again), jax.tree.leaves(theta), strict=True
        ):
            np.testing.assert_array_equal(got, want)


def some_inputs(name: str) -> Any:
    config: Any = NETS[name].config
    if hasattr(config, "widths"):
        return inputs_of(Row(NETS[name], config.widths[:1]), number=4)
    channels = NETS[name].spec.leaves[0].view[-2]
    image = getattr(config, "image", None) or (17, 17)
    return inputs_of(Row(NETS[name], (*image, channels)), number=4)


def normal_of(name: str, log_norm: bool = True) -> Any:
    """The weights of the normal form, and its function made that of the network."""
    net = NETS[name]
    form = spaces.chain_form(nets.padded(net, thetas()[name], LARGE))
    scale = jnp.exp(form.log_norm) if log_norm else 1.0
    chain = form.chain._replace(last=form.chain.last * scale)
    return nets.unpadded(net, chain)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.one_in(4)
def test_normal_forms_compute_the_function(name: str) -> None:
    net, x = NETS[name], some_inputs(name)
    want = net.apply(thetas()[name], x)
    gap = np.abs(net.apply(normal_of(name), x) - want)
    assert np.max(gap) < RTOL * np.std(want)


def test_control_without_the_norm_it_is_another_function() -> None:
    name = "mlp, mixed"
    net, x = NETS[name], some_inputs(name)
    want = net.apply(thetas()[name], x)
    assert np.max(np.abs(net.apply(normal_of(name, False), x) - want)) > 1e-3


def test_a_chain_that_is_too_small_is_named() -> None:
    net = nets.mlp((4, 3, 2))
    chain = nets.padded(net, net.init(jax.random.key(0)))
    for other in (nets.mlp((4, 5, 2)), nets.mlp((4, 3, 3, 2))):
        with pytest.raises(ValueError, match="unpadded: expected a network of at most"):
            nets.unpadded(other, chain)
