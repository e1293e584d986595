"""What the laws are checked on: a new network, group or layer is a new row here.

Weights and inputs are drawn by NumPy, so that drawing compiles nothing; `compiled`
keeps one program per row and process, so that every law of a row shares it.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qejax import _trees, groups, layers, nets, spaces
from qejax.spaces import Elements, WeightSpec

RTOL = 1e-10
"""Of every law in float64; what rounding leaves is five orders below."""

SPREAD = 1e4
"""Scales are drawn from `[1 / SPREAD, SPREAD]`."""


class Row(NamedTuple):
    """An input network and the shape of one of its inputs."""

    net: nets.Network
    inputs: tuple[int, ...]


NETS: dict[str, Row] = {
    "linear, no hidden layer": Row(nets.mlp((4, 3)), (4,)),
    "one hidden layer": Row(nets.mlp((3, 5, 2)), (3,)),
    "width one": Row(nets.mlp((2, 1, 1, 2), "leaky_relu"), (2,)),
    "unequal widths": Row(nets.mlp((3, 7, 2, 5, 1)), (3,)),
    "equal widths": Row(nets.mlp((4, 4, 4, 4)), (4,)),
    "five hidden layers": Row(nets.mlp((3, 4, 5, 4, 5, 4, 2)), (3,)),
    "tanh": Row(nets.mlp((3, 5, 4, 2), "tanh"), (3,)),
    "gelu": Row(nets.mlp((3, 5, 4, 2), "gelu"), (3,)),
    "relu squared": Row(nets.mlp((3, 5, 4, 2), "relu^2"), (3,)),
    "relu cubed": Row(nets.mlp((3, 4, 4, 2), "relu^3"), (3,)),
    "relu to the tenth": Row(nets.mlp((3, 4, 2), "relu^10"), (3,)),
    "abs, then identity": Row(nets.mlp((3, 5, 4, 2), ("abs", "identity")), (3,)),
    "mixed": Row(
        nets.mlp((3, 4, 5, 4, 3, 2), ("relu", "tanh", "gelu", "relu^2")), (3,)
    ),
    "residual": Row(nets.mlp((3, 5, 5, 5, 2), residual=True), (3,)),
    "residual tanh, then narrow": Row(
        nets.mlp((3, 5, 5, 4, 4, 2), "tanh", residual=True), (3,)
    ),
    "cnn, strided, gap": Row(nets.cnn(1, (3, 4), 3, 2, num_outputs=3), (8, 8, 1)),
    "cnn, same, flatten": Row(
        nets.cnn(
            2, (3, 2), padding="SAME", head="flatten", image=(4, 3), num_outputs=3
        ),
        (4, 3, 2),
    ),
    "cnn, uneven windows and strides, mixed": Row(
        nets.cnn(
            1,
            (3, 2),
            ((3, 2), 1),
            ((2, 1), 1),
            padding=("VALID", "SAME"),
            activation=("relu^3", "tanh"),
            head="flatten",
            image=(7, 6),
            num_outputs=2,
        ),
        (7, 6, 1),
    ),
    "cnn, 5x5": Row(
        nets.cnn(1, (2, 3), 5, 2, padding="SAME", num_outputs=2), (7, 7, 1)
    ),
    "cnn, 1x7 then 4x4": Row(
        nets.cnn(1, (3, 2), ((1, 7), (4, 4)), num_outputs=2), (5, 11, 1)
    ),
    "cnn, strides beyond the window": Row(
        nets.cnn(2, (3, 2), 2, 3, padding=("VALID", "SAME"), num_outputs=2), (9, 8, 2)
    ),
    "residual cnn": Row(nets.cnn(1, (3, 2), blocks=1, num_outputs=2), (6, 6, 1)),
}
"""Input networks by name, with the shape of one input."""

DEAF = {name: row for name, row in NETS.items() if not row.net.spec.spaces}
MOVED = {name: row for name, row in NETS.items() if row.net.spec.spaces}
"""Rows without and with hidden units; only the latter have a symmetry."""

GROUPS = groups.GROUPS
"""Groups by name; every law of groups runs over all of them."""

SIZES = (1, 2, 5)
"""Numbers of units on which the laws of a group are checked."""


class LayerRow(NamedTuple):
    """A layer, and the law that it promises: "strict" (`g' = g`) or "quasi".

    `build` takes a spec, channels in and out, and `rngs=`. A quasi-equivariant row has
    an attribute `alpha` that returns scales `[n_s]`.
    """

    build: Callable[..., Any]
    law: str


def with_alpha(alpha: Callable[..., Any], channels_out: bool) -> Callable[..., Any]:
    """The layer `alpha beta` with a strict linear `beta`."""

    def build(spec: WeightSpec, c_in: int, c_out: int, *, rngs: nnx.Rngs) -> Any:
        sizes = (c_in, c_out) if channels_out else (c_in,)
        return layers.QuasiEquivariant(
            functools.partial(alpha, spec, *sizes),
            functools.partial(layers.MonomialLinear, spec, c_in, c_out),
            rngs=rngs,
        )

    return build


LAYERS: dict[str, LayerRow] = {
    "monomial_linear": LayerRow(layers.MonomialLinear, "strict"),
    "bounded": LayerRow(
        functools.partial(layers.MonomialLinear, max_fixed=1, max_rank=2), "strict"
    ),
    "covariant_stream": LayerRow(layers.CovariantStream, "strict"),
    "relative": LayerRow(with_alpha(layers.RelativeAlpha, True), "strict"),
    "relative_exp": LayerRow(
        with_alpha(functools.partial(layers.RelativeAlpha, bound="exp"), True), "strict"
    ),
    "gauge": LayerRow(with_alpha(layers.GaugeAlpha, False), "quasi"),
}
"""Layers by name, for the laws that run over all of them."""

STRICT = tuple(name for name, row in LAYERS.items() if row.law == "strict")
QUASI = tuple(name for name, row in LAYERS.items() if row.law == "quasi")


def rng(seed: int) -> np.random.Generator:
    """A NumPy generator."""
    return np.random.default_rng(seed)


def theta_of(
    spec: WeightSpec, seed: int, dtype: Any = jnp.float64, batch: tuple[int, ...] = ()
) -> Any:
    """Random weights of a spec; biases are positive, so that few units are dead.

    A unit that is never active keeps the function under anything, and a law that is
    checked on it checks nothing.
    """
    draw = rng(seed)
    leaves = {}
    for leaf in spec.leaves:
        shape = (*batch, *leaf.stored)
        if len(leaf.stored) == 1:
            values = draw.uniform(0.1, 0.6, shape)
        else:
            values = draw.normal(size=shape) / math.sqrt(math.prod(leaf.stored[:-1]))
        leaves[leaf.path] = jnp.asarray(values, dtype)
    return _trees.nest(leaves)


def inputs_of(row: Row, seed: int = 0, number: int = 16, dtype: Any = None) -> Any:
    """Random inputs of a network, `[number, *row.inputs]`."""
    x = rng(1000 + seed).normal(size=(number, *row.inputs))
    return jnp.asarray(x, dtype or jnp.float64)


def element_of(
    spec: WeightSpec, seed: int, spread: float = SPREAD, dtype: Any = jnp.float64
) -> Elements:
    """A random element of the group of a spec, by NumPy: a second sampler."""
    draw = rng(2000 + seed)
    scales: dict[str, Callable[[int], np.ndarray]] = {
        "permutation": np.ones,
        "positive_scale": lambda n: spread ** draw.uniform(-1, 1, n),
        "sign": lambda n: draw.choice([-1.0, 1.0], n),
    }
    return {
        space.name: groups.Monomial(
            jnp.asarray(draw.permutation(space.size)),
            jnp.asarray(scales[space.group](space.size), dtype),
        )
        for space in spec.spaces
    }


class Compiled(NamedTuple):
    """The jitted functions of one network."""

    act: Callable[..., Any]
    mul: Callable[..., Any]
    inv: Callable[..., Any]
    apply: Callable[..., Any]
    ravel: Callable[..., Any]


@functools.cache
def compiled(name: str) -> Compiled:
    """One program per network and function, shared by all laws of a process."""
    net = NETS[name].net
    return Compiled(
        jax.jit(functools.partial(spaces.act, net.spec)),
        jax.jit(functools.partial(spaces.mul, net.spec)),
        jax.jit(functools.partial(spaces.inv, net.spec)),
        jax.jit(net.apply),
        jax.jit(functools.partial(spaces.ravel, net.spec)),
    )


def gap(got: Any, expected: Any) -> float:
    """Largest difference relative to the largest expected entry, over a tree."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return max(_gap(np.asarray(a), np.asarray(b)) for a, b in pairs)


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    assert np.all(np.isfinite(a))
    assert np.all(np.isfinite(b))
    return float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), 1e-300))
