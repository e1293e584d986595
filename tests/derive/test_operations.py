"""`derive_spec` by operation: loops, slices, lookups, inputs of all kinds."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from qejax.derive import derive_spec
from tests.derive.small import X, groups, two_layers, weights


def test_directions_that_cannot_be_counted_are_said() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        # Random inputs like these are larger than 1 as well.
        return jnp.tanh(jnp.arcsin(x) @ theta["a"]) @ theta["b"]

    derived = derive_spec(apply, weights((3, 4), (4, 2)), jnp.sin(X))
    assert derived.checked
    assert derived.deficit is None
    assert "directions not counted: outputs of apply" in str(derived)


def test_loops_and_calls_are_entered() -> None:
    @jax.jit
    @jax.checkpoint
    def cell(theta: Any, h: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.tanh(h @ theta["b"] + x @ theta["a"])

    def apply(theta: Any, x: jax.Array) -> jax.Array:
        start = jnp.zeros((x.shape[0], 4))
        h, _ = jax.lax.scan(
            lambda h, x: (cell(theta, h, x), None), start, x.transpose(1, 0, 2)
        )
        return h @ theta["c"]

    theta = weights((3, 4), (4, 4), (4, 2))
    derived = derive_spec(apply, theta, jnp.stack([X, X + 1], 1))
    assert groups(derived) == [("b", 4, "sign")]


def test_layers_of_a_scan_have_units_of_their_own() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        def layer(h: jax.Array, w: Any) -> tuple[jax.Array, None]:
            return h + jax.nn.relu(h @ w["up"]) @ w["down"], None

        layers = {"up": theta["b"], "down": theta["c"]}
        return jax.lax.scan(layer, x @ theta["a"], layers)[0] @ theta["d"]

    theta = weights((3, 4), (6, 4, 5), (6, 5, 4), (4, 2))
    derived = derive_spec(apply, theta, X)
    found = groups(derived)
    assert [row[1:] for row in found].count((5, "positive_scale")) == 6
    assert (4, "general_linear") in [row[1:] for row in found] or (
        4,
        "linear_stream",
    ) in [row[1:] for row in found]


def test_layers_may_be_cast_before_they_are_taken_apart() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        def layer(h: jax.Array, w: Any) -> tuple[jax.Array, None]:
            return h + jax.nn.relu(h @ w["b"]) @ w["c"], None

        half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), theta)
        return jax.lax.scan(layer, x.astype(jnp.bfloat16), half)[0]

    layers = {"b": weights((2, 3, 5))["a"], "c": weights((2, 5, 3))["a"]}
    derived = derive_spec(apply, layers, X, samples=0)
    assert [row[1:] for row in groups(derived)] == [(5, "positive_scale")] * 2


def test_edges_are_padded_with_empty_arrays_between() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        h = jnp.pad(jnp.tanh(x @ theta["a"]), ((1, 1), (0, 0)), mode="edge")
        return h @ theta["b"]

    derived = derive_spec(apply, weights((3, 4), (4, 2)), X)
    assert derived.checked
    # Slices that `jnp.pad` takes and throws away tell the outer units from the others.
    assert {s.group for s in derived.spec.spaces} == {"sign"}


def test_directions_are_counted_at_inputs_that_are_taken() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(jnp.log(x) @ theta["a"]) @ theta["b"]

    def tables(theta: Any, which: jax.Array) -> jax.Array:
        # Rows that are not there are NaN.
        first, second = (jnp.take(theta[k], which[:, n], 0) for n, k in enumerate("ab"))
        return jnp.tanh(first * second) @ theta["c"]

    theta = weights((3, 4), (5, 4), (4, 2))
    which = jnp.asarray([[0, 0], [1, 4], [2, 3], [1, 2], [0, 1]])
    assert derive_spec(tables, theta, which).deficit is not None
    derived = derive_spec(apply, weights((3, 4), (4, 2)), jnp.abs(X) + 0.1)
    assert derived.deficit is not None
    assert (derived.deficit.null, derived.uncounted) == (0, "")


def test_branches_allow_what_both_do() -> None:
    def apply(theta: Any, x: jax.Array, which: jax.Array) -> jax.Array:
        h = x @ theta["a"]
        h = jax.lax.cond(which, jnp.tanh, jax.nn.relu, h)
        return h @ theta["b"]

    derived = derive_spec(apply, weights((3, 4), (4, 2)), X, jnp.asarray(True))
    assert groups(derived) == [("a", 4, "permutation")]


def test_primitives_without_a_rule_are_named_and_fix_what_they_read() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        h = jnp.real(jnp.fft.fft(x @ theta["a"]))
        return jax.nn.relu(h @ theta["b"]) @ theta["c"]

    derived = derive_spec(apply, weights((3, 4), (4, 6), (6, 2)), X)
    line = apply.__code__.co_firstlineno + 1
    assert any(f"test_operations.py:{line}" in key for key in derived.unsupported)
    assert groups(derived) == [("b", 6, "positive_scale")]
    assert "no rule, taken as fixed" in str(derived)


def test_dropout_with_a_key_of_its_own_is_a_function() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        h = jax.nn.relu(x @ theta["a"])
        kept = jax.random.bernoulli(jax.random.key(0), 0.5, h.shape)
        return jnp.where(kept, h, 0) @ theta["b"]

    # A mask of its own for every unit: nothing permutes, all may have one factor.
    derived = derive_spec(apply, weights((3, 4), (4, 2)), X)
    assert groups(derived) == [("a.factor", 1, "positive_scale")]


def test_operations_of_library_functions_are_where_they_are_called() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        return jnp.where(x @ theta["a"] > 0, x @ theta["a"], 0.3) @ theta["b"]

    # Traced before, on another line: JAX keeps what it traced.
    jax.make_jaxpr(lambda x: jnp.where(x > 0, x, 0.3))(jnp.ones((4, 5)))
    derived = derive_spec(apply, weights((3, 5), (5, 2)), jnp.ones((4, 3)), samples=0)
    line = apply.__code__.co_firstlineno + 1
    assert derived.rows[0].limit == f"where at test_operations.py:{line}"


def test_entries_written_into_an_array_keep_units_of_whole_axes() -> None:
    nodes = jnp.asarray([0, 1, 1, 0])

    def summed(theta: Any, x: jax.Array) -> jax.Array:
        h = jax.nn.relu(x @ theta["a"])
        return jax.ops.segment_sum(h, nodes, 2) @ theta["b"]

    def some_units(theta: Any, x: jax.Array) -> jax.Array:
        return jax.nn.relu(x @ theta["a"]).at[:, 0].set(0.0) @ theta["b"]

    theta, x = weights((3, 5), (5, 2)), jnp.ones((4, 3))
    assert groups(derive_spec(summed, theta, x)) == [("a", 5, "positive_scale")]
    # One factor of all units is left.
    assert groups(derive_spec(some_units, theta, x)) == [
        ("a.factor", 1, "positive_scale")
    ]
    assert not derive_spec(some_units, theta, x).unsupported


def test_arrays_without_entries_inside_a_function() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        none = (x @ theta["a"][:, :0]) @ theta["b"][:0]
        return two_layers(theta, x) + none

    theta, x = weights((3, 5), (5, 2)), jnp.ones((4, 3))
    derived = derive_spec(apply, theta, x)
    assert groups(derived) == [("a", 5, "permutation")]
    with pytest.raises(ValueError, match="inputs should have at least one entry"):
        derive_spec(two_layers, theta, x[:0])


def test_inputs_that_are_no_arrays_are_passed_on() -> None:
    def apply(theta: Any, x: jax.Array, key: jax.Array, train: bool, how: str) -> Any:
        assert isinstance(train, bool)
        h = getattr(jax.nn, how)(x @ theta["a"])
        h = h * jax.random.bernoulli(key, 0.5, (h.shape[0], 1)) if train else h
        return h @ theta["b"], jax.random.key_data(key), jnp.fft.fft(h @ theta["b"])

    theta, x = weights((3, 5), (5, 2)), jnp.ones((4, 3))
    key = jax.random.key(0)
    for train, how, group in (
        (True, "relu", "positive_scale"),
        (False, "tanh", "sign"),
    ):
        derived = derive_spec(apply, theta, x, key, train, how)
        assert groups(derived) == [("a", 5, group)]
        assert derived.checked
        assert derived.deficit is not None
        jax.tree.map(
            np.testing.assert_array_equal,
            derived.apply(theta, x, key, train, how),
            apply(theta, x, key, train, how),
        )


def test_derivatives_that_are_declared_otherwise_are_said() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(jax.nn.relu(x @ theta["a"])) @ theta["b"]

    derived = derive_spec(apply, weights((3, 5), (5, 2)), jnp.ones((4, 3)))
    assert derived.checked
    assert "stop_gradient, custom_jvp and custom_vjp" in derived.uncounted


def test_sizes_are_integers_of_python() -> None:
    """Operations may be told others, which no JSON holds."""

    def apply(theta: Any, x: jax.Array) -> jax.Array:
        left, right = jnp.split(x @ theta["a"], 2, axis=-1)
        return jnp.cumsum(jax.nn.relu(left), -1) * right @ theta["b"]

    derived = derive_spec(apply, weights((3, 6), (3, 2)), jnp.ones((4, 3)))
    assert json.loads(json.dumps(spaces.spec_to_dict(derived.spec)))


def test_complex_constants_are_no_real_ones() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        h = jax.nn.relu(x @ theta["a"]) * jnp.full((1, 5), 2j)
        return jnp.abs((h / 2j) @ theta["b"])

    derived = derive_spec(apply, weights((3, 5), (5, 2)), X)
    assert groups(derived) == [
        ("a", 5, "positive_scale"),
        ("b.factor", 1, "sign"),
    ]


def test_arrays_are_stacked_and_taken_apart() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        h = jnp.stack([x @ theta["a"], jax.nn.relu(x @ theta["b"])], axis=1)
        first, second = jnp.unstack(h, axis=1)
        return (first + second) @ theta["c"]

    def units(theta: Any, x: jax.Array) -> jax.Array:
        left, *rest = jnp.unstack(jax.nn.relu(x @ theta["a"]), axis=-1)
        return jnp.stack([left * 0, *rest], axis=-1) @ theta["c"]

    theta = weights((3, 5), (3, 5), (5, 2))
    derived = derive_spec(apply, theta, X)
    assert groups(derived) == [("a", 5, "positive_scale")]
    assert not derived.unsupported
    # Which unit is left out is no matter of order: units stand alone.
    assert not derive_spec(units, {"a": theta["a"], "c": theta["c"]}, X).unsupported


def test_slices_of_one_array_have_units_of_their_own() -> None:
    """Keys that are turned and values that are not, of one array."""

    def turned(x: jax.Array) -> jax.Array:
        angle = jnp.arange(5.0)[:, None] / 10.0 ** jnp.arange(2.0)[None] * 0.3
        a, b = jnp.split(x, 2, axis=-1)
        cos, sin = jnp.cos(angle)[None], jnp.sin(angle)[None]
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def apply(theta: Any, x: jax.Array) -> jax.Array:
        k, v = jnp.einsum("btd,cdh->cbth", x, theta["b"])
        scores = turned(x @ theta["a"]) @ jnp.swapaxes(turned(k), 1, 2)
        return jax.nn.softmax(scores) @ v @ theta["c"]

    theta = weights((3, 4), (2, 3, 4), (4, 2))
    derived = derive_spec(apply, theta, jnp.stack([X, 2 * X]), count_missing=True)
    assert groups(derived) == [("a", 4, "rotary"), ("b", 4, "general_linear")]
    assert derived.deficit is not None
    # Of 4 + 16, less what three rows and two columns of four do not feel.
    assert (derived.deficit.missing, derived.deficit.orbit) == (0, 18)


def test_slices_that_are_read_together_have_the_same_units() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        both = jax.nn.relu(jnp.einsum("nd,cdh->cnh", x, theta["a"]))
        return (both[0] * both[1] + both.sum(0)) @ theta["b"]

    derived = derive_spec(apply, weights((2, 3, 4), (4, 2)), X)
    assert groups(derived) == [("a", 4, "permutation")]
