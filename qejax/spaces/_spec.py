"""What moves what: the symmetry of an architecture, as data.

A `WeightSpec` names the unit spaces of a network (sets of hidden units that are moved
together) and, for every axis of every leaf, which unit space moves it and with which
power of the unit's scale. Everything else - the action, random elements, dense
matrices, canonical forms, layers, checks - derives from it.

A space can be `per` another one: it then has one element for each unit of that space,
which moves with that unit. An attention head has a GL(d) element for its queries and
keys; permuting heads permutes those elements.

A leaf is an array of the weights, or a part of one where different units move different
parts of it (`part_of`). The parts fill the array, and are leaves in every other way.

Powers: an axis along which a leaf *writes* units (outputs of a kernel, a bias) has
power 1; an axis along which it *reads* them through an activation that is homogeneous
of degree `k` has power `-k`. Odd activations have degree 1.

Sources: Ainsworth et al. 2022, arXiv:2209.04836 (permutation specs); Tran et al. 2024,
arXiv:2409.11697 (scales and signs); Navon et al. 2023, arXiv:2301.12780.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from qejax import _trees
from qejax._typing import Theta
from qejax.groups import GROUPS
from qejax.spaces._cuts import check_cuts
from qejax.spaces._leaf import Axis, Leaf


@dataclass(frozen=True)
class UnitSpace:
    """A set of `size` hidden units that one group element moves together.

    Attributes:
        name: unique in its spec.
        size: number of units, `n_s >= 1`.
        group: a name in `qejax.groups.GROUPS`.
        per: name of an earlier unit space of `m` units; an element then has a leading
            axis, `[m, ...]`, indexed by the new position of those units.
    """

    name: str
    size: int
    group: str = "permutation"
    per: str | None = None


@dataclass(frozen=True)
class Route:
    """Where a shift goes: `bias -= einsum(subscripts, shift, kernel)`.

    Attributes:
        kernel: path of the weights that read what was shifted; `None` where the shift
            itself is taken off every row of what makes up for it.
        bias: path of what makes up for it.
        subscripts: of `jnp.einsum`, axes of the shift, the kernel and the bias.
    """

    kernel: str | None
    bias: str
    subscripts: str = ""


@dataclass(frozen=True)
class Shift:
    """A translation that the function does not see.

    An element is an array of the view of `leaf` without the axes `along`; it is added
    to the leaf, the same at every index of those.

    Attributes:
        name: unique among unit spaces and shifts.
        leaf: path of the leaf that is shifted.
        routes: what makes up for it; none where the function does not see it at all
            (a key bias, which the softmax drops; the mean of what a norm centres).
        along: axes of the view along which it is constant, such as the one that a norm
            centres. They never move, permute, or turn around the vector of ones. Means
            of the leaf along them are zero after settling.
    """

    name: str
    leaf: str
    routes: tuple[Route, ...] = ()
    along: tuple[int, ...] = ()

    def moves(self, leaf: Leaf) -> Leaf:
        """Returns a leaf whose axes are those of an element, from the shifted leaf."""
        axes = enumerate(leaf.axes)
        return Leaf(leaf.path, tuple(a for n, a in axes if n not in self.along))


@dataclass(frozen=True)
class WeightSpec:
    """The weight space of one architecture with its symmetry group.

    The group is the product over unit spaces and shifts (semidirect: unit spaces move
    shifts); an element is a dict from their names to an element of each. Hashable, so a
    spec can be a static argument of `jax.jit` and an attribute of a module.

    Attributes:
        spaces: unit spaces in the order in which the network computes them.
        leaves: leaves in the order in which the network applies them.
        shifts: translations, in the order in which the network applies their leaves.

    Raises:
        ValueError: at construction, if names repeat, a group is unknown, an axis
            names a space that is missing or has another size, a space is per one that
            is not earlier or a leaf lacks its axis, a shift names a missing leaf, units
            that turn do not have one bias that does, a stored shape does not hold as
            many scalars as its view, or leaves that are parts of an array do not fill
            it without overlap.
    """

    spaces: tuple[UnitSpace, ...]
    leaves: tuple[Leaf, ...]
    shifts: tuple[Shift, ...] = ()

    def __post_init__(self) -> None:
        """Checks names, sizes and groups."""
        names = [row.name for row in (*self.spaces, *self.shifts)]
        _check_unique("unit spaces", names)
        _check_unique("leaves", (leaf.path for leaf in self.leaves))
        for number, space in enumerate(self.spaces):
            _check_space(space, self.spaces[:number])
        for leaf in self.leaves:
            _check_leaf(leaf, self.space_by_name)
        check_cuts(self.leaves)
        for space in self.spaces:
            _check_turns(space, self.leaves)
        groups = {space.name: space.group for space in self.spaces}
        for shift in self.shifts:
            _check_shift(shift, self.leaf_by_path, groups)

    @cached_property
    def space_by_name(self) -> dict[str, UnitSpace]:
        """Unit spaces by name."""
        return {space.name: space for space in self.spaces}

    @cached_property
    def leaf_by_path(self) -> dict[str, Leaf]:
        """Leaves by path."""
        return {leaf.path: leaf for leaf in self.leaves}

    @cached_property
    def leaves_by_array(self) -> dict[str, tuple[Leaf, ...]]:
        """Leaves by the path of the array in `theta` that holds them."""
        found: dict[str, tuple[Leaf, ...]] = {}
        for leaf in self.leaves:
            found[leaf.array] = (*found.get(leaf.array, ()), leaf)
        return found

    @property
    def num_parameters(self) -> int:
        """Scalars in one network, `P`."""
        return sum(leaf.size for leaf in self.leaves)

    def template(self, dtype: DTypeLike = jnp.float32) -> Theta:
        """Returns a nested dict of `jax.ShapeDtypeStruct`, one per array."""
        return _trees.nest(
            {
                leaf.array: jax.ShapeDtypeStruct(leaf.array_shape, dtype)
                for leaf in self.leaves
            }
        )

    def uncut(self) -> "WeightSpec":
        """Returns the same leaves, each an array of its own with the path of the leaf.

        What is computed from weights leaf by leaf, such as `settled`, has this form.
        """
        leaves = tuple(replace(leaf, cut=None) for leaf in self.leaves)
        return self if leaves == self.leaves else replace(self, leaves=leaves)

    def per_axis(self, leaf: Leaf, position: int) -> int | None:
        """The axis of `leaf` whose units tell which element moves axis `position`.

        `None` for an axis that does not move or whose space is not per another one.
        """
        space = self.space_by_name.get(str(leaf.axes[position].space))
        if space is None or space.per is None:
            return None
        return leaf.before(position, space.per)

    def shift_size(self, shift: Shift) -> tuple[int, ...]:
        """Shape of the elements of a shift."""
        return shift.moves(self.leaf_by_path[shift.leaf]).view

    def per_size(self, space: UnitSpace) -> tuple[int, ...]:
        """Leading shape of the elements of a space, `()` or `(m,)`."""
        return () if space.per is None else (self.space_by_name[space.per].size,)

    def permutations_only(self) -> "WeightSpec":
        """Returns the same leaves under the permutations alone.

        This is the symmetry that a canonical form leaves: scales and signs are fixed,
        and so are the axes that matrices moved. Units of a space per another one become
        one set (queries of all groups), which loses to whom they belong.
        """
        kept = {s.name: s for s in self.spaces if GROUPS[s.group].monomial is not None}
        sizes = {s.name: math.prod(self.per_size(s)) * s.size for s in kept.values()}
        leaves = []
        for leaf in self.leaves:
            axes: list[Axis] = []
            for position, axis in enumerate(leaf.axes):
                host = self.per_axis(leaf, position)
                if host is not None and axis.space in kept:
                    if host != len(axes) - 1:
                        raise ValueError(
                            f"leaf {leaf.path!r}: units of {axis.space!r} should come "
                            f"right behind those of the space that it is per, got the "
                            f"axes {[a.space for a in leaf.axes]}."
                        )
                    axes.pop()
                name = axis.space if axis.space in kept else None
                size = axis.size if name is None else sizes[name]
                axes.append(Axis(size, name, 0 if name is None else axis.power))
            view = tuple(axis.size for axis in axes)
            stored = None if view == leaf.stored else leaf.stored
            leaves.append(replace(leaf, axes=tuple(axes), shape=stored))
        spaces = tuple(UnitSpace(name, size) for name, size in sizes.items())
        return WeightSpec(spaces, tuple(leaves))


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"names of {what} should be unique, got {name!r} twice.")
        seen.add(name)


def _check_space(space: UnitSpace, earlier: Sequence[UnitSpace]) -> None:
    if space.group not in GROUPS:
        raise ValueError(
            f"unit space {space.name!r}: group should be one of {list(GROUPS)}, got "
            f"{space.group!r}."
        )
    if space.size < 1:
        raise ValueError(
            f"unit space {space.name!r}: size should be at least 1, got {space.size}."
        )
    if space.group == "rotary" and space.size % 2:
        raise ValueError(
            f"unit space {space.name!r}: rotary embedding turns pairs of units, the "
            f"size should be even, got {space.size}."
        )
    hosts = [
        row.name
        for row in earlier
        if row.per is None and GROUPS[row.group].monomial is not None
    ]
    if space.per is not None and space.per not in hosts:
        raise ValueError(
            f"unit space {space.name!r}: `per` should be one of the unit spaces before "
            f"it whose units only permute and scale, {hosts}, got {space.per!r}."
        )


def _check_turns(space: UnitSpace, leaves: tuple[Leaf, ...]) -> None:
    turned = [
        leaf
        for leaf in leaves
        for axis in leaf.axes
        if axis.space == space.name and axis.turn
    ]
    wants = int(GROUPS[space.group].turns is not None)
    fits = wants or GROUPS[space.group].name == "sign"
    alone = all(len(leaf.axes) == 1 for leaf in turned)
    if len(turned) > 1 or len(turned) < wants or not alone or (turned and not fits):
        raise ValueError(
            f"unit space {space.name!r} of group {space.group!r}: units that turn have "
            f"one bias [{space.size}] whose axis says what a turn adds, others none; "
            f"got {[leaf.path for leaf in turned]}. Without a bias use 'sign'."
        )


_KEEP_ONES = ("permutation", "orthogonal_ones")
"""Groups whose elements do not move the vector of ones."""


def _check_shift(shift: Shift, leaves: dict[str, Leaf], groups: dict[str, str]) -> None:
    paths = [shift.leaf]
    for route in shift.routes:
        paths += [route.bias] if route.kernel is None else [route.kernel, route.bias]
    for path in paths:
        if path not in leaves:
            raise ValueError(
                f"shift {shift.name!r}: expected paths of {list(leaves)}, got {path!r}."
            )
    axes = leaves[shift.leaf].axes
    for position in shift.along:
        space = axes[position].space if position < len(axes) else "no axis"
        group = "permutation" if space is None else groups.get(space, "none")
        if group not in _KEEP_ONES:
            raise ValueError(
                f"shift {shift.name!r}: along an axis of {shift.leaf!r} that a group "
                f"of {_KEEP_ONES} moves, or none, a shift can be constant; got axis "
                f"{position} of the unit space {space!r}."
            )


def _check_leaf(leaf: Leaf, spaces: dict[str, UnitSpace]) -> None:
    for position, axis in enumerate(leaf.axes):
        if axis.space is None:
            continue
        if axis.space not in spaces:
            raise ValueError(
                f"leaf {leaf.path!r}, axis {position}: expected one of the unit "
                f"spaces {list(spaces)}, got {axis.space!r}. Add it to `spaces`."
            )
        space = spaces[axis.space]
        if axis.size != space.size:
            raise ValueError(
                f"leaf {leaf.path!r}, axis {position}: expected size {space.size} of "
                f"unit space {axis.space!r}, got {axis.size}."
            )
        if space.per is not None and leaf.before(position, space.per) is None:
            raise ValueError(
                f"leaf {leaf.path!r}, axis {position}: unit space {space.name!r} is "
                f"per {space.per!r}, expected an axis of that space before it, got "
                f"{[a.space for a in leaf.axes]}."
            )
        if GROUPS[space.group].monomial is None and abs(axis.power) != 1:
            raise ValueError(
                f"leaf {leaf.path!r}, axis {position}: an axis that matrices of the "
                f"group {space.group!r} move should have power 1 or -1, got "
                f"{axis.power}."
            )
    if math.prod(leaf.stored) != math.prod(leaf.view):
        raise ValueError(
            f"leaf {leaf.path!r}: a stored shape {leaf.stored} should hold as many "
            f"scalars as its view {leaf.view}."
        )
