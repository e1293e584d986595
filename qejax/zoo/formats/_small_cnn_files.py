"""The files of a Small CNN Zoo directory, read and checked against each other.

See `_small_cnn_zoo` for what they hold. Nothing that is read is executed: no pickle,
shapes through `ast.literal_eval`.
"""

import ast
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax.zoo.formats._csv import Table, read_csv

FILES = ("weights.npy", "layout.csv", "metrics.csv.gz")
LABELS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
PREFIX = "config."
STRIDE = 2
"""Of all convolutions; no file says so."""


class Tensor(NamedTuple):
    """One line of `layout.csv`."""

    layer: str
    kind: str
    start: int
    end: int
    shape: tuple[int, ...]


class Files(NamedTuple):
    """What a directory holds, checked as far as it concerns all networks."""

    directory: Path
    weights: np.ndarray
    tensors: list[Tensor]
    metrics: Table


def open_files(directory: Path) -> Files:
    """Returns the files of a directory, without executing anything in them.

    Raises:
        FileNotFoundError: if a file is missing; names it.
        ValueError: if a file cannot be read or does not fit the others; names file,
            line or field, what was expected and what was found.
    """
    for name in FILES:
        if not (directory / name).is_file():
            raise FileNotFoundError(
                f"{directory}: a Small CNN Zoo has the files {list(FILES)}; {name} is "
                f"missing."
            )
    weights = _weights(directory / "weights.npy")
    tensors = _layout(directory / "layout.csv", weights.shape[1])
    metrics = _metrics(directory / "metrics.csv.gz", len(weights))
    return Files(directory, weights, tensors, metrics)


def _weights(path: Path) -> np.ndarray:
    try:
        weights = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # NumPy parses Python literals
        raise ValueError(
            f"{path}: expected a whole array of numbers, got one that cannot be read "
            f"({error}). Fetch the file again."
        ) from error
    if not isinstance(weights, np.memmap):
        raise ValueError(
            f"{path}: expected one array of numbers, got an archive of arrays. Save "
            f"it with `numpy.save`."
        )
    if weights.ndim != 2 or weights.dtype.kind != "f":
        raise ValueError(
            f"{path}: expected a floating array [rows, weights], got {weights.dtype} "
            f"of shape {weights.shape}."
        )
    size, expected = path.stat().st_size, weights.offset + weights.nbytes
    if size != expected:
        raise ValueError(
            f"{path}: expected {expected} bytes, as its header says, got {size}. Fetch "
            f"the file again."
        )
    return weights


def read_rows(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns some rows of a mapped array, without keeping its pages in memory.

    Args:
        weights: of `open_files`.
        rows: ascending.
    """
    assert isinstance(weights, np.memmap)
    found = np.empty((len(rows), weights.shape[1]), weights.dtype)
    if not weights.flags.c_contiguous:
        found[:] = weights[rows]
        return found
    size = found.itemsize * weights.shape[1]
    with open(str(weights.filename), "rb", buffering=0) as file:
        for place, row in enumerate(rows.tolist()):
            file.seek(weights.offset + row * size)
            file.readinto(found[place])
    return found


def _layout(path: Path, width: int) -> list[Tensor]:
    """The tensors by position, checked to tile `width` weights exactly."""
    tensors = []
    for number, line in enumerate(read_csv(path)):
        where = f"{path}, line {number + 2}"
        layer, _, kind = str(line.get("varname")).rpartition("/")
        if kind not in ("kernel:0", "bias:0") or not layer:
            raise ValueError(
                f"{where}: 'varname' should end in '/kernel:0' or '/bias:0', got "
                f"{line.get('varname')!r}."
            )
        try:
            start, end = int(line["start_idx"]), int(line["end_idx"])
            shape = ast.literal_eval(line["shape"])
            sizes = tuple(int(side) for side in shape)
        except (KeyError, ValueError, TypeError, SyntaxError, OverflowError) as error:
            raise ValueError(
                f"{where}: expected integers 'start_idx' and 'end_idx' and a tuple "
                f"'shape', got {line} ({error})."
            ) from error
        if min(sizes, default=0) < 1 or math.prod(sizes) != end - start:
            raise ValueError(
                f"{where}: {line['varname']} spans {end - start} weights "
                f"({start} to {end}), its shape {sizes} holds {math.prod(sizes)}."
            )
        tensors.append(Tensor(layer, kind.removesuffix(":0"), start, end, sizes))
    tensors.sort(key=lambda tensor: tensor.start)
    position = 0
    for tensor in tensors:
        if tensor.start != position:
            kind = "gap" if tensor.start > position else "overlap"
            raise ValueError(
                f"{path}: {kind} before {tensor.layer}/{tensor.kind}: it should start "
                f"at {position}, where the tensor before it ends, got {tensor.start}."
            )
        position = tensor.end
    if position != width:
        raise ValueError(
            f"{path}: the tensors hold {position} weights, a row of weights.npy has "
            f"{width}."
        )
    return tensors


def _metrics(path: Path, rows: int) -> Table:
    lines = read_csv(path)
    missing = [
        name
        for name in ("modeldir", "step", f"{PREFIX}activation", *LABELS)
        if name not in lines.names
    ]
    if missing:
        raise ValueError(f"{path}: missing columns {missing}, got {lines.names}.")
    if len(lines) != rows:
        raise ValueError(
            f"{path}: expected one line for each of {rows} rows of weights.npy, got "
            f"{len(lines)}. The files are aligned row by row: restore the missing ones."
        )
    return lines
