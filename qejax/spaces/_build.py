"""Builders of leaves: dense and convolution kernels with their biases.

A network's spec is the concatenation of what its layers contribute; `Wire` says what
flows between two layers, so that no layer needs to know its position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from qejax.spaces._spec import Axis, Leaf


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
    """

    size: int
    space: str | None = None
    degree: int = 1
    blocks: int = 1

    def read(self) -> Axis:
        """The axis along which a leaf reads this wire."""
        if self.space is None:
            return Axis(self.size)
        return Axis(self.size, self.space, -self.degree)

    def write(self) -> Axis:
        """The axis along which a leaf writes this wire."""
        if self.space is None:
            return Axis(self.size)
        return Axis(self.size, self.space, 1)


def bias(path: str, out: Wire) -> Leaf:
    """Returns the leaf of a bias `[n_out]`."""
    return Leaf(f"{path}/bias", (out.write(),))


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
    axes = (source.read(), out.write())
    shape = None
    if source.blocks != 1:
        axes = (Axis(source.blocks), *axes)
        shape = (source.blocks * source.size, out.size)
    kernel = Leaf(f"{path}/kernel", axes, shape)
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
    kernel = Leaf(f"{path}/kernel", (*spatial, source.read(), out.write()))
    return (kernel, bias(path, out)) if use_bias else (kernel,)
