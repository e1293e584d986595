"""What NumPy computes in place of JAX is the same, row by row."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qejax.derive._numbers import NUMPY, compute

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=(2, 3, 4)), DRAW.normal(size=(2, 3, 4))
POSITIVE = np.abs(X) + 0.1

CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "add": (lax.add, (X, Y)),
    "sub": (lax.sub, (X, Y)),
    "mul": (lax.mul, (X, Y)),
    "div": (lax.div, (X, Y)),
    "neg": (lax.neg, (X,)),
    "max": (lax.max, (X, Y)),
    "min": (lax.min, (X, Y)),
    "exp": (lax.exp, (X,)),
    "log": (lax.log, (POSITIVE,)),
    "tanh": (lax.tanh, (X,)),
    "sin": (lax.sin, (X,)),
    "cos": (lax.cos, (X,)),
    "abs": (lax.abs, (X,)),
    "sign": (lax.sign, (X,)),
    "sqrt": (lax.sqrt, (POSITIVE,)),
    "rsqrt": (lax.rsqrt, (POSITIVE,)),
    "square": (lax.square, (X,)),
    "logistic": (lax.logistic, (X,)),
    "lt": (lax.lt, (X, Y)),
    "le": (lax.le, (X, Y)),
    "gt": (lax.gt, (X, Y)),
    "ge": (lax.ge, (X, Y)),
    "stop_gradient": (lax.stop_gradient, (X,)),
    "copy": (lambda x: lax.optimization_barrier(x), (X,)),
    "integer_pow": (lambda x: lax.integer_pow(x, 3), (X,)),
    "convert_element_type": (lambda x: lax.convert_element_type(x, "float32"), (X,)),
    "reshape": (lambda x: lax.reshape(x, (6, 4)), (X,)),
    "transpose": (lambda x: lax.transpose(x, (2, 0, 1)), (X,)),
    "squeeze": (lambda x: lax.squeeze(x[:, :1], (1,)), (X,)),
    "concatenate": (lambda x, y: lax.concatenate([x, y], 1), (X, Y)),
    "reduce_sum": (lambda x: jnp.sum(x, (0, 2)), (X,)),
    "reduce_max": (lambda x: jnp.max(x, 1), (X,)),
    "reduce_min": (lambda x: jnp.min(x, 1), (X,)),
    "broadcast_in_dim": (
        lambda x: lax.broadcast_in_dim(x, (5, 2, 3, 4), (1, 2, 3)),
        (X,),
    ),
    "slice": (lambda x: lax.slice(x, (0, 1, 0), (2, 3, 4), (1, 1, 2)), (X,)),
    "select_n": (lambda x, y: lax.select(x > y, x, y), (X, Y)),
    "dot_general": (lambda x, y: jnp.einsum("bij,bkj->bik", x, y), (X, Y)),
}


def steps(jaxpr: Any) -> Any:
    """All equations, those of functions that are called as well."""
    for eqn in jaxpr.eqns:
        inner = eqn.params.get("jaxpr")
        if inner is not None:
            yield from steps(getattr(inner, "jaxpr", inner))
        else:
            yield eqn


def test_every_row_has_a_case() -> None:
    assert set(CASES) == set(NUMPY)


@pytest.mark.parametrize("name", [name for name in CASES if name != "copy"])
def test_numpy_computes_as_jax_does(name: str) -> None:
    function, operands = CASES[name]
    (eqn,) = (
        eqn
        for eqn in steps(jax.make_jaxpr(function)(*operands).jaxpr)
        if eqn.primitive.name == name
    )
    draw = np.random.default_rng(1)
    given = [
        draw.random(v.aval.shape) < 0.5
        if v.aval.dtype == bool
        else np.abs(draw.normal(size=v.aval.shape)) + 0.1
        for v in eqn.invars
    ]
    dtypes = [v.aval.dtype for v in eqn.invars]
    (got,) = compute(eqn.primitive, eqn.params, given, dtypes)
    expected = eqn.primitive.bind(*map(jnp.asarray, given), **eqn.params)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_a_copy_is_a_copy() -> None:
    np.testing.assert_array_equal(NUMPY["copy"]({}, X), X)


def test_integers_are_computed_by_jax() -> None:
    (eqn,) = jax.make_jaxpr(lax.div)(7, 2).jaxpr.eqns
    (got,) = compute(eqn.primitive, eqn.params, [-7, 2], [np.int64, np.int64])
    assert got == -3
