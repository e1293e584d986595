"""A precision changes products of matrices and nothing else."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.extend import core

from qejax import layers, models, nets, spaces
from tests.layer_specs import fast_jit, random_module
from tests.registry import TRANSFORMERS, theta_of

X = np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
PRODUCTS = ("dot_general", "conv_general_dilated")
SUMS = (*PRODUCTS, "reduce_sum", "cumsum", "scatter-add", "reduce_window_sum")
R = np.random.default_rng(2).standard_normal((5, 3)).astype(np.float32)
ZEROS = jnp.zeros_like(R)
HIGH = (jax.lax.Precision.HIGHEST,) * 2
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
    check_rounded(got, rounded(X) @ rounded(W), X.astype(np.float64) @ W)


def window(x: Any, w: Any) -> Any:
    """One window as long as the signal: a convolution that is the product."""
    return jax.lax.conv_general_dilated(x[:, None], w.T[:, None], (1,), "VALID")[..., 0]


HOLDERS = {
    "scan": lambda x, w: jax.lax.scan(lambda c, x: (2 * c, x @ w), 1.0, x[None])[1][0],
    "while": lambda x, w: jax.lax.while_loop(
        lambda c: (c[0] < 1) & ((x @ w).sum() < 1e9),
        lambda c: (c[0] + 1, x @ w),
        (0, ZEROS),
    )[1],
    "cond": lambda x, w: jax.lax.cond(x[0, 0] < 9, lambda: x @ w, lambda: ZEROS),
    "checkpoint": jax.checkpoint(jnp.matmul),
    "checkpoint in scan": lambda x, w: jax.lax.scan(
        lambda c, x: (c, jax.checkpoint(jnp.matmul)(x, w)), 0, x[None]
    )[1][0],
    "conv": window,
}


def rounded(x: Any) -> np.ndarray:
    return np.asarray(np.asarray(x).astype(jnp.bfloat16), np.float64)


def check_rounded(got: Any, expected: Any, exact: Any) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected - np.asarray(exact, np.float64)).max() > 1e-3


@pytest.mark.parametrize("name", HOLDERS)
def test_what_holds_a_product_rounds_it(name: str) -> None:
    fn = layers.in_precision(HOLDERS[name], "bfloat16")
    along = np.cos(3 * X) * X
    batch = jax.vmap(fn, (0, None))
    for run in (fn, fast_jit(fn), lambda x, w: batch(x[None], w)[0]):
        check_rounded(run(X, W), rounded(X) @ rounded(W), X @ W)
    _, tangent = fast_jit(lambda x, t: jax.jvp(lambda x: fn(x, W), (x,), (t,)))(
        X, along
    )
    check_rounded(tangent, rounded(along) @ rounded(W), along @ W)


@pytest.mark.parametrize("name", [name for name in HOLDERS if name != "while"])
def test_gradients_of_what_is_held(name: str) -> None:
    """A `while` has no gradient."""
    fn = layers.in_precision(HOLDERS[name], "bfloat16")
    gradient = jax.grad(lambda x, w: (R * fn(x, w)).sum(), (0, 1))
    batch = jax.vmap(gradient, (0, None))
    for run in (gradient, fast_jit(lambda x, w: [g[0] for g in batch(x[None], w)])):
        of_x, of_w = run(X, W)
        check_rounded(of_x, rounded(R @ rounded(W).T), R @ W.T)
        check_rounded(of_w, rounded(rounded(X).T @ R), X.T @ R)


def kept(fn: Any) -> dict[str, int]:
    found = [e.primitive for e in equations(jax.make_jaxpr(fn)(X, W).jaxpr)]
    watched = ("scan", "while", "cond", "remat", "dot_general", "conv_general_dilated")
    return {k: found.count(getattr(core.primitives, f"{k}_p")) for k in watched}


@pytest.mark.parametrize("name", HOLDERS)
def test_programs_stay_what_they_are(name: str) -> None:
    plain = HOLDERS[name]
    fn = layers.in_precision(plain, "bfloat16")
    assert kept(fn) == kept(plain)
    held = name.split()[0].replace("checkpoint", "remat")
    assert sum(count for k, count in kept(fn).items() if held in k) >= 1
    products = [a for kind, a, _ in sums_of(fn, X, W) if kind in PRODUCTS]
    assert set(products) == {LOW}
    if name != "while":
        of = lambda f: lambda x, w: jax.grad(lambda x: jnp.sin(f(x, w)).sum())(x)  # noqa: E731
        assert kept(of(fn)) == kept(of(plain))
        assert kept(layers.in_precision(of(plain), "bfloat16")) == kept(of(plain))


def test_carries_of_loops_keep_their_types() -> None:
    def loop(x: Any, w: Any) -> Any:
        return jax.lax.scan(lambda c, x: (2 * c, x @ w), 1.0, x[None])

    fn = layers.in_precision(loop, "bfloat16")
    types = [jax.make_jaxpr(f)(X, W).out_avals for f in (fn, loop)]
    assert types[0] == types[1]
    assert types[0][0].weak_type


@pytest.mark.parametrize("prevent_cse", [True, (True, False)])
def test_constants_of_functions_inside_of_a_checkpoint(prevent_cse: Any) -> None:
    constant = jax.jit(lambda x: x @ jnp.asarray(W))
    plain = jax.checkpoint(
        lambda x, y: constant(x) + 0 * y.sum(), prevent_cse=prevent_cse
    )
    fn = layers.in_precision(plain, "bfloat16")
    assert kept(fn) == kept(plain)
    check_rounded(fast_jit(fn)(X, W), rounded(X) @ rounded(W), X @ W)
    gradient = fast_jit(jax.grad(lambda x: (R * fn(x, W)).sum()))(X)
    check_rounded(gradient, rounded(R @ rounded(W).T), R @ W.T)


def test_a_loop_by_itself_is_rounded_once() -> None:
    """Else it would be compiled at every call."""

    def body(count: Any, x: Any) -> Any:
        return count, x @ W

    fn = layers.in_precision(lambda x: jax.lax.scan(body, 0, x[None]), "bfloat16")
    loops = []
    for _ in range(2):
        every = equations(jax.make_jaxpr(lambda x: fn(x))(X).jaxpr)
        loops += [e for e in every if e.primitive is core.primitives.scan_p]
    first, second = loops
    assert first is not second
    assert first.params["jaxpr"] is second.params["jaxpr"]


def test_custom_derivatives_keep_all_digits() -> None:
    by_tangent, by_gradient = jax.custom_jvp(jnp.matmul), jax.custom_vjp(jnp.matmul)
    by_tangent.defjvp(lambda xs, ts: (xs[0] @ xs[1], ts[0] @ xs[1]))
    by_gradient.defvjp(
        lambda x, w: (x @ w, (x, w)), lambda xs, g: (g @ xs[1].T, xs[0].T @ g)
    )
    for plain in (by_tangent, by_gradient):
        fn = layers.in_precision(plain, "bfloat16")
        np.testing.assert_allclose(fn(X, W), X @ W, rtol=1e-5, atol=1e-5)


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
    exact = {
        algorithm
        for name, algorithm, _ in sums_of(model.prepare, theta)
        if name == "dot_general"
    }
    assert exact <= {HIGH}
    shapes = jax.eval_shape(model.prepare, theta)
    trained = sums_of(model.scores, shapes)
    products = [algorithm for name, algorithm, _ in trained if name == "dot_general"]
    assert len(products) > 5
    assert set(products) == {LOW}
    assert "bfloat16" not in "".join(kinds for _, _, kinds in trained)


@pytest.mark.parametrize("name", ["no norm", "vit, class token"])
def test_normal_forms_ask_devices_for_all_digits(name: str) -> None:
    """By default accelerators round the factors of float32."""
    spec = TRANSFORMERS[name].net.spec
    theta = theta_of(spec, 0, "float32")
    for fn in (spaces.settled, spaces.canonical_form, spaces.canonical_statistics):
        found = sums_of(functools.partial(fn, spec), theta)
        products = [algorithm for kind, algorithm, _ in found if kind == "dot_general"]
        assert len(products) > 1
        assert set(products) == {HIGH}
    # A control: what nobody asks for stands for itself.
    assert {algorithm for _, algorithm, _ in sums_of(jnp.matmul, X, W)} == {None}


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
