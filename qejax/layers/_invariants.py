"""What scales and signs cannot change, for features of any spec.

Positive scales: in the order of the network, the *size* `r_j` of a unit is the root
mean square of the features that write it, taken after the units before it have been
divided by their sizes. `r` transforms as the units do, so a feature times
`r ** -power` along each of its axes is invariant. All channels share one size: the
ratios of channels and of units stay visible. Signs: features that flip are replaced by
their absolute values; a linear layer before mixes what shall be compared. Permutations
move the results, entry by entry and unit by unit.

Nothing is added inside a norm: an epsilon there is not invariant. A unit of size zero
is one that nothing writes, it computes zero; what it touches is left out.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from qejax._typing import Array, Float
from qejax.layers._features import Features, check_still
from qejax.spaces import Leaf, WeightSpec


class Invariants(NamedTuple):
    """Invariants of scales and signs of one network's features.

    Attributes:
        entries: by leaf path, `[*leaf.view, C]`; moved by permutations only. Leaves
            that read scaled units and write none have root mean square 1.
        log_size: `[l]`, natural logarithm of what those leaves were divided by, in the
            order of the spec; 0 for a leaf of zeros. That is where the product of all
            scales ends up.
    """

    entries: Features
    log_size: Float[Array, " l"]


def unit_sizes(spec: WeightSpec, feats: Features) -> dict[str, Array]:
    """Returns the size of every positively scaled unit.

    Args:
        spec: the weight space.
        feats: `[*leaf.view, C]` by leaf path.

    Returns:
        By unit space, `[n_s]`, at least zero; `act_features` by `g` turns it into
        `act_units(spec, g, sizes, power=1)`.

    Raises:
        ValueError: if a scaled space is written by no leaf that reads earlier spaces
            only.
    """
    scaled = _scaled_spaces(spec)
    sizes: dict[str, Array] = {}
    for name in scaled:
        open_spaces = scaled - sizes.keys()
        rows = [
            _incoming(leaf, name, feats[leaf.path], sizes)
            for leaf in spec.leaves
            if _settles(leaf, name, open_spaces)
        ]
        if not rows:
            raise ValueError(
                f"unit space {name!r} has positive scales, but no leaf writes it "
                f"(power 1) that reads earlier spaces only: expected one, in a spec "
                f"whose spaces are in the order in which the network computes them."
            )
        sizes[name] = _root_mean_square(jnp.concatenate(rows, -1))
    return sizes


def invariants(spec: WeightSpec, feats: Features) -> Invariants:
    """Returns entrywise invariants of features.

    Args:
        spec: the weight space.
        feats: `[*leaf.view, C]` by leaf path.

    Returns:
        See `Invariants`; dtype of `feats`. Under `act_features` by `g`, entries are
        moved by the permutations of `g`, and `log_size` stays.

    Raises:
        ValueError: as `unit_sizes`, and if units of the spec turn.
    """
    check_still(spec, "invariants")
    sizes = unit_sizes(spec, feats)
    entries: Features = {}
    logs = []
    for leaf in spec.leaves:
        x = _divided(leaf, feats[leaf.path], sizes)
        if _flips(spec, leaf):
            x = jnp.abs(x)
        if _collects_scales(spec, leaf):
            total = _root_mean_square(x.reshape(-1))
            live = jnp.where(total > 0, total, 1)
            x = x / live
            logs.append(jnp.log(live))
        entries[leaf.path] = x
    dtype = jnp.result_type(*feats.values())
    return Invariants(entries, jnp.stack(logs) if logs else jnp.zeros(0, dtype))


@functools.lru_cache(maxsize=256)
def collapsed_spec(spec: WeightSpec) -> WeightSpec:
    """Returns `spec` without the axes that never move."""
    leaves = tuple(
        Leaf(leaf.path, tuple(leaf.axes[i] for i in leaf.moved()))
        for leaf in spec.leaves
    )
    return WeightSpec(spec.spaces, leaves)


def collapse(spec: WeightSpec, feats: Features) -> Features:
    """Returns means and mean magnitudes over the axes that never move.

    Args:
        spec: the weight space.
        feats: `[*leaf.view, C]` by leaf path.

    Returns:
        Features of `collapsed_spec(spec)`, `[*sizes of moved axes, 2 C]`. Positive
        scales and permutations act on them as on `feats`; signs flip the first half.
    """
    found: Features = {}
    for leaf in spec.leaves:
        x, fixed = feats[leaf.path], leaf.fixed()
        parts = [x, jnp.abs(x)]
        if fixed:
            parts = [jnp.mean(part, fixed) for part in parts]
        found[leaf.path] = jnp.concatenate(parts, -1)
    return found


def unit_invariants(spec: WeightSpec, found: Invariants) -> dict[str, Array]:
    """Returns features of units: means and root mean squares of what touches them.

    Returns:
        By unit space, `[n_s, 2 C a]` with `a` the number of axes in that space;
        `[m, n_s, 2 C a]` for a space per another one of `m` units.
    """
    dtype = jnp.result_type(*found.entries.values())
    units: dict[str, Array] = {}
    for space in spec.spaces:
        shape = (*spec.per_size(space), space.size)
        parts = [jnp.zeros((*shape, 0), dtype)]
        for leaf in spec.leaves:
            x = found.entries[leaf.path]
            for position, axis in enumerate(leaf.axes):
                if axis.space == space.name:
                    host = spec.per_axis(leaf, position)
                    own = (position,) if host is None else (host, position)
                    rows = jnp.moveaxis(x, own, range(len(own)))
                    rows = rows.reshape(*shape, -1, x.shape[-1])
                    parts += _moments(rows, len(shape))
        units[space.name] = jnp.concatenate(parts, -1)
    return units


def global_invariants(spec: WeightSpec, found: Invariants) -> Float[Array, " i"]:
    """Returns features of the network: means, root mean squares, logarithms of sizes.

    Returns:
        `[2 C L + l]` with `L` leaves; unchanged by the whole group.
    """
    parts = []
    for leaf in spec.leaves:
        x = found.entries[leaf.path]
        parts += _moments(x.reshape(-1, x.shape[-1]), 0)
    return jnp.concatenate([*parts, found.log_size], -1)


def _moments(x: Array, axis: int) -> list[Array]:
    return [jnp.mean(x, axis), _root_mean_square(jnp.moveaxis(x, axis, -1))]


def _scaled_spaces(spec: WeightSpec) -> dict[str, None]:
    """Positively scaled spaces in order; a dict, because sets have no order."""
    return {s.name: None for s in spec.spaces if s.group == "positive_scale"}


def _settles(leaf: Leaf, name: str, open_spaces: set[str]) -> bool:
    """Whether the leaf writes units of `name`, and else touches settled spaces only."""
    writing = [a for a in leaf.axes if a.space == name and a.power == 1]
    touching = [a for a in leaf.axes if a.space in open_spaces]
    return len(writing) == 1 and len(touching) == 1


def _incoming(leaf: Leaf, name: str, x: Array, sizes: dict[str, Array]) -> Array:
    """What writes each unit, `[n_s, m]`: scales as the unit and nothing else."""
    position = next(i for i, axis in enumerate(leaf.axes) if axis.space == name)
    rows = jnp.moveaxis(_divided(leaf, x, sizes), position, 0)
    return rows.reshape(rows.shape[0], -1)


def _divided(leaf: Leaf, x: Array, sizes: dict[str, Array]) -> Array:
    """`x` times `size ** -power` along every axis whose size is known."""
    for position, axis in enumerate(leaf.axes):
        if axis.space in sizes and axis.power != 0:
            size = sizes[axis.space]
            live = jnp.where(size > 0, size, 1)
            factor = jnp.where(size > 0, _power(live, -axis.power), 0)
            shape = [1] * x.ndim
            shape[position] = axis.size
            x = x * factor.reshape(shape)
    return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _power(x: Array, exponent: int) -> Array:
    """`x ** exponent` of positive `x`, with gradients that do not overflow before it.

    A unit may be as small as 1e-33; `x ** -2` of the usual gradient is not finite.
    """
    return x**exponent


@_power.defjvp
def _power_jvp(
    exponent: int, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    y = _power(x, exponent)
    return y, exponent * (y * (dx / x))


def _flips(spec: WeightSpec, leaf: Leaf) -> bool:
    return any(
        axis.space is not None
        and spec.space_by_name[axis.space].group == "sign"
        and axis.power % 2 == 1
        for axis in leaf.axes
    )


def _collects_scales(spec: WeightSpec, leaf: Leaf) -> bool:
    scaled = _scaled_spaces(spec)
    powers = [axis.power for axis in leaf.axes if axis.space in scaled]
    return bool(powers) and all(power < 0 for power in powers)


def _root_mean_square(x: Array) -> Array:
    """Root mean square over the last axis; no overflow, gradient 0 at zero."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(x), -1))
    live = jnp.where(top > 0, top, 1)
    mean = jnp.mean((x / live[..., None]) ** 2, -1)
    return live * jnp.where(top > 0, jnp.sqrt(jnp.where(top > 0, mean, 1)), 0)
