"""What is known of one array of the traced function."""

from dataclasses import dataclass, replace

import numpy as np

from qejax.derive._forms import ONE, Form
from qejax.derive._units import Atom, Axis, constant, length


@dataclass(frozen=True, eq=False)
class Value:
    """An array, or what stands for it.

    Attributes:
        axes: one for each dimension.
        factor: what all of it is multiplied by.
        weights: whether it depends on the weights.
        known: its numbers, if it depends on no argument and is small.
        leaf: path of the leaf of which it is a view: nothing but moved about.
        bias: path of a leaf, and a number: the value is that times the leaf, plus
            something that the leaf has no part in.
        root: of what it is the square, entry by entry.
        pieces: its slices along an axis, each with units of its own; of weights that
            are taken apart.
        along: the axis, of one index in each of the pieces; -1 of stacked weights, the
            first, which pieces do not have.
    """

    axes: tuple[Axis, ...]
    factor: Form = ONE
    weights: bool = False
    known: np.ndarray | None = None
    leaf: str | None = None
    bias: tuple[str, float] | None = None
    root: "Value | None" = None
    pieces: "tuple[Value, ...] | None" = None
    along: int = -1

    @property
    def zero(self) -> bool:
        """Whether it is known to be zero, which any factor keeps."""
        return self.known is not None and not np.any(self.known)

    @property
    def unsized(self) -> bool:
        """Whether it is made of zeros and infinities, which positive factors keep."""
        if self.known is None or self.known.dtype.kind != "f":
            return self.zero
        return bool(np.all((self.known == 0) | np.isinf(self.known)))

    @property
    def scalar(self) -> float | None:
        """Its one number, if all entries are known to be the same."""
        if self.known is None or not self.known.size or self.known.dtype.kind in "OVc":
            return None
        first = self.known.flat[0]
        return float(first) if np.all(self.known == first) else None

    def viewed(self, axes: tuple[Axis, ...], factor: Form | None = None) -> "Value":
        """Returns the same entries in another order, or some of them."""
        factor = self.factor if factor is None else factor
        return replace(self, axes=axes, factor=factor, known=None, root=None)


def known_value(array: np.ndarray) -> Value:
    """Returns the value of an array of numbers."""
    axes = []
    for position, size in enumerate(array.shape):
        first = array.take([0], position) if size else array
        same = array.dtype.kind in "OV" or not np.array_equal(
            np.broadcast_to(first, array.shape), array, equal_nan=False
        )
        axes.append(((Atom(size, constant=not same or size == 1),),))
    return Value(tuple(axes), known=array)


def lifted(value: Value, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """Returns the axes of a value that is an operand of a result of this shape.

    Numbers, and axes of one index, go with any size.
    """
    if not value.axes:
        return tuple(constant(size) for size in shape)
    return tuple(
        constant(size) if length(axis) == 1 else axis
        for axis, size in zip(value.axes, shape, strict=True)
    )
