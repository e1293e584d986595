"""`derive_spec` on small functions: what is said, what is refused, modules of Flax."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from qejax import spaces, testing
from qejax.derive import derive_spec
from tests.derive.small import X, two_layers, weights


def test_the_operation_that_limits_is_named_with_its_line() -> None:
    derived = derive_spec(two_layers, weights((3, 4), (4, 2)), X)
    (row,) = derived.rows
    line = two_layers.__code__.co_firstlineno + 1
    assert row.said == f"permutation only: gelu at small.py:{line}"
    assert row.moves == ("a[1]", "b[0]")
    assert row.said.split(": ")[1] in str(derived)


def test_missing_directions_are_counted_and_said() -> None:
    def product(theta: Any, x: jax.Array) -> jax.Array:
        # Both columns of `b` see the sum of the units alone: more than any order.
        return jnp.tanh(x @ theta["a"]) @ (theta["b"] + theta["b"][:, ::-1])

    derived = derive_spec(product, weights((3, 4), (4, 2)), X)
    assert derived.deficit is not None
    assert derived.deficit.missing == 4
    assert "4 of 4 directions that change no output" in str(derived)
    full = derive_spec(two_layers, weights((3, 4), (4, 2)), X)
    assert full.deficit is not None
    assert full.deficit.missing == 0


@pytest.mark.parametrize(
    ("between", "group"),
    [
        (lambda h: h, "general_linear"),
        (jax.nn.relu, "positive_scale"),
        (jnp.tanh, "sign"),
        (jax.nn.gelu, "permutation"),
        (lambda h: h / jnp.linalg.norm(h, axis=-1, keepdims=True), "orthogonal"),
        (lambda h: h - h.mean(-1, keepdims=True), "orthogonal_ones"),
        (lambda h: jnp.cumsum(h, -1), None),
        (lambda h: h * jnp.arange(1.0, 5.0)[None], None),
    ],
)
def test_what_stands_between_two_layers_says_the_group(
    between: Any, group: str | None
) -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        return between(x @ theta["a"]) @ theta["b"]

    derived = derive_spec(apply, weights((3, 4), (4, 2)), X)
    found = [s.group for s in derived.spec.spaces if s.size > 1]
    assert found == ([group] if group else [])


def test_weights_that_are_never_read_are_free() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        del theta["b"]
        return jax.nn.relu(x @ theta["a"]) @ theta["c"]

    derived = derive_spec(
        lambda theta, x: apply(dict(theta), x), weights((3, 4), (7, 7), (4, 2)), X
    )
    assert derived.free == ("b",)
    assert "never read, free: b" in str(derived)
    assert all(axis.space is None for axis in derived.spec.leaf_by_path["b"].axes)


def test_free_axes_of_inputs_and_outputs_move() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ theta["a"])

    fixed = derive_spec(apply, weights((3, 4)), X)
    assert fixed.spec.spaces == ()
    free = derive_spec(
        apply, weights((3, 4)), X, free_inputs=[(0, 1)], free_outputs=[(0, 1)]
    )
    kinds = sorted((s.size, s.group) for s in free.spec.spaces)
    assert kinds == [(3, "general_linear"), (4, "sign")]
    assert free.inputs[0].axes[1].space == free.spec.leaves[0].axes[0].space
    assert free.outputs[0].axes[1].space == free.spec.leaves[0].axes[1].space


class Perceptron(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(8, name="up")(x))
        return nn.Dense(2, name="down")(nn.relu(x))


class Pair(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List(
            [nnx.Linear(3, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)]
        )
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layers[1](self.dropout(jnp.tanh(self.layers[0](x))))


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_modules_of_flax(kind: str) -> None:
    model: Any = Perceptron() if kind == "linen" else Pair(nnx.Rngs(0))
    with jax.numpy_rank_promotion("allow"):
        derived = derive_spec(model, X)
    expected = {
        # Statistics move with the units; what the epsilon fixes is their size.
        "linen": ["params.BatchNorm_0"],
        "nnx": ["layers.0"],
    }
    assert [s.name for s in derived.spec.spaces][: len(expected[kind])] == (
        expected[kind]
    )
    # As the module has them, so that they go where its own weights go.
    assert {a.dtype for a in jax.tree.leaves(derived.theta)} == {jnp.dtype("float32")}
    g = spaces.sample(jax.random.key(0), derived.spec, dtype=jnp.float64)
    theta = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), derived.theta)
    moved = spaces.act(derived.spec, g, theta)
    with jax.numpy_rank_promotion("allow"):
        before, after = (derived.apply(t, X) for t in (theta, moved))
    np.testing.assert_allclose(after, before, rtol=1e-10, atol=1e-12)


def test_a_module_without_weights_is_refused() -> None:
    class Nothing(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return x

    with pytest.raises(ValueError, match="module should have floating variables"):
        derive_spec(Nothing(), X)


def test_leaves_that_are_no_floating_arrays_are_refused() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        return x @ theta["a"]

    theta = weights((3, 2))
    with pytest.raises(ValueError, match=r"leaf 'n' of theta should be .* got int"):
        derive_spec(apply, {**theta, "n": jnp.arange(3)}, X)
    with pytest.raises(ValueError, match=r"leaf 'n' of theta .* got str"):
        derive_spec(apply, {**theta, "n": "relu"}, X)
    with pytest.raises(ValueError, match="theta should have at least one array"):
        derive_spec(apply, {}, X)


def test_functions_that_are_none_are_refused() -> None:
    theta = weights((3, 2))
    draw = np.random.default_rng(0)

    def noisy(theta: Any, x: jax.Array) -> jax.Array:
        return x @ theta["a"] + draw.normal()

    def talking(theta: Any, x: jax.Array) -> jax.Array:
        jax.debug.print("{}", x)
        return x @ theta["a"]

    def words(theta: Any, x: jax.Array) -> Any:
        return {"y": x @ theta["a"], "name": "linear"}

    with pytest.raises(
        ValueError, match="got two that differ: it is not deterministic"
    ):
        derive_spec(noisy, theta, X)
    with pytest.raises(ValueError, match="expected a pure function, got one with side"):
        derive_spec(talking, theta, X)
    with pytest.raises(ValueError, match="function should return arrays, got str at"):
        derive_spec(words, theta, X)


def test_repeated_blocks_are_one_line() -> None:
    def apply(theta: Any, x: jax.Array) -> jax.Array:
        for n in range(12):
            x = x + jax.nn.gelu(x @ theta[f"up_{n}"]) @ theta[f"down_{n}"]
        return x

    draw = np.random.default_rng(0)
    theta = {f"up_{n}": jnp.asarray(draw.normal(size=(3, 8))) for n in range(12)}
    theta |= {f"down_{n}": jnp.asarray(draw.normal(size=(8, 3))) for n in range(12)}
    derived = derive_spec(apply, theta, X, count_missing=False)
    assert len(derived.spec.spaces) == 12
    lines = str(derived).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("up_{0..11} (x12)")


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    derived = derive_spec(two_layers, weights((3, 4), (4, 2)), X)
    derived.draw(tmp_path / "spec.png")
    assert (tmp_path / "spec.png").stat().st_size > 1000


def test_a_picture_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    derived = derive_spec(two_layers, weights((3, 4), (4, 2)), X)
    with pytest.raises(ImportError, match="drawing needs matplotlib, which is not"):
        derived.draw(tmp_path / "spec.png")


def test_a_wrong_group_is_found_on_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a rule that forgets what a map does to factors is caught."""
    from qejax.derive import _rules
    from qejax.derive._elementwise import Law, mapped

    law = Law(None, "odd")
    monkeypatch.setitem(
        _rules.RULES,
        "exp",
        lambda ledger, site, values: [mapped(ledger, values[0], law)],
    )

    def apply(theta: Any, x: jax.Array) -> jax.Array:
        return jnp.exp(x @ theta["a"]) @ theta["b"]

    with pytest.raises(AssertionError, match=r"should keep the function .* of 'a'"):
        derive_spec(apply, weights((3, 4), (4, 2)), X)


def test_a_derived_spec_is_an_ordinary_one() -> None:
    theta = weights((3, 6), (6, 4), (4, 2))

    def apply(theta: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(jax.nn.relu(x @ theta["a"]) @ theta["b"]) @ theta["c"]

    spec = derive_spec(apply, theta, X).spec
    assert spaces.spec_from_dict(spaces.spec_to_dict(spec)) == spec
    testing.assert_function_kept(apply, spec, theta, X, jax.random.key(0))
