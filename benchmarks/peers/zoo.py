"""The public Small CNN zoo as NumPy arrays, with the group that keeps its functions.

On disk: `weights.npy` (one flat row per checkpoint), `layout.csv` (where each tensor
lies in the row) and `metrics.csv.gz` (one line per checkpoint). The peers are PyTorch
models, so kernels leave here as `[N, n_out, n_in, kh, kw]` and `[N, n_out, n_in]`.
Nothing read here is executed: no pickle, shapes through `ast.literal_eval`.

Source:
    Unterthiner et al. 2020, arXiv:2002.11448 (the zoo and its format).
"""

import ast
import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

LAST_STEP = 86  # the step of a network's last checkpoint, here and in the peers
SPLIT_SEED = 0


class Zoo(NamedTuple):
    """`N` networks of one architecture with `L` layers, and what is asked of them.

    `weights[l]: [N, n_{l+1}, n_l, ...kernel]`, `biases[l]: [N, n_{l+1}]`,
    `labels: [N]`: test accuracies in [0, 1], or the numbers of classes.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    labels: np.ndarray

    def map(self, fn: Callable[[np.ndarray], np.ndarray]) -> "Zoo":
        """Applies `fn` to every array."""
        return Zoo(
            tuple(map(fn, self.weights)), tuple(map(fn, self.biases)), fn(self.labels)
        )

    def take(self, rows: np.ndarray | slice) -> "Zoo":
        """The networks in `rows`, in that order."""
        return self.map(lambda x: x[rows])


class Split(NamedTuple):
    """Row numbers of each part."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def read_zoo(folder: str | Path, activation: str = "relu") -> Zoo:
    """Reads the last checkpoint of every network with this activation.

    Args:
        folder: holds `weights.npy`, `layout.csv`, `metrics.csv.gz`.
        activation: kept value of `config.activation`; the group of the zoo (positive
            scales for ReLU) depends on it, so they are never mixed.

    Raises:
        ValueError: if the files disagree in length, no network is left, a tensor has
            an unknown name, or a weight that is kept is not finite.
    """
    folder = Path(folder)
    flat = np.load(folder / "weights.npy", allow_pickle=False)
    with gzip.open(folder / "metrics.csv.gz", "rt", newline="") as file:
        metrics = list(csv.DictReader(file))
    if len(metrics) != len(flat):
        raise ValueError(
            f"weights.npy has {len(flat)} rows and metrics.csv.gz {len(metrics)} lines;"
            " they should be row-aligned."
        )
    kept = [
        row
        for row, line in enumerate(metrics)
        if int(line["step"]) == LAST_STEP and line["config.activation"] == activation
    ]
    if not kept:
        raise ValueError(f"no network at step {LAST_STEP} with {activation=}.")
    flat = flat[kept]
    if not np.isfinite(flat).all():
        raise ValueError("a weight is not finite; drop such networks first.")
    accuracy = np.array([float(metrics[row]["test_accuracy"]) for row in kept])
    weights, biases = _unflatten(flat, folder / "layout.csv")
    return Zoo(weights, biases, accuracy.astype(flat.dtype))


def _unflatten(
    flat: np.ndarray, layout: Path
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Cuts `flat: [N, P]` into kernels and biases, in the order of the layers."""
    weights: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    with layout.open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        shape = ast.literal_eval(line["shape"])
        cut = flat[:, int(line["start_idx"]) : int(line["end_idx"])]
        cut = cut.reshape(len(flat), *shape)
        # By name and never by position: this zoo stores the bias before the kernel.
        if line["varname"].endswith("bias:0"):
            biases.append(cut)
        elif line["varname"].endswith("kernel:0"):
            # [..., n_in, n_out] to [n_out, n_in, ...].
            axes = (cut.ndim - 1, cut.ndim - 2, *range(1, cut.ndim - 2))
            weights.append(np.ascontiguousarray(cut.transpose(0, *axes)))
        else:
            raise ValueError(
                f"layout.csv names {line['varname']!r}; expected a name that ends in"
                " 'kernel:0' or 'bias:0'."
            )
    return tuple(weights), tuple(biases)


def split_rows(n: int) -> Split:
    """60/10/30 for train, validation and test, the same for every competitor."""
    order = np.random.default_rng(SPLIT_SEED).permutation(n)
    ends = int(0.6 * n), int(0.7 * n)
    return Split(order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] :])


def rewire(zoo: Zoo, rng: np.random.Generator, high: float = 1.0) -> Zoo:
    """Other weights, same functions: a random group element for each network.

    Hidden units are permuted and their incoming weights and bias multiplied by a scale
    from U[1, high], their outgoing weights divided by it. `high=1` only permutes.
    """
    weights, biases = list(zoo.weights), list(zoo.biases)
    rows = np.arange(len(zoo.labels))[:, None]
    for l in range(len(weights) - 1):
        width = biases[l].shape[1]
        perm = np.argsort(rng.random((len(rows), width)), axis=1)
        scale = rng.uniform(1.0, high, (len(rows), width)).astype(biases[l].dtype)
        biases[l] = biases[l][rows, perm] * scale
        weights[l] = weights[l][rows, perm] * _columns(scale, weights[l].ndim)
        after = np.moveaxis(weights[l + 1], 2, 1)[rows, perm]
        after = after / _columns(scale, after.ndim)
        weights[l + 1] = np.ascontiguousarray(np.moveaxis(after, 1, 2))
    return Zoo(tuple(weights), tuple(biases), zoo.labels)


def _columns(scale: np.ndarray, ndim: int) -> np.ndarray:
    """`scale: [N, n]` with ones appended to `ndim` axes."""
    return scale.reshape(*scale.shape, *(1,) * (ndim - 2))
