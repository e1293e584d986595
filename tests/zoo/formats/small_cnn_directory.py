"""A tiny directory in the format of the Small CNN Zoo, whole or spoilt in one place."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 8
LAYOUT = [
    ("sequential/conv2d/bias:0", 2, (2,)),
    ("sequential/conv2d/kernel:0", 18, (3, 3, 1, 2)),
    ("sequential/conv2d_1/bias:0", 3, (3,)),
    ("sequential/conv2d_1/kernel:0", 54, (3, 3, 2, 3)),
    ("sequential/dense/bias:0", 4, (4,)),
    ("sequential/dense/kernel:0", 12, (3, 4)),
]
WIDTH = sum(size for _, size, _ in LAYOUT)

Table = list[dict[str, Any]]


def some_weights() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)


def layout_table() -> Table:
    table, start = [], 0
    for name, size, shape in LAYOUT:
        table.append(
            {"varname": name, "start_idx": start, "end_idx": start + size}
            | {"shape": str(shape)}
        )
        start += size
    return table


def metrics_table() -> Table:
    """Four networks at two steps each: `run_1` is tanh, the others ReLU."""
    return [
        {
            "": row,
            "modeldir": f"run_{row // 2}",
            "step": [3, 86][row % 2],
            "config.activation": "tanh" if row // 2 == 1 else "relu",
            "config.learning_rate": 0.01 * row,
            "config.optimizer": "adam",
            "test_accuracy": 0.1 * row,
            "test_loss": 2.0,
            "train_accuracy": 0.5,
            "train_loss": 1.5,
        }
        for row in range(ROWS)
    ]


def write_table(path: Path, table: Table) -> None:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]) if table else ["varname"])
        writer.writeheader()
        writer.writerows(table)


def write_directory(
    root: Path,
    weights: np.ndarray | None = None,
    layout: Table | None = None,
    metrics: Table | None = None,
) -> Path:
    root.mkdir(exist_ok=True)
    np.save(root / "weights.npy", some_weights() if weights is None else weights)
    write_table(root / "layout.csv", layout_table() if layout is None else layout)
    write_table(
        root / "metrics.csv.gz", metrics_table() if metrics is None else metrics
    )
    return root


def with_cell(table: Callable[[], Table], row: int, **values: Any) -> Table:
    changed = table()
    changed[row] |= values
    return changed
