"""Tiny zoos as those of modelzoos.cc."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from qejax.zoo.files import write_torch

SHAPES: dict[int, tuple[int, ...]] = {
    0: (8, 1, 5, 5),
    3: (6, 8, 5, 5),
    6: (4, 6, 2, 2),
    9: (20, 36),
    11: (10, 20),
}
"""Of the kernels, by the number of their layer: images of side 28."""


def tensors_of(
    seed: int, shapes: dict[int, tuple[int, ...]] = SHAPES
) -> dict[str, np.ndarray]:
    """Random weights under the names of the files."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for number, shape in shapes.items():
        scale = np.sqrt(np.prod(shape[1:]))
        weight = rng.normal(size=shape) / scale
        found[f"module_list.{number}.weight"] = weight.astype(np.float32)
        bias = rng.normal(size=shape[:1]).astype(np.float32)
        found[f"module_list.{number}.bias"] = bias
    return found


def results(epoch: int, seed: int) -> dict[str, Any]:
    """A line of results."""
    accuracy = (0.1 * seed + 0.01 * epoch) % 1
    found = {"training_iteration": epoch, "test_acc": accuracy, "test_loss": 2.5}
    return found | {"train_acc": accuracy / 2, "train_loss": 1.25, "ggap": 0.1}


def write_model(
    root: Path,
    number: int,
    nonlinearity: str = "tanh",
    tensors: dict[str, np.ndarray] | None = None,
    **changes: Any,
) -> None:
    """Writes a model with checkpoints of the epochs 0 and 5."""
    folder = root / f"NN_{number}"
    lines = [results(epoch, number) | changes for epoch in (0, 5)]
    for at, epoch in enumerate((0, 5)):
        lines[at]["training_iteration"] = epoch
        checkpoint = folder / f"checkpoint_{epoch:06d}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        own = tensors_of(10 * number + epoch) if tensors is None else tensors
        write_torch(checkpoint / "checkpoints", own)
    params = {"model::nlin": nonlinearity, "optim::lr": 0.01 * number, "seed": number}
    (folder / "params.json").write_text(json.dumps(params | {"x": [1]}))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "result.json").write_text(text)


def write_directory(root: Path, count: int = 4, nonlinearity: str = "tanh") -> Path:
    """Writes models; returns the directory."""
    for number in range(count):
        write_model(root, number, nonlinearity)
    return root
