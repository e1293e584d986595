"""What moves what: the symmetry of an architecture, as data.

A `WeightSpec` names the unit spaces of a network (sets of hidden units that are moved
together) and, for every axis of every leaf, which unit space moves it and with which
power of the unit's scale. Everything else - the action, random elements, dense
matrices, canonical forms, layers, checks - derives from it.

Powers: an axis along which a leaf *writes* units (outputs of a kernel, a bias) has
power 1; an axis along which it *reads* them through an activation that is homogeneous
of degree `k` has power `-k`. Odd activations have degree 1.

Sources: Ainsworth et al. 2022, arXiv:2209.04836 (permutation specs); Tran et al. 2024,
arXiv:2409.11697 (scales and signs); Navon et al. 2023, arXiv:2301.12780.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from qejax import _trees
from qejax._typing import Leaves, Theta
from qejax.groups import GROUPS


@dataclass(frozen=True)
class UnitSpace:
    """A set of `size` hidden units that one group element moves together.

    Attributes:
        name: unique in its spec.
        size: number of units, `n_s >= 1`.
        group: a name in `qejax.groups.GROUPS`.
    """

    name: str
    size: int
    group: str = "permutation"


@dataclass(frozen=True)
class Axis:
    """One axis of a leaf: who moves it, and how.

    Attributes:
        size: its length.
        space: the unit space that moves it; `None` for an axis that never moves
            (inputs, outputs, kernel positions).
        power: of the unit's scale; 1 where the leaf writes the units, `-k` where it
            reads them through an activation of degree `k`.
    """

    size: int
    space: str | None = None
    power: int = 0


@dataclass(frozen=True)
class Leaf:
    """One array of a network's weights.

    Attributes:
        path: `/`-joined keys from the root of `theta`.
        axes: one `Axis` per dimension of the *view* of the leaf.
        shape: of the stored array; `None` if it equals the view. The view is a
            reshape of the stored array in which every dimension is moved by at most
            one unit space: a flatten before a dense layer stores `[H * W * n, m]`,
            with the view `[H * W, n, m]`.
    """

    path: str
    axes: tuple[Axis, ...]
    shape: tuple[int, ...] | None = None

    @property
    def view(self) -> tuple[int, ...]:
        """Shape in which every dimension has one `Axis`."""
        return tuple(axis.size for axis in self.axes)

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of the array in `theta`."""
        return self.view if self.shape is None else self.shape

    @property
    def size(self) -> int:
        """Number of scalars."""
        return math.prod(self.view)

    def moved(self) -> tuple[int, ...]:
        """Positions of the axes that a unit space moves."""
        return tuple(i for i, axis in enumerate(self.axes) if axis.space is not None)

    def fixed(self) -> tuple[int, ...]:
        """Positions of the axes that never move."""
        return tuple(i for i, axis in enumerate(self.axes) if axis.space is None)

    def writes(self, space: str) -> bool:
        """Whether units of `space` are computed from this leaf."""
        return any(axis.space == space and axis.power > 0 for axis in self.axes)

    def reads(self, space: str) -> bool:
        """Whether this leaf reads the units of `space`."""
        return any(axis.space == space and axis.power < 0 for axis in self.axes)


@dataclass(frozen=True)
class WeightSpec:
    """The weight space of one architecture with its symmetry group.

    The group is the product over unit spaces; an element is a dict from the name of
    a unit space to an element of its group. Hashable, so a spec can be a static
    argument of `jax.jit` and an attribute of a module.

    Attributes:
        spaces: unit spaces in the order in which the network computes them.
        leaves: leaves in the order in which the network applies them.

    Raises:
        ValueError: at construction, if names repeat, a group is unknown, an axis
            names a space that is missing or has another size, or a stored shape does
            not hold as many scalars as its view.
    """

    spaces: tuple[UnitSpace, ...]
    leaves: tuple[Leaf, ...]

    def __post_init__(self) -> None:
        """Checks names, sizes and groups."""
        _check_unique("unit spaces", (space.name for space in self.spaces))
        _check_unique("leaves", (leaf.path for leaf in self.leaves))
        sizes = {space.name: space.size for space in self.spaces}
        for space in self.spaces:
            if space.group not in GROUPS:
                raise ValueError(
                    f"unit space {space.name!r}: group should be one of "
                    f"{list(GROUPS)}, got {space.group!r}."
                )
            if space.size < 1:
                raise ValueError(
                    f"unit space {space.name!r}: size should be at least 1, got "
                    f"{space.size}."
                )
        for leaf in self.leaves:
            _check_leaf(leaf, sizes)

    @cached_property
    def space_by_name(self) -> dict[str, UnitSpace]:
        """Unit spaces by name."""
        return {space.name: space for space in self.spaces}

    @cached_property
    def leaf_by_path(self) -> dict[str, Leaf]:
        """Leaves by path."""
        return {leaf.path: leaf for leaf in self.leaves}

    @property
    def num_parameters(self) -> int:
        """Scalars in one network, `P`."""
        return sum(leaf.size for leaf in self.leaves)

    def template(self, dtype: DTypeLike = jnp.float32) -> Theta:
        """Returns a nested dict of `jax.ShapeDtypeStruct`, one per leaf."""
        return _trees.nest(
            {
                leaf.path: jax.ShapeDtypeStruct(leaf.stored, dtype)
                for leaf in self.leaves
            }
        )

    def permutations_only(self) -> "WeightSpec":
        """Returns the same spaces and leaves under permutations alone.

        This is the symmetry that a canonical form of scales and signs leaves.
        """
        spaces = tuple(UnitSpace(s.name, s.size) for s in self.spaces)
        return WeightSpec(spaces, self.leaves)


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"names of {what} should be unique, got {name!r} twice.")
        seen.add(name)


def _check_leaf(leaf: Leaf, sizes: dict[str, int]) -> None:
    for position, axis in enumerate(leaf.axes):
        if axis.space is None:
            continue
        if axis.space not in sizes:
            raise ValueError(
                f"leaf {leaf.path!r}, axis {position}: expected one of the unit "
                f"spaces {list(sizes)}, got {axis.space!r}. Add it to `spaces`."
            )
        if axis.size != sizes[axis.space]:
            raise ValueError(
                f"leaf {leaf.path!r}, axis {position}: expected size "
                f"{sizes[axis.space]} of unit space {axis.space!r}, got {axis.size}."
            )
    if math.prod(leaf.stored) != math.prod(leaf.view):
        raise ValueError(
            f"leaf {leaf.path!r}: a stored shape {leaf.stored} should hold as many "
            f"scalars as its view {leaf.view}."
        )


def check_theta(spec: WeightSpec, theta: Theta) -> None:
    """Raises unless `theta` has exactly the leaves and shapes of `spec`.

    Looks at structure only, so it works on traced values and costs nothing at run
    time. Dtypes are not checked beyond being floating.

    Args:
        spec: the weight space.
        theta: weights of one network, no batch axis (batch with `jax.vmap`).

    Raises:
        ValueError: names the first leaf that is missing, unexpected, has the wrong
            shape or is not floating.
    """
    leaves = _trees.flatten(theta)
    expected = spec.leaf_by_path
    missing = [path for path in expected if path not in leaves]
    extra = [path for path in leaves if path not in expected]
    if missing or extra:
        raise ValueError(
            f"theta does not fit its spec: missing leaves {missing}, unexpected leaves "
            f"{extra}; expected {list(expected)}. Rename the leaves, or build the spec "
            f"from this network."
        )
    for path, leaf in expected.items():
        got: Any = leaves[path]
        if tuple(got.shape) != leaf.stored:
            raise ValueError(
                f"theta does not fit its spec: leaf {path!r} should have shape "
                f"{leaf.stored}, got {tuple(got.shape)}. One network has no batch "
                f"axis: use jax.vmap for many."
            )
        if not jnp.issubdtype(got.dtype, jnp.floating):
            raise ValueError(
                f"theta does not fit its spec: leaf {path!r} should be floating, got "
                f"{got.dtype}."
            )


def views(spec: WeightSpec, theta: Theta) -> Leaves:
    """Returns the leaves of `theta` by path, in the order and views of the spec.

    Args:
        spec: the weight space.
        theta: weights of one network.

    Returns:
        A dict from path to an array of shape `leaf.view`.

    Raises:
        ValueError: as `check_theta`.
    """
    check_theta(spec, theta)
    leaves = _trees.flatten(theta)
    return {leaf.path: leaves[leaf.path].reshape(leaf.view) for leaf in spec.leaves}


def from_views(spec: WeightSpec, leaves: Leaves, like: Theta) -> Theta:
    """Returns a tree with the structure of `like` and the values of `leaves`.

    The inverse of `views`: `from_views(spec, views(spec, theta), theta)` is `theta`.
    """
    flat, structure = jax.tree_util.tree_flatten_with_path(like)
    by_path = spec.leaf_by_path
    ordered = []
    for key_path, _ in flat:
        path = _trees.path_of(key_path)
        ordered.append(leaves[path].reshape(by_path[path].stored))
    return jax.tree.unflatten(structure, ordered)
