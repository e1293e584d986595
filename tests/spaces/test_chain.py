"""The normal form of a padded chain, against that of the network it came from."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, spaces
from qejax.spaces import Chain
from tests.layer_specs import fast_jit
from tests.registry import RTOL, element_of, gap, theta_of

SIZE = nets.PadSize(layers=6, width=8, window=5, inputs=3, outputs=3, head=3)
PLAIN = {
    "relu": nets.mlp((3, 5, 4, 2), "leaky_relu"),
    "powers": nets.mlp((3, 4, 5, 4, 2), ("relu^2", "relu", "relu^3")),
    "residual": nets.mlp((3, 5, 5, 4, 2), residual=True),
    "with permutations": nets.mlp((3, 5, 4, 6, 2), ("relu", "gelu", "leaky_relu")),
    "cnn": nets.cnn(2, (4, 3), (3, 2), num_outputs=3),
    "residual cnn": nets.cnn(1, (3, 2), blocks=1, num_outputs=2),
    "flatten": nets.cnn(1, (3,), 3, head="flatten", image=(4, 5), num_outputs=2),
    "skips": nets.skip_cnn((2, 4, 3, 5, 3), residual=(-1, -1, 0, 1), num_outputs=3),
}
"""No units with signs: `canonical_form` chooses those, a chain's form does not."""


def live(net: nets.Network, seed: int) -> Any:
    """Weights of a network whose units are all written."""
    return theta_of(net.spec, seed)


def dead(net: nets.Network, seed: int) -> Any:
    """Weights of a network with units that nothing writes."""
    draw = np.random.default_rng(seed)

    def without(x: Any) -> np.ndarray:
        return np.asarray(x) * (draw.random(x.shape[-1]) < 0.5)

    found = jax.tree.map(without, theta_of(net.spec, seed))
    last = list(found)[-1]
    found[last] = jax.tree.map(np.asarray, theta_of(net.spec, seed)[last])
    return found


def arrays(form: spaces.ChainForm) -> list[Any]:
    chain = form.chain
    return [chain.first, chain.middle, chain.last, chain.bias, chain.last_bias]


form_of = fast_jit(spaces.chain_form)


@functools.cache
def padder(net: nets.Network) -> Callable[[Any], Chain]:
    """`padded` of a network, compiled once for all tests."""
    return fast_jit(lambda theta: nets.padded(net, theta, SIZE))


def padded(net: nets.Network, theta: Any) -> Chain:
    return padder(net)(theta)


@pytest.mark.parametrize("name", [name for name in PLAIN if name != "residual"])
@pytest.mark.one_in(3)
def test_form_is_that_of_the_network(name: str) -> None:
    """Where neighbours share units `canonical_form` sizes them by both at once."""
    net = PLAIN[name]
    theta = theta_of(net.spec, 0)

    @fast_jit
    def forms(theta: Any) -> tuple[spaces.Canonical, Any]:
        normal = spaces.canonical_form(net.spec, theta)
        return normal, spaces.restore(net.spec, normal)

    normal, shares = forms(theta)
    expected = padded(net, normal.theta)
    found = form_of(padded(net, theta))
    # One norm for what the outputs read, where leaves have one each.
    norms = np.exp(np.stack([*normal.log_norm.values()]))
    total = np.linalg.norm(norms)
    last = padded(net, shares).last / total
    assert gap(arrays(found), arrays_of(expected._replace(last=last))) < RTOL
    assert abs(float(found.log_norm) - np.log(total)) < RTOL
    np.testing.assert_allclose(np.linalg.norm(found.chain.last), 1, rtol=1e-12)


def arrays_of(chain: Chain) -> list[Any]:
    return arrays(spaces.ChainForm(chain, jnp.zeros(())))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("weights", [live, dead])
def test_form_forgets_scales(name: str, weights: Any) -> None:
    net = PLAIN[name]
    theta = jax.tree.map(
        jnp.asarray, weights(net.spec if weights is theta_of else net, 3)
    )
    g = {
        key: one._replace(perm=jnp.arange(len(one.perm)))
        for key, one in element_of(net.spec, 5).items()
    }
    moved = fast_jit(functools.partial(spaces.act, net.spec))(g, theta)
    one, other = (form_of(padded(net, t)) for t in (theta, moved))
    assert gap(arrays(other), arrays(one)) < RTOL
    assert abs(float(one.log_norm - other.log_norm)) < RTOL
    # Controls: the weights did move, and the form did not collapse.
    assert gap(arrays_of(padded(net, moved)), arrays(one)) > 1e-3
    assert float(jnp.max(jnp.abs(one.chain.first))) > 1e-2


@pytest.mark.parametrize("name", PLAIN)
def test_idempotent(name: str) -> None:
    net = PLAIN[name]
    one = form_of(padded(net, theta_of(net.spec, 1)))
    again = form_of(one.chain)
    assert gap(arrays(again), arrays(one)) < RTOL


@pytest.mark.parametrize("name", ["relu", "powers", "cnn", "flatten"])
def test_free_of_overflow_in_float32(name: str) -> None:
    """Far out of balance, products of layers out of range; no unit is tied."""
    net = PLAIN[name]
    theta = jax.tree.map(lambda x: np.asarray(x, np.float32), theta_of(net.spec, 1))
    plain = form_of(padded(net, theta))
    for number, layer in enumerate(list(theta)[:-1]):
        factor = np.float32(1e12 if number % 2 else 1e-12)
        theta[layer] = jax.tree.map(lambda x, f=factor: x * f, theta[layer])
    found = form_of(padded(net, theta))
    assert all(np.all(np.isfinite(x)) for x in arrays(found))
    assert gap(found.chain.first, plain.chain.first) < 1e-5


def test_turns_of_sines_are_taken_out() -> None:
    net = nets.coordinate((2, 5, 4, 1), "sine(3)")
    theta = theta_of(net.spec, 0)
    g = element_of(net.spec, 1)
    still = {}
    for name, one in g.items():
        size = len(one.perm)
        still[name] = one._replace(perm=jnp.arange(size), scale=jnp.ones(size))
    moved = spaces.act(net.spec, still, theta)
    one, other = (form_of(padded(net, t)) for t in (theta, moved))
    assert gap(arrays(other), arrays(one)) < RTOL
    assert gap(moved["layer_01"]["kernel"], theta["layer_01"]["kernel"]) > 1


def test_a_network_that_is_not_finite_is_seen() -> None:
    net = PLAIN["relu"]
    theta = theta_of(net.spec, 0)
    theta["layer_00"]["kernel"] = theta["layer_00"]["kernel"].at[0, 0].set(jnp.nan)
    form = form_of(padded(net, theta))
    assert not np.all(np.isfinite(form.chain.first))
