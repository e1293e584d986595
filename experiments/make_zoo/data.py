"""The images that a zoo is trained on: embedded digits, or what TFDS has prepared."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from experiments.make_zoo.config import Config
from experiments.predict_accuracy.data import digits
from qejax import zoo


def load(config: Config) -> zoo.Data:
    """Returns the images of a zoo in `[-1, 1]`, and their labels.

    Raises:
        FileNotFoundError: if TFDS has not prepared the data set there.
    """
    limits = {"train": config.train_images or None, "test": config.test_images or None}
    if config.images == "digits":
        train_x, train_y, test_x, test_y = digits()
        whole = {"train": (train_x, train_y), "test": (test_x, test_y)}
        cut = {name: [a[: limits[name]] for a in whole[name]] for name in whole}
    else:
        cut = {}
        for name, limit in limits.items():
            images, labels = prepared(config.images, config.tfds, name, limit)
            cut[name] = (images / 127.5 - 1).astype(np.float32), labels
    return zoo.Data(*cut["train"], *cut["test"])


def prepared(
    name: str, folder: Path | None, split: str, limit: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first images of a split that TFDS has prepared, and their labels.

    Args:
        name: of the data set.
        folder: of prepared data sets; `None` for `TFDS_DATA_DIR`.
        split: `train` or `test`.
        limit: at most so many; `None` for all.

    Returns:
        Bytes `[N, height, width, channels]`, and `[N]` int32.

    Raises:
        FileNotFoundError: if the data set is not there.
    """
    root = folder or Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    root = root.expanduser()
    if not (root / name).is_dir():
        raise FileNotFoundError(
            f"--tfds {root}: expected a folder {name} that TFDS has prepared, as "
            f"ArrayRecord, found none. Prepare it where TensorFlow is installed."
        )
    # TFDS takes a second to import.
    import tensorflow_datasets as tfds

    source: Any = tfds.data_source(name, split=split, data_dir=root, download=False)
    records = source.__getitems__(range(len(source))[:limit])
    images = np.stack([record["image"] for record in records])
    labels = np.array([record["label"] for record in records], np.int32)
    return images, labels
