"""The part of a derived group that normal forms can read, found by trying."""

from collections.abc import Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from qejax import spaces
from qejax._typing import Theta
from qejax.derive._check import PLAINLY
from qejax.derive._draw import draw_element
from qejax.spaces import Axis, Leaf, Shift, WeightSpec

TOLERANCE = 1e-6
"""Of the change of a normal form: singular values that are close amplify rounding."""

HOSTED = ("positive_scale", "sign", "dihedral")
"""Groups of units alone: no normal form knows units of theirs in blocks."""


def readable(spec: WeightSpec, theta: Theta, factors: frozenset[str]) -> WeightSpec:
    """Returns a spec of a subgroup whose normal form its elements do not change.

    Units in blocks and second factors of units have no scales and signs left; of the
    rest, spaces go one by one for as long as the normal form of `theta` is refused or
    changes. Units whose scale, sign or frame goes are permuted still.

    Args:
        spec: the weight space.
        theta: weights of one network, on which it is tried.
        factors: names of spaces of one factor, beside units or of whole leaves.
    """
    for space in spec.spaces:
        if space.per is not None and space.group in HOSTED:
            spec = _lowered(spec, space.name, factors)
    while True:
        guilty = _guilty(spec, theta, factors)
        if guilty is None:
            return spec
        spec = _lowered(spec, guilty, factors)


def _guilty(spec: WeightSpec, theta: Theta, factors: frozenset[str]) -> str | None:
    """The space or shift that has to go, if one has to."""
    g = draw_element(np.random.default_rng(0), spec)
    e = spaces.identity(spec, jnp.float64)
    before = _entries(spec, theta)
    moving = [s.name for s in spec.spaces if s.group != "permutation"]
    moving += [shift.name for shift in spec.shifts]
    if before is None:
        rest = ((name, _lowered(spec, name, factors)) for name in moving)
        told = (name for name, less in rest if _entries(less, theta) is not None)
        return next(told, moving[-1])
    if _gap(before, _entries(spec, spaces.act(spec, g, theta))) <= TOLERANCE:
        return None
    alone = {
        name: _gap(
            before, _entries(spec, spaces.act(spec, {**e, name: g[name]}, theta))
        )
        for name in moving
    }
    return max(moving, key=lambda name: alone[name])


_normal = jax.jit(spaces.canonical_form, static_argnums=0, compiler_options=PLAINLY)

Entries = list[np.ndarray]
"""Of every leaf in normal form, in order of size: units may stand elsewhere."""


def _entries(spec: WeightSpec, theta: Theta) -> Entries | None:
    """The entries of the normal form; `None` where it is refused."""
    try:
        form = _normal(spec, theta)
    except ValueError:
        return None
    found = [*jax.tree.leaves(form.theta), *form.log_norm.values()]
    return [np.sort(np.asarray(x, np.float64).reshape(-1)) for x in found]


def _gap(before: Entries, after: Entries | None) -> float:
    """The largest change, of the largest entry of a leaf."""
    if after is None:
        return np.inf
    gaps = [
        float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-300))
        for a, b in zip(before, after, strict=True)
    ]
    return max(gaps) if np.all(np.isfinite(gaps)) else np.inf


def _lowered(spec: WeightSpec, name: str, factors: frozenset[str]) -> WeightSpec:
    """The spec without what a space can do beyond permutations, or without a shift."""
    if name not in spec.space_by_name:
        shifts = tuple(shift for shift in spec.shifts if shift.name != name)
        return replace(spec, shifts=shifts)
    if name in factors:
        return _without(spec, name)
    group = "permutation"
    if spec.space_by_name[name].group == "rotary":
        return _still(spec, name)
    own = [replace(s, group=group) if s.name == name else s for s in spec.spaces]
    return replace(spec, spaces=tuple(own))


def _still(spec: WeightSpec, name: str) -> WeightSpec:
    """The spec without a space, its axes where they are."""
    leaves = tuple(
        replace(
            leaf,
            axes=tuple(Axis(a.size) if a.space == name else a for a in leaf.axes),
        )
        for leaf in spec.leaves
    )
    left = tuple(space for space in spec.spaces if space.name != name)
    return replace(spec, spaces=left, leaves=leaves)


def _without(spec: WeightSpec, name: str) -> WeightSpec:
    """The spec without a factor, which has axes of one index in views."""
    gone = {name}
    lost = {
        leaf.path: [n for n, axis in enumerate(leaf.axes) if axis.space in gone]
        for leaf in spec.leaves
    }
    return WeightSpec(
        tuple(space for space in spec.spaces if space.name != name),
        tuple(_leaf_without(leaf, gone) for leaf in spec.leaves),
        tuple(_renumbered(shift, lost) for shift in spec.shifts),
    )


def _leaf_without(leaf: Leaf, gone: set[str]) -> Leaf:
    """The leaf without the axes of one index of some spaces."""
    axes = tuple(axis for axis in leaf.axes if axis.space not in gone)
    view = tuple(axis.size for axis in axes)
    stored = leaf.stored
    return replace(leaf, axes=axes, shape=None if view == stored else stored)


def _renumbered(shift: Shift, lost: Mapping[str, list[int]]) -> Shift:
    """The shift of a leaf, along and through axes that some have left."""
    gone = lost[shift.leaf]
    along = tuple(n - sum(m < n for m in gone) for n in shift.along if n not in gone)
    routes = []
    for route in shift.routes:
        if route.kernel is None:
            routes.append(route)
            continue
        left, rest = route.subscripts.split(",")
        middle, right = rest.split("->")
        own = [n for n, _ in enumerate(left)]
        kept = [n for n in range(len(own) + len(shift.along)) if n not in shift.along]
        left = _cut(left, [i for i, n in enumerate(kept) if n in gone])
        middle = _cut(middle, lost[route.kernel])
        right = _cut(right, lost[route.bias])
        routes.append(replace(route, subscripts=f"{left},{middle}->{right}"))
    return replace(shift, along=along, routes=tuple(routes))


def _cut(letters: str, gone: list[int]) -> str:
    return "".join(letter for n, letter in enumerate(letters) if n not in gone)
