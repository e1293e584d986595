"""The discrete part of a group, as what its elements do to the entries of the weights.

An exchange of units, a flip or a turn moves every entry to one place, with a sign and
perhaps something added: a `Move`. Moves are read off `qejax.spaces.act` on numbered
weights, so that two specs can be compared whatever their spaces are called and however
they view the arrays.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qejax import spaces
from qejax._typing import Array, Theta
from qejax.groups import GROUPS
from qejax.spaces import Elements, UnitSpace, WeightSpec
from qejax.testing._tangents import fast_jit, flat, unflat


class Move(NamedTuple):
    """What one element does to weights: `new = flips * old[source] + added`.

    Attributes:
        source: `[P]`, where every entry comes from.
        flips: `[P]`, 1 or -1.
        added: `[P]`.
    """

    source: np.ndarray
    flips: np.ndarray
    added: np.ndarray


_TOGETHER = 32
"""So many elements are applied at a time, by one program for a spec."""


@functools.partial(fast_jit, static_argnums=0)
def _act_all(spec: WeightSpec, many: Elements, theta: Theta) -> Array:
    """Weights moved by each of some elements, `[n, P]`."""
    return jax.vmap(lambda g: flat(spaces.act(spec, g, theta)))(many)


def _acted(spec: WeightSpec, many: list[Elements], theta: Theta) -> np.ndarray:
    """As `_act_all`, of any number of elements of NumPy arrays."""
    rows = []
    for start in range(0, len(many), _TOGETHER):
        some = many[start : start + _TOGETHER]
        filled = some + some[:1] * (_TOGETHER - len(some))
        stacked = jax.tree.map(lambda *x: np.stack(x), *filled)
        rows.append(np.asarray(_act_all(spec, stacked, theta))[: len(some)])
    return np.concatenate(rows)


def moves(spec: WeightSpec, many: list[Elements], theta: Theta) -> list[Move]:
    """Returns what elements do to weights.

    Args:
        spec: the weight space.
        many: elements of the group, signed permutations all.
        theta: weights, of which only the structure is used.
    """
    if not many:
        return []
    numbers = jnp.arange(1.0, flat(theta).size + 1)
    added = _acted(spec, many, unflat(0 * numbers, theta))
    whole = np.rint(_acted(spec, many, unflat(numbers, theta)) - added).astype(int)
    return [
        Move(np.abs(row) - 1, np.sign(row), more)
        for row, more in zip(whole, added, strict=True)
    ]


def _identity(space: UnitSpace) -> Any:
    """The identity of a space's group, of NumPy arrays."""
    return jax.tree.map(np.asarray, GROUPS[space.group].identity(space.size, float))


def _permuted(space: UnitSpace, perm: np.ndarray) -> Any:
    """The element that permutes units, `perm[i]` the old index now at `i`."""
    one, half = _identity(space), space.size // 2
    if space.group == "rotary":
        # Of a pair, units can only be exchanged up to a sign: a quarter turn.
        crossed = perm[:half] >= half
        return np.stack([~crossed, crossed], -1).astype(float)
    return one._replace(perm=perm) if hasattr(one, "perm") else one[perm]


def _flip_scales(size: int) -> np.ndarray:
    return 1 - 2 * np.eye(size)


def _flip_axes(size: int) -> np.ndarray:
    return np.eye(size) - 2 * np.eye(size)[:, :, None] * np.eye(size)[:, None]


def _half_turns(size: int) -> np.ndarray:
    half = size // 2
    start = np.stack([np.ones(half), np.zeros(half)], -1)
    return start - 2 * np.eye(half)[:, :, None] * start


FLIPS: dict[str, Callable[[int], np.ndarray] | None] = {
    "permutation": None,
    "positive_scale": None,
    "sign": _flip_scales,
    "dihedral": _flip_scales,
    "general_linear": _flip_axes,
    "absorbed": _flip_axes,
    "linear_stream": _flip_axes,
    "orthogonal": _flip_axes,
    "orthogonal_ones": None,
    "rotary": _half_turns,
}
"""By group, its diagonal elements of signs that all others are products of: scales,
matrices or complex numbers, stacked."""

CONNECTED = ("rotary",)
"""Groups whose flips are connected to the identity."""

EXCHANGED_BY_OTHERS = (
    "general_linear",
    "absorbed",
    "linear_stream",
    "orthogonal",
    "rotary",
)
"""Groups of one part, or of two that a flip joins: every permutation is in either."""


class _Elements:
    """Elements of a spec that move one unit space only."""

    def __init__(self, spec: WeightSpec) -> None:
        self.spec = spec
        self.identity: Elements = jax.tree.map(
            np.asarray, spaces.identity(spec, jnp.float64)
        )

    def at(self, space: UnitSpace, one: Any, unit: int = 0) -> Elements:
        """The element that is `one` on a space, at one unit of what it is per."""
        whole = self.identity[space.name]
        if self.spec.per_size(space):
            new = jax.tree.map(np.array, whole)
            for old, part in zip(
                jax.tree.leaves(new), jax.tree.leaves(one), strict=True
            ):
                old[unit] = part
            return {**self.identity, space.name: new}
        return {**self.identity, space.name: one}

    def each(self, space: UnitSpace, ones: list[Any]) -> list[Elements]:
        """Those that are one of `ones`, at every unit of what a space is per."""
        units = range(*(self.spec.per_size(space) or (1,)))
        return [self.at(space, one, unit) for unit in units for one in ones]


def _flipped(space: UnitSpace) -> list[Any]:
    """Elements of one group that flip units, one each."""
    make, one = FLIPS[space.group], _identity(space)
    rows = [] if make is None else [*make(space.size)]
    return [one._replace(scale=row) if hasattr(one, "scale") else row for row in rows]


def _turned(space: UnitSpace) -> list[Any]:
    """Elements of one group that turn units by half a period, one each."""
    if GROUPS[space.group].turns is None:
        return []
    one = _identity(space)
    return [one._replace(turns=row) for row in np.eye(space.size, dtype=np.int32)]


def flips(spec: WeightSpec, theta: Theta) -> list[Move]:
    """Returns moves of signs alone, of which all that a group has are products."""
    make = _Elements(spec)
    many = [g for s in spec.spaces for g in make.each(s, _flipped(s))]
    return moves(spec, many, theta)


def turns(spec: WeightSpec, theta: Theta) -> list[Move]:
    """Returns the half period of every unit that has one."""
    make = _Elements(spec)
    many = [g for s in spec.spaces for g in make.each(s, _turned(s))]
    return moves(spec, many, theta)


def generators(spec: WeightSpec, theta: Theta) -> dict[str, Move]:
    """Returns moves, in words, whose products with what is connected are the group."""
    make, found = _Elements(spec), {}
    for space in spec.spaces:
        elements: dict[str, Any] = {}
        if space.size > 1 and space.group not in EXCHANGED_BY_OTHERS:
            perm = np.arange(space.size)
            exchanged = np.concatenate([perm[1::-1], perm[2:]])
            elements["exchanging units 0 and 1"] = _permuted(space, exchanged)
            elements["a cycle of all units"] = _permuted(space, np.roll(perm, 1))
        flipped = [] if space.group in CONNECTED else _flipped(space)
        elements |= dict(zip(["flipping unit 0"], flipped, strict=False))
        elements |= dict(zip(["turning unit 0"], _turned(space), strict=False))
        for words, one in elements.items():
            found[f"{words} of unit space {space.name!r}"] = make.at(space, one)
    done = moves(spec, [*found.values()], theta)
    return dict(zip(found, done, strict=True))


def touched(spec: WeightSpec, theta: Theta) -> dict[str, np.ndarray]:
    """Returns which entries belong to which unit, by unit space `[units, P]`.

    Units of a space per another one are listed for each unit of that one. An entry
    belongs to the units of all its axes, whatever their group and power.
    """
    plain = replace(
        spec,
        shifts=(),
        spaces=tuple(replace(s, group="positive_scale") for s in spec.spaces),
        leaves=tuple(
            replace(
                leaf,
                axes=tuple(
                    axis if axis.space is None else replace(axis, power=1, turn=0.0)
                    for axis in leaf.axes
                ),
            )
            for leaf in spec.leaves
        ),
    )
    make, many = _Elements(plain), {}
    for space in plain.spaces:
        one = _identity(space)
        doubled = [one._replace(scale=row) for row in 1 + np.eye(space.size)]
        many[space.name] = make.each(space, doubled)
    if not many:
        return {}
    together = [g for elements in many.values() for g in elements]
    rows = _acted(plain, together, jax.tree.map(jnp.ones_like, theta)) != 1
    ends = np.cumsum([len(elements) for elements in many.values()])
    return dict(zip(many, np.split(rows, ends[:-1]), strict=True))


def permuted(spec: WeightSpec, perms: dict[str, np.ndarray], theta: Theta) -> Move:
    """Returns what permutations of all unit spaces do together.

    Args:
        spec: the weight space.
        perms: by unit space `[m, n]`, `m = 1` for one that is not per another.
        theta: weights, of which only the structure is used.
    """
    g = _Elements(spec).identity
    for space in spec.spaces:
        each = [_permuted(space, perm) for perm in perms[space.name]]
        lead = spec.per_size(space)
        g[space.name] = jax.tree.map(lambda *x: np.stack(x), *each) if lead else each[0]
    (move,) = moves(spec, [g], theta)
    return move
