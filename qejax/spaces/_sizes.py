"""Sizes of units: the norms by which scaled units are divided, and the signs of others.

One sweep over the unit spaces in the order of the network. Units are sized by the first
leaves, in network order, that write them with a non-zero value; a dead unit, which no
leaf writes, by what reads it. Nothing is added inside a norm: an epsilon there is not
invariant.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qejax._typing import Array, Leaves
from qejax.groups import GROUPS
from qejax.spaces import _scaled
from qejax.spaces._leaf import Leaf
from qejax.spaces._phases import smooth
from qejax.spaces._scaled import Scaled
from qejax.spaces._spec import WeightSpec


class Sizes(NamedTuple):
    """By unit space: `[n_s]` size by which units are divided, and whether it is set."""

    size: dict[str, Scaled]
    known: dict[str, Array]


def like_one(x: Scaled) -> tuple[Array, Array]:
    """Returns mantissas of one and exponents of zero, of the shape of `x`."""
    return jnp.ones_like(x.mantissa), jnp.zeros_like(x.exponent)


def resized(
    spec: WeightSpec, leaves: Leaves, free: frozenset[str], pending: frozenset[str]
) -> Leaves:
    """Returns the leaves with units of `free` divided by their sizes."""
    size = sweep(spec, leaves, free, pending).size
    size = {name: size[name] for name in free}
    return {
        leaf.path: _scaled.join(rescaled(leaf, leaves[leaf.path], size))
        if any(axis.space in free for axis in leaf.axes)
        else leaves[leaf.path]
        for leaf in spec.leaves
    }


def check_hosts(spec: WeightSpec) -> None:
    """Raises if units that differ along another space have a scale or a sign.

    Raises:
        ValueError: then; names the space.
    """
    for space in spec.spaces:
        monomial = GROUPS[space.group].monomial is not None
        if space.per is not None and monomial and space.group != "permutation":
            raise ValueError(
                f"unit space {space.name!r}: the normal form knows scales and signs of "
                f"units that are no others' units, got the group {space.group!r} per "
                f"{space.per!r}. Use a spec without it: of what derive_spec returned, "
                f"for_models."
            )


def scaled_spaces(spec: WeightSpec) -> frozenset[str]:
    """Returns the spaces whose units have a scale or a sign.

    Raises:
        ValueError: see `check_hosts`.
    """
    check_hosts(spec)
    return frozenset(s.name for s in spec.spaces if s.group != "permutation")


def sweep(
    spec: WeightSpec,
    leaves: Leaves,
    free: frozenset[str],
    pending: frozenset[str] = frozenset(),
) -> Sizes:
    """Sizes of the units of `free`; leaves that touch `pending` spaces are left out."""
    dtype = jnp.result_type(*leaves.values())
    unknown = free | pending
    leaves = smooth(spec, leaves)
    sizes = Sizes(
        {s.name: _scaled.ones(s.size, dtype) for s in spec.spaces},
        {s.name: jnp.full(s.size, s.name not in unknown) for s in spec.spaces},
    )
    # Writers of one power at a time: entries scale with it.
    for (name, power), group in itertools.groupby(_written(spec), lambda w: w[:2]):
        if name in free:
            rows = [
                _incoming(leaf, leaves[leaf.path], name, sizes) for *_, leaf in group
            ]
            sizes = _settle(spec, name, rows, power, sizes)
    for space in reversed(spec.spaces):
        for leaf in spec.leaves:
            if space.name in free and leaf.reads(space.name):
                row = _incoming(leaf, leaves[leaf.path], space.name, sizes, -1)
                degree = max(-a.power for a in leaf.axes if a.space == space.name)
                sizes = _settle(spec, space.name, [row], -degree, sizes)
    return sizes


def _written(spec: WeightSpec) -> Iterator[tuple[str, int, Leaf]]:
    """Yields the spaces that leaves write, with powers, in network order.

    `""` of a leaf that writes none: what is behind it is not the first any more.
    """
    for leaf in spec.leaves:
        written = [(axis.space, axis.power) for axis in leaf.axes if axis.power > 0]
        for name, power in written or [("", 0)]:
            yield str(name), power, leaf


def rescaled(leaf: Leaf, x: Array, size: dict[str, Scaled]) -> Scaled:
    """The leaf divided by the sizes of the units it writes and times those it reads."""
    out = _scaled.split(x)
    for position, axis in enumerate(leaf.axes):
        if axis.space in size:
            shape = tuple(-1 if p == position else 1 for p in range(x.ndim))
            factor = _scaled.power(size[axis.space], -axis.power)
            out = _scaled.mul(out, _scaled.reshape(factor, shape))
    return out


def _incoming(
    leaf: Leaf, x: Array, space: str, sizes: Sizes, direction: int = 1
) -> tuple[Scaled, np.ndarray]:
    """Entries of a leaf at each unit of `space`, `[n_s, m]`, and weights `[m]`.

    `direction` 1 takes the axis that writes the space, -1 the one that reads it. The
    other axes are canonical; entries at units that are not settled are zero. Weights
    tell fixed positions apart and are equal along moved axes, so that a weighted sum
    does not depend on the order of units.
    """
    own = next(
        position
        for position, axis in enumerate(leaf.axes)
        if axis.space == space and axis.power * direction > 0
    )
    scaled = _scaled.split(x)
    weights = np.ones([1] * x.ndim)
    for position, axis in enumerate(leaf.axes):
        if position == own:
            continue
        shape = tuple(-1 if p == position else 1 for p in range(x.ndim))
        if axis.space is None:
            # Any fixed weights without symmetry do.
            weights = weights * (1 + 0.5 * np.sin(1 + np.arange(axis.size))).reshape(
                shape
            )
            continue
        known = sizes.known[axis.space]
        factor = _scaled.power(sizes.size[axis.space], -axis.power)
        factor = Scaled(jnp.where(known, factor.mantissa, 0), factor.exponent)
        scaled = _scaled.mul(scaled, _scaled.reshape(factor, shape))
    others = tuple(n for p, n in enumerate(x.shape) if p != own)
    weights = np.broadcast_to(weights.squeeze(own), others).reshape(-1)
    order = (own, *(p for p in range(x.ndim) if p != own))
    rows = Scaled(
        scaled.mantissa.transpose(order).reshape(x.shape[own], -1),
        scaled.exponent.transpose(order).reshape(x.shape[own], -1),
    )
    return rows, weights


def _settle(
    spec: WeightSpec,
    space: str,
    rows: list[tuple[Scaled, np.ndarray]],
    power: int,
    sizes: Sizes,
) -> Sizes:
    """Sets the sizes of units that are open, from entries that scale with `power`."""
    entries = Scaled(
        jnp.concatenate([row.mantissa for row, _ in rows], axis=1),
        jnp.concatenate([row.exponent for row, _ in rows], axis=1),
    )
    weights = np.concatenate([w for _, w in rows])
    group = spec.space_by_name[space].group
    found = _SIZE_OF[group](entries, weights, power)
    decided = found.mantissa != 0
    old, known = sizes.size[space], sizes.known[space]
    size = _scaled.where(decided & ~known, found, old)
    # Without it XLA of jax 0.11 and 0.12 fuses them with all sizes before them, and
    # did not end in nine minutes on a network of three hidden layers.
    size, known = jax.lax.optimization_barrier((size, known | decided))
    return Sizes({**sizes.size, space: size}, {**sizes.known, space: known})


def _norm_size(entries: Scaled, weights: np.ndarray, power: int) -> Scaled:
    """Norm of the entries, turned into a size; zero where all entries are zero."""
    del weights
    total = _scaled.norm(entries, axis=1)
    live = total.mantissa > 0
    safe = _scaled.where(live, total, Scaled(*like_one(total)))
    size = safe if power == 1 else _scaled.root(safe, abs(power))
    size = size if power > 0 else _scaled.power(size, -1)
    return Scaled(jnp.where(live, size.mantissa, 0), size.exponent)


def _sign_size(entries: Scaled, weights: np.ndarray, power: int) -> Scaled:
    """Sign of the first odd moment that is clear of rounding; zero if there is none."""
    if power % 2 == 0:  # An even power does not see a sign.
        return Scaled(*(jnp.zeros_like(part[:, 0]) for part in entries))
    v = _scaled.direction(entries, axis=1)
    scale = jnp.asarray(weights, v.dtype)[None, :]
    floor = 8 * v.shape[1] * jnp.finfo(v.dtype).eps
    sign = jnp.zeros(v.shape[0], v.dtype)
    for moment in (v, v**3):
        total = jnp.sum(scale * moment, axis=1)
        clear = jnp.abs(total) > floor * jnp.sum(jnp.abs(scale * moment), axis=1)
        sign = jnp.where((sign == 0) & clear, jnp.sign(total), sign)
    return Scaled(sign, jnp.zeros(v.shape[0], jnp.int32))


_SIZE_OF = {"positive_scale": _norm_size, "sign": _sign_size}
