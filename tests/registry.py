"""What the laws are checked on: a new network, group or layer is a new row here.

Weights and inputs are drawn by NumPy, so that drawing compiles nothing; `compiled`
keeps one program per row and process, so that every law of a row shares it.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.architectures import MLPS_AND_CNNS, TRANSFORMERS, Row
from qejax import _trees, groups, layers, spaces
from qejax.spaces import Elements, Leaf, WeightSpec
from tests.layer_specs import fast_jit

RTOL = 1e-10
"""Of every law in float64; what rounding leaves is five orders below."""

SPREAD = 1e4
"""Scales are drawn from `[1 / SPREAD, SPREAD]`."""


COND = 1e2
"""Condition number of matrices: a product of two loses four digits of sixteen."""


NETS = MLPS_AND_CNNS | TRANSFORMERS
"""Input networks by name, with the shape of one input."""

DEAF = {name: row for name, row in NETS.items() if not row.net.spec.spaces}
MOVED = {name: row for name, row in NETS.items() if row.net.spec.spaces}
"""Rows without and with hidden units; only the latter have a symmetry."""

MOVED_MLPS_AND_CNNS = {
    name: row for name, row in MOVED.items() if name in MLPS_AND_CNNS
}
"""The rows of `MOVED` whose leaves layers read."""

GROUPS = groups.GROUPS
"""Groups by name; every law of groups runs over all of them."""

SIZES = {
    name: (1, 2, 5) if row.monomial else (1, 4) for name, row in GROUPS.items()
} | {"rotary": (2, 4), "orthogonal_ones": (2, 4)}
"""Numbers of units on which the laws of a group are checked."""

POWERS = {
    name: (1, 0, -1) if row.monomial is None else (1, 0, -1, -2)
    for name, row in GROUPS.items()
}
"""Powers with which an axis can move; a matrix has no other."""


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
            values = draw.normal(size=shape) / math.sqrt(_fan_in(leaf))
        leaves[leaf.path] = jnp.asarray(values, dtype)
    return _trees.nest(leaves)


def _fan_in(leaf: Leaf) -> int:
    """How many numbers an entry of the next layer sums; heads `[E, H, d]` read `E`."""
    heads = leaf.path.endswith(("query/kernel", "key/kernel", "value/kernel"))
    return leaf.stored[0] if heads else math.prod(leaf.stored[:-1])


def inputs_of(row: Row, seed: int = 0, number: int = 16, dtype: Any = None) -> Any:
    """Random inputs of a network, `[number, *row.inputs]`."""
    if row.vocabulary is not None:
        shape = (number, *row.inputs)
        return jnp.asarray(rng(1000 + seed).integers(row.vocabulary, size=shape))
    x = rng(1000 + seed).normal(size=(number, *row.inputs))
    return jnp.asarray(x, dtype or jnp.float64)


def element_of(
    spec: WeightSpec, seed: int, spread: float = SPREAD, dtype: Any = jnp.float64
) -> Elements:
    """A random element of the group of a spec, by NumPy: a second sampler."""
    draw = rng(2000 + seed)
    g: Elements = {}
    for space in spec.spaces:
        lead = spec.per_size(space)
        many = [
            unit_element(draw, space.group, space.size, spread)
            for _ in range(math.prod(lead))
        ]
        one = jax.tree.map(lambda *x: np.stack(x), *many) if lead else many[0]
        g[space.name] = jax.tree.map(lambda x: _of_dtype(x, dtype), one)
    for shift in spec.shifts:
        g[shift.name] = jnp.asarray(draw.normal(size=spec.shift_size(shift)), dtype)
    return g


def _of_dtype(x: np.ndarray, dtype: Any) -> jax.Array:
    return jnp.asarray(x, None if np.issubdtype(x.dtype, np.integer) else dtype)


def unit_element(
    draw: np.random.Generator, group: str, size: int, spread: float = SPREAD
) -> Any:
    """A random element of a group, NumPy arrays; matrices have condition `COND`."""
    scales: dict[str, Callable[[], np.ndarray]] = {
        "permutation": lambda: np.ones(size),
        "positive_scale": lambda: spread ** draw.uniform(-1, 1, size),
        "sign": lambda: draw.choice([-1.0, 1.0], size),
    }
    perm: Any
    if group == "dihedral":
        perm, turns = draw.permutation(size), draw.integers(-3, 4, size, dtype=np.int32)
        flips: Any = draw.choice([-1.0, 1.0], size)
        return groups.Dihedral(perm, flips, cast(Any, turns))
    if group in scales:
        perm = draw.permutation(size)
        scale: Any = scales[group]()
        return groups.Monomial(perm, scale)
    sizes = min(spread, COND) ** draw.uniform(-0.5, 0.5, size)
    if group == "rotary":
        angles = draw.uniform(-np.pi, np.pi, size // 2)
        turns = np.stack([np.cos(angles), np.sin(angles)], -1)
        return sizes[: size // 2, None] * turns
    if group == "orthogonal":
        return _orthogonal(draw, size)
    if group == "orthogonal_ones":
        basis = groups.fixed_ones_basis(size)
        return basis @ _orthogonal(draw, size - 1) @ basis.T + 1 / size
    assert group in ("general_linear", "absorbed", "linear_stream"), group
    return (_orthogonal(draw, size) * sizes) @ _orthogonal(draw, size)


def _orthogonal(draw: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(draw.normal(size=(size, size)))[0] * draw.choice([-1, 1], size)


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
        fast_jit(functools.partial(spaces.act, net.spec)),
        fast_jit(functools.partial(spaces.mul, net.spec)),
        fast_jit(functools.partial(spaces.inv, net.spec)),
        fast_jit(net.apply),
        fast_jit(functools.partial(spaces.ravel, net.spec)),
    )


def gap(got: Any, expected: Any) -> float:
    """Largest difference relative to the largest expected entry, over a tree."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return max(_gap(np.asarray(a), np.asarray(b)) for a, b in pairs)


def same_element(group: str, got: Any, expected: Any) -> None:
    """Integers exactly, scales entry by entry, matrices relative to the largest."""
    if GROUPS[group].monomial is None:
        assert gap(got, expected) <= RTOL, group
        return
    np.testing.assert_array_equal(got.perm, expected.perm)
    np.testing.assert_allclose(got.scale, expected.scale, rtol=RTOL, atol=0)


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    assert np.all(np.isfinite(a))
    assert np.all(np.isfinite(b))
    return float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), 1e-300))
