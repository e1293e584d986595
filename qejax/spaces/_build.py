"""Builders of leaves: dense and convolution kernels with their biases.

A network's spec is the concatenation of what its layers contribute; `Wire` says what
flows between two layers, so that no layer needs to know its position.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qejax.spaces._leaf import Axis, Leaf
from qejax.spaces._spec import Shift, UnitSpace, WeightSpec


@dataclass(frozen=True)
class Wire:
    """What flows between two layers.

    Attributes:
        size: number of features (channels).
        space: the unit space that moves them, `None` for inputs and outputs.
        degree: of the activation that made them: readers of the wire carry the
            power `-degree`. 1 for odd activations.
        blocks: how many fixed positions each feature was flattened with; 1 unless
            a spatial map was flattened, features fastest.
        scale: a space of one unit per feature: the scale between a norm and what
            reads it; `None` if there is none.
        turn: what a turn adds to the bias of the units, see `Axis`.
    """

    size: int
    space: str | None = None
    degree: int = 1
    blocks: int = 1
    scale: str | None = None
    turn: float = 0.0

    def reads(self) -> tuple[Axis, ...]:
        """The axes along which a leaf reads this wire."""
        if self.space is None:
            axes = (Axis(self.size),)
        else:
            axes = (Axis(self.size, self.space, -self.degree),)
        if self.blocks != 1:
            axes = (Axis(self.blocks), *axes)
        return axes if self.scale is None else (*axes, Axis(1, self.scale, -1))

    def write(self) -> Axis:
        """The axis along which a leaf writes this wire."""
        if self.space is None:
            return Axis(self.size)
        return Axis(self.size, self.space, 1)


@dataclass(frozen=True)
class Part:
    """What a piece of a network adds to its spec; parts add up in network order.

    Attributes:
        spaces: unit spaces.
        leaves: leaves.
        shifts: translations.
    """

    spaces: tuple[UnitSpace, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    shifts: tuple[Shift, ...] = ()

    def __add__(self, other: "Part") -> "Part":
        """Returns both, this one first."""
        return Part(
            self.spaces + other.spaces,
            self.leaves + other.leaves,
            self.shifts + other.shifts,
        )

    def spec(self) -> WeightSpec:
        """Returns the spec of the network whose parts were added."""
        return WeightSpec(self.spaces, self.leaves, self.shifts)


def stored_as(path: str, axes: Sequence[Axis], shape: Sequence[int]) -> Leaf:
    """Returns the leaf of an array `[*shape]` whose view has these axes."""
    view = tuple(axis.size for axis in axes)
    stored = tuple(shape)
    return Leaf(path, tuple(axes), None if stored == view else stored)


def bias(path: str, out: Wire) -> Leaf:
    """Returns the leaf of a bias `[n_out]`."""
    return Leaf(f"{path}/bias", (replace(out.write(), turn=out.turn),))


def dense(
    path: str, source: Wire, out: Wire, *, use_bias: bool = True
) -> tuple[Leaf, ...]:
    """Returns the leaves of a dense layer, `kernel: [blocks * n_in, n_out]`.

    Args:
        path: prefix of the leaf paths.
        source: what the layer reads.
        out: what it writes.
        use_bias: whether it has a bias.

    Returns:
        The kernel's leaf and, with a bias, the bias's.

    Example:
        >>> kernel, _ = dense("head", Wire(8, "hidden_0", blocks=9), Wire(10))
        >>> kernel.stored, kernel.view
        ((72, 10), (9, 8, 10))
    """
    axes = (*source.reads(), out.write())
    shape = (source.blocks * source.size, out.size)
    kernel = stored_as(f"{path}/kernel", axes, shape)
    return (kernel, bias(path, out)) if use_bias else (kernel,)


def conv(
    path: str, window: Sequence[int], source: Wire, out: Wire, *, use_bias: bool = True
) -> tuple[Leaf, ...]:
    """Returns the leaves of a convolution, `kernel: [*window, n_in, n_out]`.

    Spatial axes never move; strides and padding do not change the symmetry.

    Args:
        path: prefix of the leaf paths.
        window: the sides of the kernel, any number of spatial axes.
        source: what the layer reads.
        out: what it writes.
        use_bias: whether it has a bias.

    Returns:
        The kernel's leaf and, with a bias, the bias's.
    """
    spatial = tuple(Axis(side) for side in window)
    kernel = Leaf(f"{path}/kernel", (*spatial, *source.reads(), out.write()))
    return (kernel, bias(path, out)) if use_bias else (kernel,)
