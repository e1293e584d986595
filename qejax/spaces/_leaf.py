"""A leaf of a weight space: an array of the weights, or a part of one, axis by axis."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One axis of a leaf: who moves it, and how.

    Attributes:
        size: its length.
        space: the unit space that moves it; `None` for an axis that never moves
            (inputs, outputs, kernel positions).
        power: of the unit's scale; 1 where the leaf writes the units, `-k` where it
            reads them through an activation of degree `k`.
        turn: what one turn of a group that has them adds to an entry: `pi / w0` for the
            biases of units `sin(w0 x)`; 0 where nothing is added.
    """

    size: int
    space: str | None = None
    power: int = 0
    turn: float = 0.0


@dataclass(frozen=True)
class Cut:
    """Where in an array of `theta` the part lies that a leaf is.

    Attributes:
        path: of the whole array, `/`-joined keys from the root of `theta`.
        shape: of the whole array.
        starts: where the part begins along every axis of it.
    """

    path: str
    shape: tuple[int, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Leaf:
    """One array of a network's weights, or a part of one.

    Attributes:
        path: `/`-joined keys from the root of `theta`; of a part, a name of its own
            (see `part_of`).
        axes: one `Axis` per dimension of the *view* of the leaf.
        shape: of the stored array, or of the part of it; `None` if it equals the view.
            The view is a reshape of what is stored in which every dimension is moved by
            at most one unit space: a flatten before a dense layer stores
            `[H * W * n, m]`, with the view `[H * W, n, m]`.
        cut: where the part lies; `None` if the leaf is a whole array. Queries, keys and
            values that one array holds are three leaves, for example.
    """

    path: str
    axes: tuple[Axis, ...]
    shape: tuple[int, ...] | None = None
    cut: Cut | None = None

    @property
    def view(self) -> tuple[int, ...]:
        """Shape in which every dimension has one `Axis`."""
        return tuple(axis.size for axis in self.axes)

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of the array in `theta`, or of the part of it that this leaf is."""
        return self.view if self.shape is None else self.shape

    @property
    def array(self) -> str:
        """Path of the array in `theta` that holds the leaf."""
        return self.path if self.cut is None else self.cut.path

    @property
    def array_shape(self) -> tuple[int, ...]:
        """Shape of the array in `theta` that holds the leaf."""
        return self.stored if self.cut is None else self.cut.shape

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

    @property
    def folded(self) -> int:
        """Number of scalars along the axes that never move."""
        return math.prod(self.axes[i].size for i in self.fixed())

    def writes(self, space: str) -> bool:
        """Whether units of `space` are computed from this leaf."""
        return any(axis.space == space and axis.power > 0 for axis in self.axes)

    def reads(self, space: str) -> bool:
        """Whether this leaf reads the units of `space`."""
        return any(axis.space == space and axis.power < 0 for axis in self.axes)

    def before(self, position: int, space: str) -> int | None:
        """The nearest axis before `position` that `space` moves, if there is one."""
        found = [p for p in range(position) if self.axes[p].space == space]
        return found[-1] if found else None
