"""The signals that a zoo of coordinate networks is fitted to, and their splits."""

import numpy as np

from experiments.make_zoo.data import prepared
from experiments.make_zoo.inr_config import SHAPES, InrConfig
from experiments.make_zoo.sounds import sounds
from experiments.predict_accuracy.data import digits
from qejax import zoo

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a pixel, of ITU-R BT.601."""


def load(config: InrConfig) -> zoo.Signals:
    """Returns the signals of a zoo: training, then validation, then test.

    Of images by TFDS, the first of its split `train` are training and validation
    signals, the first of its split `test` are test signals. The digits are permuted
    once and for all, then cut.

    Returns:
        `[S, *shape, channels]` float32 in [0, 1]; `[S]` int32; `[S]` int8.

    Raises:
        FileNotFoundError: if TFDS has not prepared the data set there.
        ValueError: if there are fewer signals than were asked for; names the flags.
    """
    counts = (config.train_signals, config.val_signals, config.test_signals)
    if config.signals == "sounds":
        values, labels = sounds(sum(counts), config.points, config.sounds_seed)
    elif config.signals == "digits":
        values, labels = digit_images(sum(counts))
    else:
        values, labels = _images(config)
    split = np.repeat(np.array(tuple(zoo.SPLITS.values()), np.int8), counts)
    return zoo.Signals(values, labels, split)


def digit_images(count: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first of the digits, in their order of old; 0 for all of them.

    Returns:
        `[S, 8, 8, 1]` float32 in [0, 1]; `[S]` int32.

    Raises:
        ValueError: if there are fewer; names the flags.
    """
    train_x, train_y, test_x, test_y = digits()
    values = (np.concatenate([train_x, test_x]) + 1) / 2
    flags = "--train-signals, --val-signals, --test-signals"
    _check(flags, "the digits", values, count)
    labels = np.concatenate([train_y, test_y])
    images = values.reshape(-1, *SHAPES["digits"], 1)
    return images[: count or None], labels[: count or None]


def _images(config: InrConfig) -> tuple[np.ndarray, np.ndarray]:
    """What TFDS has prepared: of its training images, then of its test images."""
    parts = []
    for split, flags, count in (
        (
            "train",
            "--train-signals, --val-signals",
            config.train_signals + config.val_signals,
        ),
        ("test", "--test-signals", config.test_signals),
    ):
        if count:
            images, labels = prepared(config.signals, config.tfds, split, count)
            _check(flags, f"the {split} split of {config.signals}", images, count)
            parts.append((brightness(images, config.rgb), labels))
    values, labels = zip(*parts, strict=True)
    return np.concatenate(values), np.concatenate(labels)


def brightness(images: np.ndarray, rgb: bool) -> np.ndarray:
    """Returns images in [0, 1].

    Args:
        images: bytes `[N, height, width, 1 or 3]`.
        rgb: whether three channels stay three.

    Returns:
        float32, `[N, height, width, 3]` if `rgb`, else `[N, height, width, 1]`.

    Example:
        >>> brightness(np.full((1, 1, 1, 3), 255, np.uint8), rgb=False).tolist()
        [[[[1.0]]]]
    """
    if images.shape[-1] == 3 and not rgb:
        images = images @ np.array(GREY)[:, None]
    return (images / 255).astype(np.float32)


def _check(flags: str, where: str, values: np.ndarray, count: int) -> None:
    if len(values) < count:
        raise ValueError(
            f"{flags}: expected at most {len(values)} in all, as many as there are in "
            f"{where}, got {count}."
        )
