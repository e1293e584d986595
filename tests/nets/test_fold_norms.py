"""Norms without scales: the same function, and a larger group."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, spaces
from qejax.nets import fold_norms
from tests.registry import RTOL, element_of, gap, theta_of

IMAGE: dict[str, Any] = {"image": (4, 4, 1), "patch": 2, "num_outputs": 3}
TOKENS: dict[str, Any] = {"vocabulary": 5, "length": 4, "pool": "tokens"}
CASES: dict[str, dict[str, Any]] = {
    "class token": {**IMAGE, "pool": "class"},
    "fixed positions, no biases, gated": {
        **IMAGE,
        "position": "sine",
        "attention_bias": False,
        "mlp_bias": False,
        "gated": True,
    },
    "post-norm, no residual": {**IMAGE, "placement": "post", "residual": False},
    "rms, rotary, grouped": {
        **TOKENS,
        "norm": "rms",
        "position": "rotary",
        "kv_heads": 1,
        "attention_bias": False,
        "mlp_bias": False,
    },
}


def case(name: str) -> tuple[nets.Network, Any, jax.Array]:
    net = nets.transformer(4, 2, 2, 5, head_hidden=3, **CASES[name])
    draw = np.random.default_rng(0)
    theta = jax.tree.map(
        lambda x: jnp.asarray(draw.normal(size=x.shape)), net.spec.template()
    )
    x: Any = draw.normal(size=(9, 4, 4, 1))
    if net.config.to_dict()["vocabulary"]:
        x = draw.integers(5, size=(9, 4))
    return net, theta, jnp.asarray(x)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.one_in(3)
def test_the_function_is_kept_and_so_it_is_by_the_larger_group(name: str) -> None:
    net, theta, x = case(name)
    folded, weights = fold_norms(net, theta)
    assert not any("norm" in path for path in folded.spec.leaf_by_path)
    y = net.apply(theta, x)
    assert gap(folded.apply(weights, x), y) <= RTOL
    g = element_of(folded.spec, 0, 10.0)
    moved = spaces.act(folded.spec, g, weights)
    assert gap(folded.apply(moved, x), y) <= RTOL
    groups = {space.group for space in folded.spec.spaces}
    centred = any(shift.along == (0,) for shift in folded.spec.shifts)
    assert groups & {"orthogonal", "orthogonal_ones"} or centred
    # Control: scales that are forgotten make another function.
    scaled = {k: v for k, v in theta.items() if k not in ("block_00", "block_01")}
    blocks = {
        k: {
            n: jax.tree.map(jnp.ones_like, v) if "norm" in n else v
            for n, v in b.items()
        }
        for k, b in theta.items()
        if k in ("block_00", "block_01")
    }
    assert gap(net.apply({**scaled, **blocks}, x), y) > 1e-2


def test_a_scale_of_zero_is_folded_as_well() -> None:
    net, theta, x = case("class token")
    norm = theta["block_00"]["norm_1"]
    norm["scale"] = norm["scale"].at[1].set(0)
    folded, weights = fold_norms(net, theta)
    assert gap(folded.apply(weights, x), net.apply(theta, x)) <= RTOL


def test_nothing_to_fold() -> None:
    net = nets.transformer(4, 1, 2, 5, affine=False, **IMAGE)
    theta = theta_of(net.spec, 0)
    assert fold_norms(net, theta) == (net, theta)


def test_what_cannot_be_folded() -> None:
    post = nets.transformer(4, 1, 2, 5, placement="post", **IMAGE)
    with pytest.raises(ValueError, match="expected norms that linear layers read"):
        fold_norms(post, theta_of(post.spec, 0))
    mlp = nets.mlp((3, 2))
    with pytest.raises(ValueError, match=r"expected a transformer, got .* 'mlp'"):
        fold_norms(mlp, theta_of(mlp.spec, 0))
    net = nets.transformer(4, 1, 2, 5, **IMAGE)
    with pytest.raises(ValueError, match="first difference is at"):
        fold_norms(net, {})
