"""What is done to images: the targets, by name. A new edit is a new row."""

from collections.abc import Callable
from typing import Any

import numpy as np

Edit = Callable[[np.ndarray], np.ndarray]
"""`images [B, *shape, c] in [0, 1] -> images`, one by one."""

GAIN = 1.5
"""Of contrast, around the mean of an image."""


def dilated(images: np.ndarray) -> np.ndarray:
    """Returns the largest value of every window of three along each axis of a grid."""
    return _filtered("maximum_filter", images)


def eroded(images: np.ndarray) -> np.ndarray:
    """Returns the smallest value of every window of three along each axis."""
    return _filtered("minimum_filter", images)


def contrasted(images: np.ndarray) -> np.ndarray:
    """Returns images with their distance from the mean times 1.5, cut off at 0 and 1.

    Example:
        >>> print(contrasted(np.array([[[0.0], [0.5], [1.0]]]))[0, :, 0])
        [0.  0.5 1. ]
    """
    axes = tuple(range(1, images.ndim - 1))
    mean = images.mean(axes, keepdims=True)
    return np.clip(mean + GAIN * (images - mean), 0, 1)


EDITS: dict[str, Edit] = {
    "dilate": dilated,
    "erode": eroded,
    "contrast": contrasted,
}
"""By name. Beyond the border an image goes on as its mirror image."""


def _filtered(name: str, images: np.ndarray) -> np.ndarray:
    # scipy comes with scikit-learn; importing it takes a second.
    from scipy import ndimage

    size = (1, *(3 for _ in images.shape[1:-1]), 1)
    kind: Any = getattr(ndimage, name)
    return kind(images, size=size, mode="reflect")
