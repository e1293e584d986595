"""Tiny CNN Wild Park directories, with networks of mixed architectures."""

from pathlib import Path
from typing import Any

import numpy as np

from qejax.zoo.files import write_torch

CONFIGS: list[dict[str, Any]] = [
    {
        "channels": [3, 4, 6],
        "kernel_size": [3, 5],
        "stride": [1, 2],
        "padding": [1, 0],
        "residual": [-1, -1],
        "activation": ["relu", "gelu"],
    },
    {
        "channels": [3, 4, 5, 4],
        "kernel_size": [3, 3, 5],
        "stride": [2, 1, 1],
        "padding": [0, 1, 2],
        "residual": [-1, 0, 1],
        "activation": ["tanh", "tanh", "tanh"],
    },
    {
        "channels": [3, 5],
        "kernel_size": [3],
        "stride": [1],
        "padding": [1],
        "residual": [-1],
        "activation": ["leaky_relu"],
    },
]
CLASSES = 3


def tensors_of(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Random weights under the names of the files, without `model.`."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    channels = config["channels"]
    for at, side in enumerate(config["kernel_size"]):
        shape = (channels[at + 1], channels[at], side, side)
        found[f"layers.{at}.weight"] = rng.normal(size=shape).astype(np.float32) / 4
        found[f"layers.{at}.bias"] = rng.normal(size=shape[:1]).astype(np.float32)
    found["fc.weight"] = rng.normal(size=(CLASSES, channels[-1])).astype(np.float32)
    found["fc.bias"] = rng.normal(size=CLASSES).astype(np.float32)
    return found


def write_checkpoint(
    root: Path, run: int, number: int, **changes: Any
) -> dict[str, np.ndarray]:
    """Writes a checkpoint of run `run`, whose architecture is one of `CONFIGS`."""
    config = CONFIGS[run % len(CONFIGS)] | {"n_classes": CLASSES}
    tensors = tensors_of(config, 100 * run + number) | changes.pop("tensors", {})
    folder = root / "cifar10_zooV2" / f"run{run}" / f"checkpoint_{number:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    fields = {f"config.{name}": value for name, value in config.items()}
    fields |= {"iteration": number, "last_result.test/acc": 0.1 * run + 0.01 * number}
    write_torch(
        folder / "checkpoint.pt",
        {f"model.{name}": x for name, x in tensors.items()},
        fields | changes,
        parts=("model", "last_result"),
        classes={"config": "nn.cnn_sampler.CNNConfig"},
    )
    return tensors


def write_directory(
    root: Path, runs: int = 5, numbers: tuple[int, ...] = (1, 2)
) -> Path:
    """Writes runs with some checkpoints each; returns the directory."""
    for run in range(runs):
        for number in numbers:
            write_checkpoint(root, run, number)
    return root
