"""Models on derived specs: invariant, or refused by name."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import models, spaces
from qejax.derive import derive_spec
from qejax.spaces import WeightSpec
from tests.layer_specs import fast_jit

Shapes = dict[str, tuple[int, ...]]


def normed(h: jax.Array, scale: jax.Array) -> jax.Array:
    return h / jnp.sqrt((h**2).mean(-1, keepdims=True) + 1e-6) * scale[None]


def stream(theta: Any, x: jax.Array) -> jax.Array:
    """Signs of a stream, of which one norm's scale feels them and one does not."""
    h = x @ theta["e"]
    h = h + jax.nn.gelu(normed(h, theta["s"]) @ theta["w1"]) @ theta["w2"]
    return normed(h, theta["t"]) @ theta["o"]


def cubes(theta: Any, x: jax.Array) -> jax.Array:
    """Readers of another power than writers."""
    return jax.nn.relu(x @ theta["a"]) ** 2 @ theta["b"] ** 3


def two_factors(theta: Any, x: jax.Array) -> jax.Array:
    """A second factor of each unit, and its sign."""
    return (
        jax.nn.relu(x @ theta["a"] * theta["s"][None] ** 2 + theta["c"][None])
        @ theta["b"]
    )


def squares(theta: Any, x: jax.Array) -> jax.Array:
    """Signs of units that nothing reads."""
    h = jax.nn.relu(x @ theta["a"] ** 2)
    return jax.nn.relu(h @ theta["c"] ** 3) @ theta["b"]


def centred(theta: Any, x: jax.Array) -> jax.Array:
    """A norm with a scale and a bias: its sign is told by what reads it."""
    h = x @ theta["a"] + theta["ab"][None]
    h = h - h.mean(-1, keepdims=True)
    h = normed(h, theta["s"]) + theta["sb"][None]
    return jax.nn.relu(h @ theta["b"] + theta["bb"][None]) @ theta["c"]


CASES: dict[Callable[..., Any], Shapes] = {
    stream: {
        "e": (3, 6),
        "s": (6,),
        "w1": (6, 8),
        "w2": (8, 6),
        "t": (6,),
        "o": (6, 2),
    },
    cubes: {"a": (3, 6), "b": (6, 2)},
    two_factors: {"a": (3, 6), "s": (6,), "c": (6,), "b": (6, 2)},
    centred: {
        **{"a": (3, 6), "ab": (6,), "s": (6,), "sb": (6,)},
        **{"b": (6, 5), "bb": (5,), "c": (5, 2)},
    },
    squares: {"a": (3, 6), "c": (6, 5), "b": (5, 2)},
}


def derived_of(apply: Callable[..., Any]) -> Any:
    draw = np.random.default_rng(0)
    theta = {k: jnp.asarray(draw.normal(size=n)) for k, n in CASES[apply].items()}
    x = jnp.asarray(draw.normal(size=(5, 3)))
    return derive_spec(apply, theta, x, count_missing=False)


def change(spec: WeightSpec, theta: Any) -> float:
    """How far elements of the group move what a predictor says, of what it says."""
    predict = fast_jit(models.Predictor(spec, channels=4, rngs=nnx.Rngs(0)))
    g = spaces.sample(jax.random.key(1), spec)
    before, after = predict(theta), predict(spaces.act(spec, g, theta))
    other = predict(jax.tree.map(lambda w: w * 1.5 + 0.1, theta))
    return float(abs(after - before) / abs(other - before))


@pytest.mark.parametrize("apply", CASES, ids=lambda f: f.__name__)
@pytest.mark.one_in(3)
def test_predictors_are_invariant_on_what_they_can_read(
    apply: Callable[..., Any],
) -> None:
    derived = derived_of(apply)
    assert change(derived.for_models, derived.theta) < 1e-6


def test_nothing_is_left_out_that_can_be_read() -> None:
    derived = derived_of(centred)
    assert {"absorbed", "sign"} <= {space.group for space in derived.spec.spaces}
    assert derived.for_models == derived.spec


@pytest.mark.parametrize("apply", [two_factors, squares], ids=lambda f: f.__name__)
def test_what_they_cannot_read_is_refused(apply: Callable[..., Any]) -> None:
    spec = derived_of(apply).spec
    with pytest.raises(ValueError, match="units that are no others' units, got the gr"):
        models.Predictor(spec, channels=4, rngs=nnx.Rngs(0))
