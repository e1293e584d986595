"""Max pooling between a convolution and its activation."""

from dataclasses import dataclass
from typing import ClassVar

from qejax._typing import Array


@dataclass(frozen=True)
class MaxPool:
    """The largest value of every window, windows side by side.

    A rest at the far sides that does not fill a window is left out.

    Attributes:
        side: of the windows, and the stride.
        group: the largest group in `qejax.groups.GROUPS` that it commutes with.
    """

    group: ClassVar[str] = "positive_scale"
    side: int

    def __call__(self, x: Array) -> Array:
        """Returns `[N, height // side, width // side, C]`.

        Raises:
            ValueError: if the map is smaller than a window.
        """
        return self._windows(x).max((2, 4))

    def mean(self, x: Array) -> Array:
        """Returns the means of the windows: what is linear and closest."""
        return self._windows(x).mean((2, 4))

    def out_size(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the spatial shape after the pooling.

        Raises:
            ValueError: if nothing is left.

        Example:
            >>> MaxPool(2).out_size((11, 24))
            (5, 12)
        """
        if min(spatial) < self.side:
            raise ValueError(
                f"max pooling of side {self.side}: expected a map at least as large, "
                f"got {tuple(spatial)}. Use smaller pools, strides or kernels."
            )
        return tuple(length // self.side for length in spatial)

    def _windows(self, x: Array) -> Array:
        height, width = self.out_size(x.shape[1:-1])
        x = x[:, : height * self.side, : width * self.side]
        number, *_, channels = x.shape
        return x.reshape(number, height, self.side, width, self.side, channels)
