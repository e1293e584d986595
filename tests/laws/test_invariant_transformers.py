"""Predictors of transformers and adapters do not see which point of an orbit it is.

Matrices have condition number 100, everything that the group has moves: heads, streams,
scales, shifts and means that nobody sees.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.architectures import language, vision
from qejax import models, nets, spaces
from tests.layer_specs import fast_jit, random_module
from tests.registry import (
    COND,
    RTOL,
    TRANSFORMERS,
    Row,
    compiled,
    element_of,
    gap,
    inputs_of,
    theta_of,
)

SMALL_ZOO: dict[str, Any] = {
    "depth": 2,
    "affine": False,
    "residual": False,
    "position": "sine",
    "attention_bias": False,
}
VIT = vision()


def attention_only() -> Row:
    image: dict[str, Any] = {"image": (4, 2, 1), "patch": 2, "num_outputs": 2}
    return Row(nets.transformer(4, heads=2, hidden=0, **image, **SMALL_ZOO), (4, 2, 1))


def adapter_alone() -> Row:
    targets = ("query", "value", "out", "up", "down")
    net = nets.adapter(VIT.net, theta_of(VIT.net.spec, 9), 2, targets)
    return Row(net, VIT.inputs)


OTHERS: dict[str, Row] = {
    "vit, mean": VIT,
    "gated, gelu": vision(gated=True),
    # No leaf by itself tells the signs of its streams.
    "attention only": attention_only(),
    "signed units": vision(activation="tanh", **SMALL_ZOO),
    # The class token is in no row of the table.
    "tokens behind a class token": language(
        1, norm="none", causal=False, pool="class", position="none", num_outputs=2
    ),
    # The embedding does not span the stream.
    "wide, rotary": vision(width=6, position="rotary", head_dim=2, norm="none"),
    "wide, gated, grouped": vision(
        4, width=8, position="none", kv_heads=2, gated=True, norm="none"
    ),
    "adapters beside their base": Row(
        nets.adapted(VIT.net, 1, ("query", "out", "down")), VIT.inputs
    ),
    "adapters alone": adapter_alone(),
}
ROWS = TRANSFORMERS | OTHERS
OTHER_KINDS = tuple(kind for kind in models.TRUNKS if kind != "relative")
NUM = 3


def model_of(kind: Any, spec: spaces.WeightSpec) -> models.Predictor:
    config = models.PredictorConfig(
        depth=1,
        embed=4,
        hidden=4,
        heads=1,
        rank=2,
        carried=2,
        precision="float64",
    )
    return random_module(
        lambda: models.Predictor(spec, 3, kind, config=config, rngs=nnx.Rngs(0))
    )


@functools.cache
def acting(name: str) -> Callable[..., Any]:
    """The action on a network, compiled once for all tests."""
    if name in TRANSFORMERS:  # With the other laws.
        return compiled(name).act
    return fast_jit(functools.partial(spaces.act, ROWS[name].net.spec))


def networks(name: str) -> tuple[Any, Any, Any]:
    """Unrelated networks, another point of each orbit, and a wrong one."""
    spec, act = ROWS[name].net.spec, acting(name)
    plain = [theta_of(spec, seed) for seed in range(NUM)]
    moved = [act(element_of(spec, n, COND), one) for n, one in enumerate(plain)]
    wrong = []
    for one, other in zip(moved, plain, strict=True):
        leaves, structure = jax.tree.flatten(one)
        wrong.append(
            jax.tree.unflatten(
                structure, [*leaves[:-1], 1 + jax.tree.leaves(other)[-1]]
            )
        )
    stack = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))
    return stack(*plain), stack(*moved), stack(*wrong)


@pytest.mark.parametrize("name", OTHERS)
def test_the_function_is_kept(name: str) -> None:
    net = ROWS[name].net
    theta, x = theta_of(net.spec, 0), inputs_of(ROWS[name])
    apply, act = fast_jit(net.apply), acting(name)
    moved = act(element_of(net.spec, 0, COND), theta)
    y = apply(theta, x)
    assert gap(apply(moved, x), y) <= RTOL
    assert gap(apply(theta_of(net.spec, 1), x), y) > 1e-2


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(
            name,
            kind,
            marks=[] if n % len(OTHER_KINDS) == k else [pytest.mark.slow],
        )
        for n, name in enumerate(ROWS)
        for k, kind in enumerate(OTHER_KINDS)
    ],
)
@pytest.mark.one_in(4)
def test_invariant_to_the_whole_group(name: str, kind: str) -> None:
    """With relative alpha beside it, in one program: the most that can go wrong."""
    spec = ROWS[name].net.spec
    pair = [model_of(one, spec) for one in ("relative", kind)]
    run = fast_jit(jax.vmap(lambda theta: [model(theta) for model in pair]))
    plain, moved, wrong = (run(one) for one in networks(name))
    for here, there, other in zip(plain, moved, wrong, strict=True):
        spread = float(np.std(here))
        assert spread > 1e-6
        assert float(np.max(np.abs(there - here))) <= RTOL * spread
        assert float(np.max(np.abs(other - here))) > 1e-6 * spread
