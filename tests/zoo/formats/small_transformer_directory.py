"""A tiny directory in the format of the Small Transformer Zoo, whole or spoilt."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qejax.nets import sine_positions
from tests.zoo.files.torch_pickles import storage, tensor, write

RUNS, EPOCHS = 4, ("1", "75")
DIM, PATCHES = 4, 4
SIZES = {
    "image_size": 4,
    "patch_size": 2,
    "n_channels": 1,
    "n_classes": 3,
    "embed_dim": DIM,
    "n_attention_heads": 2,
    "forward_mul": 2,
    "n_layers": 1,
}
SHAPES: dict[str, tuple[int, ...]] = {
    "embedding.pos_embedding": (PATCHES, DIM),
    "embedding.conv1.weight": (DIM, 1, 2, 2),
    "embedding.conv1.bias": (DIM,),
    "encoder.0.attention.queries.weight": (DIM, DIM),
    "encoder.0.attention.keys.weight": (DIM, DIM),
    "encoder.0.attention.values.weight": (DIM, DIM),
    "encoder.0.attention.out_projection.weight": (DIM, DIM),
    "encoder.0.fc1.weight": (2 * DIM, DIM),
    "encoder.0.fc1.bias": (2 * DIM,),
    "encoder.0.fc2.weight": (DIM, 2 * DIM),
    "encoder.0.fc2.bias": (DIM,),
    "classifier.fc1.weight": (DIM, DIM),
    "classifier.fc1.bias": (DIM,),
    "classifier.fc2.weight": (3, DIM),
    "classifier.fc2.bias": (3,),
}

State = dict[str, np.ndarray]
Table = list[dict[str, Any]]


def state(row: int) -> State:
    """The tensors of the checkpoint of a line of the table."""
    rng = np.random.default_rng(row)
    drawn = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in SHAPES.items()
    }
    table = sine_positions(PATCHES, DIM).astype(np.float32)
    return drawn | {"embedding.pos_embedding": table}


def table() -> Table:
    """Four runs with a checkpoint of each epoch, accuracies 0, 0.1, 0.2 and so on."""
    lines = []
    for row in range(RUNS * len(EPOCHS)):
        run, epoch = f"run{row // 2}", EPOCHS[row % 2]
        lines.append(
            {"optimizer": "adam", "lr": 0.01 * row, **SIZES, "ckpt_epoch": epoch}
            | {"ckpt_file": f"mnist/{run}_{epoch}_{1000 * row}.pt"}
            | {"test_top1_accuracy": row / 10}
        )
    return lines


def changed(row: int, **values: Any) -> Table:
    """The table with other entries in a line."""
    lines = table()
    lines[row] |= values
    return lines


def write_state(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    """Writes a checkpoint as PyTorch does."""
    kinds = {"f4": "Float", "f8": "Double", "i8": "Long"}
    described = {}
    for key, (name, array) in enumerate(tensors.items()):
        stored = storage(str(key), kinds[array.dtype.str[1:]], array.size)
        strides = tuple(stride // array.itemsize for stride in array.strides)
        described[name] = tensor(array.shape, strides, of=stored)
    return write(path, described, *tensors.values(), byteorder=b"little")


def write_directory(
    root: Path, lines: Table | None = None, states: Mapping[int, State] | None = None
) -> Path:
    """Writes a directory, with the tensors of some lines replaced."""
    lines = table() if lines is None else lines
    (root / "metadata").mkdir(parents=True)
    (root / "mnist").mkdir()
    with (root / "metadata" / "mnist.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    for row, line in enumerate(table()):
        tensors = (states or {}).get(row, state(row))
        write_state(root / str(line["ckpt_file"]), tensors)
    return root
