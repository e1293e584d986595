"""Small weight spaces for the laws of layers: every group, and every hard case."""

import functools
import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qejax._typing import Array
from qejax.spaces import (
    Part,
    UnitSpace,
    WeightSpec,
    Wire,
    act_features,
    attention,
    conv,
    dense,
    low_rank,
    settled_spec,
)

GROUP_NAMES = ("permutation", "positive_scale", "sign")


def mlp(group: str, degree: int = 1, widths: tuple[int, int] = (3, 2)) -> WeightSpec:
    first = Wire(widths[0], "hidden_0", degree)
    second = Wire(widths[1], "hidden_1", degree)
    return WeightSpec(
        (
            UnitSpace("hidden_0", widths[0], group),
            UnitSpace("hidden_1", widths[1], group),
        ),
        (
            *dense("layer_00", Wire(2), first),
            *dense("layer_01", first, second),
            *dense("layer_02", second, Wire(2)),
        ),
    )


def residual(group: str) -> WeightSpec:
    """A layer that reads and writes one space, and one around it."""
    stream, inner = Wire(3, "stream"), Wire(2, "inner")
    return WeightSpec(
        (UnitSpace("stream", 3, group), UnitSpace("inner", 2, group)),
        (
            *dense("layer_00", Wire(1), stream),
            *dense("layer_01", stream, stream),
            *dense("layer_02", stream, inner, use_bias=False),
            *dense("layer_03", inner, stream),
            *dense("layer_04", stream, Wire(2)),
        ),
    )


def convolution(group: str) -> WeightSpec:
    """Two convolutions and a flatten: units move in blocks."""
    first = Wire(2, "hidden_0")
    second, flat = Wire(3, "hidden_1"), Wire(3, "hidden_1", blocks=2)
    return WeightSpec(
        (UnitSpace("hidden_0", 2, group), UnitSpace("hidden_1", 3, group)),
        (
            *conv("layer_00", (2, 1), Wire(1), first),
            *conv("layer_01", (2, 1), first, second),
            *dense("layer_02", flat, Wire(2)),
        ),
    )


def mixed() -> WeightSpec:
    """One space per group: relu, tanh, gelu."""
    relu, tanh, gelu = Wire(3, "relu"), Wire(2, "tanh"), Wire(2, "gelu")
    return WeightSpec(
        (
            UnitSpace("relu", 3, "positive_scale"),
            UnitSpace("tanh", 2, "sign"),
            UnitSpace("gelu", 2, "permutation"),
        ),
        (
            *dense("layer_00", Wire(2), relu),
            *dense("layer_01", relu, tanh),
            *dense("layer_02", tanh, gelu),
            *dense("layer_03", gelu, Wire(1)),
        ),
    )


SPECS: dict[str, WeightSpec] = {
    **{f"mlp-{group}": mlp(group) for group in GROUP_NAMES},
    **{f"residual-{group}": residual(group) for group in GROUP_NAMES},
    **{f"conv-{group}": convolution(group) for group in GROUP_NAMES},
    **{f"width_one-{group}": mlp(group, 1, (1, 1)) for group in GROUP_NAMES},
    "mixed": mixed(),
    "degree_two": mlp("positive_scale", 2),
}


def heads(stream: Wire, **options: Any) -> WeightSpec:
    """One attention layer from a stream to itself, without what settling takes out."""
    units = () if stream.space is None else (UnitSpace(stream.space, stream.size),)
    part = attention("", stream, stream, head_dim=2, **options)
    return settled_spec((Part(units) + part).spec())


def adapter() -> WeightSpec:
    """A layer with an adapter, from units that scale to units that flip."""
    first, second = Wire(3, "relu"), Wire(2, "tanh")
    leaves = dense("layer_01", first, second)
    pair = low_rank(leaves[0], 2, 1)
    return WeightSpec(
        (
            UnitSpace("relu", 3, "positive_scale"),
            *pair.spaces,
            UnitSpace("tanh", 2, "sign"),
        ),
        (*dense("layer_00", Wire(2), first), *leaves, *pair.leaves),
    )


HEADS: dict[str, WeightSpec] = {
    "heads": heads(Wire(2), heads=2),
    "heads on a stream": heads(Wire(3, "stream"), heads=2),
    "grouped": heads(Wire(2), heads=4, kv_heads=2),
    "adapter": adapter(),
}
"""Small weight spaces on which general linear maps act, too."""


def random_features(seed: int, spec: WeightSpec, channels: int) -> dict[str, Array]:
    """Float64 features of a spec."""
    rng = np.random.default_rng(seed)
    return {
        leaf.path: jnp.asarray(rng.standard_normal((*leaf.view, channels)))
        for leaf in spec.leaves
    }


def randomise(tree: Any, seed: int = 0, scale: float = 0.5) -> Any:
    """The tree with every leaf random, biases included, in its own dtype."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(scale * rng.standard_normal(x.shape), x.dtype), tree
    )


def random_module(make: Callable[[], nnx.Module], seed: int = 0) -> Any:
    """A module with random parameters, built without running its initialisers.

    Biases are zero at first; zeros would hide a wrong bias. Constants are its own.
    """
    with counted_keys():
        graph, params, rest = nnx.split(nnx.eval_shape(make), nnx.Param, ...)
    if jax.tree.leaves(rest):
        with counted_keys():
            rest = fast_jit(lambda: nnx.split(make(), nnx.Param, ...)[2])()
    return nnx.merge(graph, randomise(nnx.to_pure_dict(params), seed), rest)


def counted_keys() -> Any:
    """Has streams of keys count outside of the program: inside, tracing is slow."""
    number = itertools.count()
    return mock.patch.object(
        nnx.RngStream,
        "__call__",
        lambda own: jax.random.fold_in(own.key[...], next(number)),
    )


@functools.cache
def compiled_act(spec: WeightSpec) -> Callable[..., dict[str, Array]]:
    """`act_features` of a spec, `(g, feats) -> feats`."""
    return fast_jit(functools.partial(act_features, spec))


def fast_jit(function: Callable[..., Any]) -> Any:
    """`jax.jit` that spends less on optimising code that runs three times."""
    options = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    return jax.jit(function, compiler_options=options)


def relative_gap(got: Any, expected: Any) -> float:
    """Largest difference of any leaf, relative to the largest entry of that leaf."""
    gaps = jax.tree.map(
        lambda a, b: (
            np.max(np.abs(np.asarray(a) - np.asarray(b)))
            / max(float(np.max(np.abs(b))), 1e-30)
        ),
        got,
        expected,
    )
    return max(float(gap) for gap in jax.tree.leaves(gaps))
