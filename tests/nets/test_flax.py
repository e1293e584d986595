"""Specs of Flax models, on the models themselves: true as claimed, wrong if not."""

import copy
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from qejax import _trees, models, nets, spaces, testing
from tests.layer_specs import fast_jit
from tests.nets.drawing import drawn, gaps


@pytest.fixture(autouse=True)
def _flax_promotes() -> Iterator[None]:
    """Flax adds biases and scales to what has more axes."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def images(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(9).normal(size=shape))


def shapes_of(model: nn.Module, *inputs: jax.Array) -> Any:
    return jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]


CROSS = nn.MultiHeadDotProductAttention(2, qkv_features=6, out_features=5)
INPUTS = (images(3, 4, 6), images(3, 5, 4), images(3, 5, 2))


def test_attention_has_its_whole_symmetry() -> None:
    """Queries, keys and values read streams of three widths here."""
    theta = drawn(shapes_of(CROSS, *INPUTS))
    spec = nets.flax_spec(theta)
    assert [(s.name, s.group, s.per) for s in spec.spaces] == [
        ("heads", "permutation", None),
        ("vo", "general_linear", "heads"),
        ("qk", "general_linear", "heads"),
    ]
    assert [shift.name for shift in spec.shifts] == ["key_shift", "value_shift"]
    assert spec.leaf_by_path["value/kernel"].stored == (2, 2, 3)
    report = testing.function_kept(
        fast_jit(lambda theta, x: CROSS.apply({"params": theta}, x, *INPUTS[1:])),
        spec,
        theta,
        INPUTS[0],
        jax.random.key(1),
    )
    assert report.passed, report.message()
    assert report.gap < 1e-10


class Block(nn.Module):
    """As users write them: norms, a skip, feed-forward, modules named by Linen."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        units = nn.gelu(nn.Dense(5)(nn.LayerNorm()(x)))
        return x + nn.Dense(4, use_bias=False)(units)


class Encoder(nn.Module):
    """Two blocks, and attention with Flax's norm of queries and keys."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Block()(Block()(x))
        x = nn.SelfAttention(2, normalize_qk=True, use_bias=False)(x)
        return nn.Dense(2)(x.mean(1))


@pytest.mark.filterwarnings("ignore:SelfAttention will be deprecated")
def test_blocks_of_linen() -> None:
    x = images(6, 3, 4)
    model = Encoder()
    shapes = shapes_of(model, x)
    theta = drawn(shapes)
    hidden = {"Block_0/Dense_0": ("gelu", "Block_0/Dense_1")}
    spec = nets.flax_spec(shapes, hidden=hidden)
    wrong = {"Block_0/Dense_0": ("tanh", "Block_0/Dense_1")}
    normed = {"SelfAttention_0/query_ln", "SelfAttention_0/key_ln"}
    claims_norms = spaces.WeightSpec(
        (*spec.spaces, spaces.UnitSpace("q", 2, "general_linear")),
        tuple(_through_the_norm(leaf) for leaf in spec.leaves),
    )
    kept, *broken = gaps(
        lambda theta, x: model.apply({"params": theta}, x),
        theta,
        x,
        spec,
        nets.flax_spec(shapes, hidden=wrong),
        claims_norms,
    )
    assert kept < 1e-10
    assert min(broken) > 1e-3
    assert {leaf.path for leaf in spec.leaves} == set(_trees.flatten(theta))
    assert {f"{path}/scale" for path in normed} <= set(spec.leaf_by_path)
    names = {space.name for space in spec.spaces}
    for path in ("Block_0.MultiHeadDotProductAttention_0", "SelfAttention_0"):
        assert f"{path}.vo" in names
        assert (f"{path}.qk" in names) == path.startswith("Block")


def _through_the_norm(leaf: spaces.Leaf) -> spaces.Leaf:
    """A wrong claim: GL(d) of queries and keys that pass a norm."""
    power = {"query": 1, "key": -1}.get(leaf.path.split("/")[-2], 0)
    if not leaf.path.startswith("SelfAttention_0/") or not power:
        return leaf
    return spaces.Leaf(leaf.path, (*leaf.axes[:-1], spaces.Axis(2, "q", power)))


class Stack(nnx.Module):
    """Blocks in a list, whose keys are integers; keys and values are shared."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        # Without dropout Flax takes a softmax in float32.
        self.blocks = nnx.List(
            nnx.MultiHeadAttention(
                4,
                4,
                8,
                num_kv_heads=n,
                dropout_rate=0.1,
                keep_rngs=False,
                decode=False,
                rngs=rngs,
            )
            for n in (2, 1)
        )
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = x + block(x, deterministic=True)
        return self.head(x.mean(1))


def test_blocks_of_nnx() -> None:
    model = nnx.eval_shape(lambda: Stack(nnx.Rngs(0)))
    graph, state = nnx.split(model)
    pure = nnx.to_pure_dict(state)
    spec = nets.flax_spec(pure)
    theta, x = drawn(pure), images(5, 3, 4)
    apply = lambda theta, x: nnx.merge(graph, theta)(x)  # noqa: E731
    (gap,) = gaps(apply, theta, x, spec)
    assert gap < 1e-10
    assert [s.name for s in spec.spaces if s.name.startswith("blocks.0")] == [
        "blocks.0.heads",
        "blocks.0.vo",
        "blocks.0.queries",
        "blocks.0.qk",
    ]
    # A state of variables has one more key, and the same symmetry.
    boxed = nets.flax_spec(state)
    assert boxed.spaces == spec.spaces
    assert "blocks/1/out/kernel/value" in boxed.leaf_by_path
    assert len(boxed.shifts) == len(spec.shifts) == 4
    spaces.check_theta(boxed, state)


def rotated(x: jax.Array) -> jax.Array:
    angle = jnp.arange(x.shape[-3])[:, None, None] * jnp.array([1.0, 0.3])
    a, b = jnp.split(x, 2, -1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def rotary(query: Any, key: Any, value: Any, **options: Any) -> jax.Array:
    return nn.dot_product_attention(rotated(query), rotated(key), value, **options)


def test_rotary_embedding_is_said_by_the_user() -> None:
    model = nn.MultiHeadDotProductAttention(2, qkv_features=8, attention_fn=rotary)
    x = images(3, 4, 6)
    theta = drawn(shapes_of(model, x))
    asked = []

    def qk(path: str) -> str:
        asked.append(path)
        return "rotary"

    specs = [nets.flax_spec(theta, qk=how) for how in (qk, None, "general_linear")]
    assert asked == [""]
    assert [len(spec.shifts) for spec in specs] == [1, 1, 2]
    apply = lambda theta, x: model.apply({"params": theta}, x)  # noqa: E731
    kept, none, wrong = gaps(apply, theta, x, *specs)
    assert max(kept, none) < 1e-10
    assert wrong > 1e-3


def kernels(**shapes: tuple[int, ...]) -> Any:
    return {name: {"kernel": jnp.zeros(shape)} for name, shape in shapes.items()}


GOOD = kernels(query=(6, 4, 3), key=(6, 2, 3), value=(6, 2, 3), out=(4, 3, 6))


def changed(**shapes: tuple[int, ...] | None) -> Any:
    tree = {"attn": {**GOOD}}
    for name, shape in shapes.items():
        if shape is None:
            del tree["attn"][name]
        else:
            tree["attn"][name] = {"kernel": jnp.zeros(shape)}
    return tree


BAD: dict[str, tuple[Any, str]] = {
    "heads": (changed(key=(6, 3, 3), value=(6, 3, 3)), "divide the 4 heads .* got 3"),
    "groups": (
        changed(value=(6, 4, 3)),
        r"'attn/value/kernel' should have shape \(6, 2, 3\), .* got \(6, 4, 3\)",
    ),
    "width": (
        changed(key=(6, 2, 5)),
        r"'attn/key/kernel' should have shape \(6, 2, 3\), .* got \(6, 2, 5\)",
    ),
    "out": (
        changed(out=(4, 2, 6)),
        r"'attn/out/kernel' should have shape \(4, 3, 6\), .* got \(4, 2, 6\)",
    ),
    "bias": (
        {"attn": {**GOOD, "key": {**GOOD["key"], "bias": jnp.zeros((3, 2))}}},
        r"'attn/key/bias' should have shape \(2, 3\), .* got \(3, 2\)",
    ),
    "missing": (
        changed(out=None),
        r"attention 'attn' should have .* got none at \['attn/out/kernel'\]",
    ),
    "two axes": (
        changed(query=(6, 12)),
        r"'attn/query/kernel' should have three axes.* got \(6, 12\)",
    ),
    "beside": (
        changed(table=(7, 4)),
        "nothing else, got 'attn/table/kernel' as well.* attention=",
    ),
    "cache": (
        {"params": GOOD, "cache": {"cached_key": jnp.zeros((1, 2))}},
        r"'cache/cached_key' should be .* a parameter, got a cache.*variables\['params",
    ),
    "keys": (
        {**GOOD, "rngs": jax.random.key(0)},
        r"'rngs' should be a floating array, .* got key<fry>",
    ),
    "numbers": ({"scale": 1.5}, "'scale' should be a floating array, .* got float"),
    "empty": ({}, "expected parameters, at least one leaf, got none"),
}


@pytest.mark.parametrize("case", BAD)
def test_trees_that_do_not_fit_are_refused(case: str) -> None:
    tree, message = BAD[case]
    with pytest.raises(ValueError, match=f"flax_spec: .*{message}"):
        nets.flax_spec(tree)


def test_what_is_attention_can_be_said() -> None:
    """A subtree that only looks like attention, and one with a neighbour inside."""
    search = kernels(query=(6, 4), key=(6, 4))
    with pytest.raises(ValueError, match=r"'search' should have the kernels"):
        nets.flax_spec({"attn": GOOD, "search": search})
    tree = {**changed(table=(7, 4)), "search": search}
    spec = nets.flax_spec(tree, attention=["attn"])
    assert [s.name for s in spec.spaces][:2] == ["attn.heads", "attn.vo"]
    assert nets.flax_spec(tree, attention="attn") == spec
    assert nets.flax_spec(GOOD, attention="") == nets.flax_spec(GOOD)
    assert nets.flax_spec(tree, attention=[]).spaces == ()
    assert nets.flax_spec(kernels(query=(6, 4), out=(4, 2))).spaces == ()
    with pytest.raises(ValueError, match=r"attention 'no' should have the kernels"):
        nets.flax_spec(tree, attention=["no"])
    with pytest.raises(
        ValueError, match=r"expected one of .* for the attention '', got 'orthogonal'"
    ):
        nets.flax_spec(GOOD, qk="orthogonal")


MLP = {
    f"Dense_{n}": {"kernel": jnp.zeros(shape), "bias": jnp.zeros(shape[-1])}
    for n, shape in enumerate([(3, 4), (4, 5), (5, 2)])
}


def test_chains_of_hidden_layers() -> None:
    chain = {"Dense_0": ("relu^2", "Dense_1"), "Dense_1": ("tanh", "Dense_2")}
    spec = nets.flax_spec(MLP, hidden=chain)
    expected = nets.mlp_spec((3, 4, 5, 2), ("relu^2", "tanh"))
    assert [(s.size, s.group) for s in spec.spaces] == [
        (s.size, s.group) for s in expected.spaces
    ]
    powers = {
        leaf.path.replace("Dense_", "layer_0"): [axis.power for axis in leaf.axes]
        for leaf in spec.leaves
    }
    assert powers == {
        leaf.path: [axis.power for axis in leaf.axes] for leaf in expected.leaves
    }


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ({"Dense_9": ("relu", "Dense_1")}, "layers with a kernel, .* got 'Dense_9'"),
        (
            {"Dense_0": ("relu", "Dense_2")},
            r"'Dense_2/kernel' should have the 4 units .* axis -2 .* shape \(5, 2\)",
        ),
        (
            {"Dense_1": ("relu", "Dense_2"), "Dense_0": ("relu", "Dense_1")},
            "network order, got 'Dense_1' before 'Dense_0'",
        ),
        ({"Dense_0": ("swish", "Dense_1")}, "activation 'swish' is unknown"),
    ],
)
def test_hidden_layers_that_are_none(hidden: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.flax_spec(MLP, hidden=hidden)


class Swapped(nn.Module):
    """As it is easily written: the layer that is made first runs last."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(4)(nn.relu(nn.Dense(4)(x)))


def test_swapped_layers_are_seen_by_the_check_alone() -> None:
    model, x = Swapped(), images(9, 4)
    theta = drawn(shapes_of(model, x))
    good = nets.flax_spec(theta, hidden={"Dense_1": ("relu", "Dense_0")})
    wrong = nets.flax_spec(theta, hidden={"Dense_0": ("relu", "Dense_1")})
    assert models.Predictor(wrong, 0, rngs=nnx.Rngs(0))(theta).shape == ()
    check = functools.partial(
        testing.assert_function_kept,
        lambda theta, x: model.apply({"params": theta}, x),
        theta=theta,
        x=x,
        key=jax.random.key(0),
    )
    check(spec=good)
    with pytest.raises(AssertionError, match=r"Dense_0\.units"):
        check(spec=wrong)


def test_stacked_networks_are_told_to_give_one() -> None:
    stacked = jax.tree.map(lambda a: jnp.stack([a, a]), GOOD)
    with pytest.raises(ValueError, match=r"three axes.*lambda a: a\[0\], params"):
        nets.flax_spec(stacked)
    one = jax.tree.map(lambda a: a[0], stacked)
    spec = nets.flax_spec(one)
    with pytest.raises(ValueError, match=r"jax.vmap for many, .*a\[0\], theta"):
        spaces.check_theta(spec, stacked)
    # Without attention nothing tells an axis over networks from one of the network.
    layers = jax.tree.map(lambda a: jnp.stack([a, a]), MLP)
    spec = nets.flax_spec(layers, hidden={"Dense_0": ("relu", "Dense_1")})
    with pytest.raises(ValueError, match=r"if made from stacked .*a\[0\], params"):
        spaces.check_theta(spec, MLP)


def test_the_first_leaf_that_differs_is_named() -> None:
    spec = nets.flax_spec({"a": GOOD, "b": GOOD})
    tree = copy.copy({"a": {**GOOD}, "b": GOOD})
    tree["a"]["key"] = {"weights": jnp.zeros(2)}
    with pytest.raises(
        ValueError, match=r"first difference is at 'a/key/kernel': .*\(8 in all\)"
    ):
        spaces.check_theta(spec, tree)
