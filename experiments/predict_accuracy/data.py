"""The images of the digits zoo: scikit-learn's digits, embedded in the package.

1,797 real handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak 1998, the test part
of the UCI "optical recognition of handwritten digits" set). Nothing is downloaded.
"""

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

IMAGES_KEY = 1798
"""Seed of the split of the images. Fixed: every zoo is scored on the same images."""

NUM_TRAIN = 1000
"""Images that the networks of a zoo may train on; the other 797 score them."""


class Images(NamedTuple):
    """Images and labels of one task, split once and for all.

    Attributes:
        train_x: `[N, 64]`, float32 in `[-1, 1]`, row by row from the top left.
        train_y: `[N]`, int32 in `0..9`.
        test_x: `[M, 64]`, as `train_x`.
        test_y: `[M]`, as `train_y`.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def digits() -> Images:
    """Returns the digits, 1,000 to train on and 797 to score on.

    Example:
        >>> images = digits()
        >>> images.train_x.shape, images.test_x.shape
        ((1000, 64), (797, 64))
    """
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(IMAGES_KEY).permutation(len(y))
    x = (x[order] / 8.0 - 1.0).astype(np.float32)
    y = y[order].astype(np.int32)
    return Images(x[:NUM_TRAIN], y[:NUM_TRAIN], x[NUM_TRAIN:], y[NUM_TRAIN:])
