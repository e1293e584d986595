"""A tiny augmented Small CNN Zoo: pairs of networks that compute the same."""

from pathlib import Path
from typing import Any

import numpy as np

from qejax.zoo.files import write_pickle

SHAPES = [(4, 1, 3, 3), (5, 4, 3, 3), (3, 5)]


def layers(count: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Networks and a copy of each behind it, hidden units permuted and scaled."""
    rng = np.random.default_rng(seed)
    kernels, biases, undo = [], [], None
    for number, shape in enumerate(SHAPES):
        kernel = rng.normal(size=(count, *shape)) / 3
        bias = rng.normal(size=(count, shape[0])) / 3
        copy, bent = kernel.copy(), bias.copy()
        ends = (1,) * (len(shape) - 2)
        if undo is not None:
            order, scale = undo
            copy = copy[:, :, order] / scale.reshape(1, 1, -1, *ends)
        if number < 2:
            order, scale = rng.permutation(shape[0]), rng.uniform(1, 10, shape[0])
            copy = copy[:, order] * scale.reshape(1, -1, 1, *ends)
            bent, undo = bent[:, order] * scale, (order, scale)
        kernels.append(np.stack([kernel, copy], 1).reshape(-1, *shape))
        biases.append(np.stack([bias, bent], 1).reshape(-1, shape[0]))
    return kernels, biases


def write(root: Path, name: str, count: int, seed: int, **changes: Any) -> Path:
    root.mkdir(exist_ok=True)
    kernels, biases = layers(count, seed)
    tensors = {
        **{f"weights_augmented.{n}": x.astype("f4") for n, x in enumerate(kernels)},
        **{f"biases_augmented.{n}": x.astype("f4") for n, x in enumerate(biases)},
    }
    accuracy = np.repeat(np.linspace(0.1, 0.9, count), 2).tolist()
    fields: dict[str, Any] = {"accuracy_test_augmented": accuracy}
    for key, value in changes.items():
        at = key.replace("__", ".")
        (tensors if isinstance(value, np.ndarray) else fields)[at] = value
    path = root / f"augment_zoo_cifar_{name}.pickle"
    write_pickle(path, tensors, fields)
    return path


def directory(root: Path) -> Path:
    for seed, (split, count) in enumerate((("train", 4), ("val", 1), ("test", 3))):
        write(root, f"10_{split}", count, seed)
        write(root, f"tanh_-1_1_{split}", count, seed)
    return root
