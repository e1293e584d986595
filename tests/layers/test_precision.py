"""A precision changes products of matrices and nothing else."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.extend import core

from qejax import layers, models, nets
from tests.layer_specs import fast_jit, random_module
from tests.registry import theta_of

X = np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
SUMS = ("reduce_sum", "cumsum", "scatter-add", "dot_general", "reduce_window_sum")
LOW = (jax.lax.Precision.DEFAULT,) * 2
"""As it stands in a traced product; nothing stands there unless it is asked for."""


def half(x: Any, w: Any) -> jax.Array:
    """A product inside of a function that is compiled by itself, and a sum."""
    return jax.nn.silu(jax.jit(jnp.matmul)(x, w)).sum(0)


def equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in core.jaxprs_in_params(eqn.params):
            yield from equations(inner)


def sums_of(fn: Any, *args: Any) -> list[tuple[str, Any, str]]:
    """Of every product and sum: what it is, its algorithm, its dtypes."""
    found = []
    for eqn in equations(jax.make_jaxpr(fn)(*args).jaxpr):
        if eqn.primitive.name in SUMS:
            ends = [x.aval for x in (*eqn.invars, *eqn.outvars)]
            kinds = {str(getattr(x, "dtype", "")) for x in ends}
            algorithm = eqn.params.get("precision")
            found.append((eqn.primitive.name, algorithm, "+".join(sorted(kinds))))
    return found


@pytest.mark.parametrize("compiled", [False, True])
def test_products_read_bfloat16_and_sum_in_float32(compiled: bool) -> None:
    fn = layers.in_precision(lambda x, w: x @ w, "bfloat16")
    got = np.asarray((fast_jit(fn) if compiled else fn)(X, W), np.float64)
    low = [np.asarray(x.astype(jnp.bfloat16), np.float64) for x in (X, W)]
    rounded = low[0] @ low[1]
    np.testing.assert_allclose(got, rounded, rtol=1e-5, atol=1e-5)
    assert np.abs(rounded - X.astype(np.float64) @ W).max() > 1e-3


def test_sums_and_their_gradients_stay_in_float32() -> None:
    fn = layers.in_precision(half, "bfloat16")
    gradient = jax.grad(lambda x, w: fn(x, w).sum(), argnums=(0, 1))
    for each, products in ((fn, 1), (gradient, 3)):
        found = sums_of(each, X, W)
        assert {kinds for _, _, kinds in found} == {"float32"}
        assert {name for name, *_ in found} == {"dot_general", "reduce_sum"}
        dots = [algorithm for _, algorithm, _ in found if algorithm is not None]
        assert dots == products * [LOW]


@pytest.mark.parametrize("name", layers.PRECISIONS)
def test_results_and_gradients_are_masters(name: str) -> None:
    row, fn = layers.PRECISIONS[name], layers.in_precision(half, name)
    x, w = jnp.asarray(X, row.params), jnp.asarray(W, row.params)
    value, gradient = jax.value_and_grad(lambda w: fn(x, w).sum())(w)
    _, tangent = jax.jvp(fn, (x, w), (x, w))
    assert {value.dtype, gradient.dtype, tangent.dtype} == {jnp.dtype(row.params)}
    expected = jax.grad(lambda w: half(x, w).sum())(w)
    digits = float(jnp.finfo(row.operands).eps)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=40 * digits)


def test_arguments_are_cast_and_integers_are_not() -> None:
    fn = layers.in_precision(lambda t: t, "bfloat16")
    out = fn({"a": np.ones(2), "b": np.arange(2), "key": jax.random.key(0)})
    assert out["a"].dtype == jnp.float32
    assert out["b"].dtype == jnp.arange(2).dtype
    assert jnp.issubdtype(out["key"].dtype, jax.dtypes.prng_key)


def test_widening_loses_nothing() -> None:
    kept = jnp.asarray(X).astype(jnp.bfloat16)
    tree = {"low": kept, "high": X.astype(np.float64), "whole": np.arange(3)}
    wide = layers.widened(tree, "bfloat16")
    kinds = {name: x.dtype.name for name, x in wide.items()}
    assert kinds == {"low": "float32", "high": "float64", "whole": "int64"}
    np.testing.assert_array_equal(wide["low"], np.asarray(kept, np.float32))


def test_loops_keep_all_digits() -> None:
    def loop(x: Any, w: Any) -> Any:
        return jax.lax.scan(lambda c, _: (c, x @ w), 0, None, length=1)[1][0]

    got = layers.in_precision(loop, "bfloat16")(X, W)
    np.testing.assert_allclose(got, X @ W, rtol=1e-5, atol=1e-5)


def test_what_a_precision_refuses() -> None:
    with pytest.raises(ValueError, match=r"expected one of \['float32', 'bfloat16'"):
        layers.in_precision(half, "float8")
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match="JAX would keep parameters in float32"),
    ):
        layers.precision_of("float64")


def predictor(kind: Any, precision: Any) -> models.Predictor:
    net = nets.mlp((2, 3, 2))
    config = models.PredictorConfig(
        depth=1, embed=4, hidden=4, heads=2, rank=2, carried=2, precision=precision
    )
    make = lambda: models.Predictor(  # noqa: E731
        net.spec, 2, kind, config=config, rngs=nnx.Rngs(0)
    )
    return random_module(make)


@pytest.mark.parametrize("kind", models.TRUNKS)
def test_all_that_is_trained_is_rounded_and_nothing_exact_is(kind: str) -> None:
    model = predictor(kind, "bfloat16")
    theta = theta_of(model.spec, 0, "float32")
    assert LOW not in [algorithm for _, algorithm, _ in sums_of(model.prepare, theta)]
    shapes = jax.eval_shape(model.prepare, theta)
    trained = sums_of(model.scores, shapes)
    products = [algorithm for name, algorithm, _ in trained if name == "dot_general"]
    assert len(products) > 5
    assert set(products) == {LOW}
    assert "bfloat16" not in "".join(kinds for _, _, kinds in trained)


def test_parameters_and_the_optimiser_are_float32_masters() -> None:
    model = predictor("canonical", "bfloat16")
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    params = nnx.to_pure_dict(params)
    prepared = model.prepare(theta_of(model.spec, 0, "float32"))

    def loss(params: Any) -> Any:
        return nnx.merge(graph, params, rest).read(prepared) ** 2

    gradient = jax.eval_shape(jax.grad(loss), params)
    state = jax.eval_shape(optax.adam(1e-3).init, params)
    for tree in (params, gradient, state):
        kinds = {x.dtype for x in jax.tree.leaves(tree) if x.ndim}
        assert kinds == {jnp.dtype("float32")}
