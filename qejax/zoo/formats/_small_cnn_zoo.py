"""The public Small CNN Zoo: many small image classifiers, one flat vector each.

A directory holds

- `weights.npy`: `[rows, P]` float32, one checkpoint a row;
- `layout.csv`: where each tensor lies in a row: `varname, start_idx, end_idx, shape`;
  the public one stores the bias of a layer before its kernel, so tensors are found by
  name and never by position;
- `metrics.csv.gz`: one line a checkpoint, row-aligned; an unnamed index column may
  come first, so columns are read by name.

The networks are 3x3 convolutions with stride 2 and padding VALID, a global average
pool and a dense layer; kernels are stored as Flax stores them. The side of the images
is not stored, and not needed. Nothing that is read is executed: no pickle, shapes
through `ast.literal_eval`.

Source: Unterthiner et al. 2020, arXiv:2002.11448.
"""

import ast
import csv
import gzip
import math
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qejax.nets import ACTIVATIONS, CNNConfig, Network, build
from qejax.zoo._splits import split_networks
from qejax.zoo._zoo import Zoo, from_vectors

FILES = ("weights.npy", "layout.csv", "metrics.csv.gz")
LABELS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
PREFIX = "config."
STRIDE = 2


class Tensor(NamedTuple):
    """One line of `layout.csv`."""

    layer: str
    kind: str
    start: int
    end: int
    shape: tuple[int, ...]


def load_small_cnn_zoo(
    directory: str | Path,
    activation: str = "relu",
    step: int | None = None,
    split_seed: int = 0,
) -> Zoo:
    """Returns the networks of a Small CNN Zoo directory with one activation.

    Args:
        directory: holds `weights.npy`, `layout.csv` and `metrics.csv.gz`.
        activation: which networks; the symmetry depends on it, so they are not mixed.
        step: of the checkpoint to take; `None` takes the last of every network.
        split_seed: of the split by network, see `split_networks`.

    Returns:
        The zoo, in the order of the rows. `labels` are the four accuracies and losses,
        `hyper` the `config.*` columns without their prefix and the `step`, `ids` the
        column `modeldir`.

    Raises:
        FileNotFoundError: if a file is missing; names it.
        ValueError: if a file cannot be read, is truncated, or does not fit the others,
            or a value of a network that is kept is out of range; names file, row or
            field, what was expected and what was found.
    """
    directory = Path(directory)
    for name in FILES:
        if not (directory / name).is_file():
            raise FileNotFoundError(
                f"{directory}: a Small CNN Zoo has the files {list(FILES)}; {name} is "
                f"missing."
            )
    weights = _weights(directory / "weights.npy")
    tensors = _layout(directory / "layout.csv", weights.shape[1])
    metrics = _metrics(directory / "metrics.csv.gz", len(weights))
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"{directory}: activation {activation!r} is unknown: expected one of "
            f"{list(ACTIVATIONS)}."
        )
    rows = _select(directory / "metrics.csv.gz", metrics, activation, step)
    vectors = weights[rows]
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{directory / 'weights.npy'}, row {rows[bad[0]]}: weights should be "
            f"finite, got {np.count_nonzero(~np.isfinite(vectors[bad[0]]))} values "
            f"that are not ({len(bad)} such rows). Remove the rows from both files."
        )
    net = _network(directory / "layout.csv", tensors, activation)
    chosen = [metrics[row] for row in rows]
    return Zoo(
        network=net,
        thetas=from_vectors(net.spec, _in_order(net, tensors, vectors)),
        labels=_labels(directory / "metrics.csv.gz", chosen, rows),
        hyper=_hyper(chosen),
        split=split_networks(len(rows), split_seed),
        source=f"small_cnn_zoo:{directory.name}",
        ids=np.array([line["modeldir"] for line in chosen]),
    )


def _weights(path: Path) -> np.ndarray:
    try:
        weights = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path}: expected a whole array of numbers, got one that cannot be read "
            f"({error}). Fetch the file again."
        ) from error
    if weights.ndim != 2 or weights.dtype.kind != "f":
        raise ValueError(
            f"{path}: expected a floating array [rows, weights], got {weights.dtype} "
            f"of shape {weights.shape}."
        )
    return weights


def _layout(path: Path, width: int) -> list[Tensor]:
    """The tensors by position, checked to tile `width` weights exactly."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    tensors = []
    for number, line in enumerate(lines):
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
        except (KeyError, ValueError, TypeError, SyntaxError) as error:
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


def _metrics(path: Path, rows: int) -> list[dict[str, str]]:
    try:
        with gzip.open(path, "rt", newline="") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
            columns = reader.fieldnames or []
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise ValueError(
            f"{path}: expected a gzipped table, got a file that cannot be read "
            f"({error}). Fetch the file again."
        ) from error
    missing = [
        name
        for name in ("modeldir", "step", f"{PREFIX}activation", *LABELS)
        if name not in columns
    ]
    if missing:
        raise ValueError(f"{path}: missing columns {missing}, got {list(columns)}.")
    if len(lines) != rows:
        raise ValueError(
            f"{path}: expected one line for each of {rows} rows of weights.npy, got "
            f"{len(lines)}. The files are aligned row by row: restore the missing ones."
        )
    return lines


def _select(
    path: Path, metrics: list[dict[str, str]], activation: str, step: int | None
) -> np.ndarray:
    """Rows with the activation at the step, one per network."""
    seen: dict[tuple[str, int], int] = {}
    last: dict[str, tuple[int, int]] = {}
    for row, line in enumerate(metrics):
        name = line[f"{PREFIX}activation"]
        if name not in ACTIVATIONS:
            raise ValueError(
                f"{path}, row {row}: {PREFIX}activation should be one of "
                f"{list(ACTIVATIONS)}, got {name!r}."
            )
        at = int(_number(path, row, "step", line["step"]))
        model = line["modeldir"]
        if (model, at) in seen:
            raise ValueError(
                f"{path}, row {row}: network {model!r} at step {at} is there twice, "
                f"first in row {seen[model, at]}; expected one row each."
            )
        seen[model, at] = row
        if name == activation and (step is None or at == step):
            last[model] = max(last.get(model, (at, row)), (at, row))
    if not last:
        steps = sorted({at for _, at in seen})
        names = sorted({line[f"{PREFIX}activation"] for line in metrics})
        raise ValueError(
            f"{path}: no network has activation {activation!r} and step "
            f"{'the last' if step is None else step}; there are activations {names} "
            f"and steps {steps}."
        )
    return np.sort([row for _, row in last.values()])


def _number(path: Path, row: int, name: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError as error:
        raise ValueError(
            f"{path}, row {row}: {name} should be a number, got {text!r}."
        ) from error


def _labels(
    path: Path, chosen: list[dict[str, str]], rows: np.ndarray
) -> dict[str, np.ndarray]:
    labels = {}
    for name in LABELS:
        column = np.array(
            [
                _number(path, row, name, line[name])
                for row, line in zip(rows.tolist(), chosen, strict=True)
            ]
        )
        high = 1.0 if name.endswith("accuracy") else np.inf
        bad = np.flatnonzero(~((column >= 0) & (column <= high) & np.isfinite(column)))
        if len(bad):
            raise ValueError(
                f"{path}, row {rows[bad[0]]}: {name} should be in [0, {high:g}], got "
                f"{column[bad[0]]}."
            )
        labels[name] = column.astype(np.float32)
    return labels


def _hyper(chosen: list[dict[str, str]]) -> dict[str, np.ndarray]:
    """The `config.*` columns, as numbers where every entry is one, and the step."""
    names = [name for name in chosen[0] if name and name.startswith(PREFIX)]
    columns: dict[str, Any] = {}
    for name in names:
        texts = [line[name] or "" for line in chosen]
        try:
            columns[name.removeprefix(PREFIX)] = np.array([float(t) for t in texts])
        except ValueError:
            columns[name.removeprefix(PREFIX)] = np.array(texts)
    return columns | {"step": np.array([int(float(line["step"])) for line in chosen])}


def _paths(tensors: list[Tensor]) -> list[str]:
    """Paths of the tensors in `theta`: layers are numbered by position."""
    layers = list(dict.fromkeys(tensor.layer for tensor in tensors))
    return [f"layer_{layers.index(t.layer):02d}/{t.kind}" for t in tensors]


def _network(path: Path, tensors: list[Tensor], activation: str) -> Network:
    """The network of a layout: convolutions in order of position, then a dense."""
    found = dict(zip(_paths(tensors), (t.shape for t in tensors), strict=True))
    *convs, dense = [t.shape for t in tensors if t.kind == "kernel"] or [()]
    if convs and len(dense) == 2 and all(len(shape) == 4 for shape in convs):
        net = build(
            CNNConfig(
                in_channels=convs[0][2],
                channels=tuple(shape[3] for shape in convs),
                windows=tuple(shape[:2] for shape in convs),
                strides=STRIDE,
                activation=activation,
                num_outputs=dense[1],
            )
        )
        expected = {leaf.path: leaf.stored for leaf in net.spec.leaves}
        if found == expected and len(tensors) == len(expected):
            return net
    raise ValueError(
        f"{path}: expected convolutions of four axes and then a dense layer, each with "
        f"a kernel and a bias, each reading what the one before it writes, got "
        f"{[(f'{t.layer}/{t.kind}', t.shape) for t in tensors]}."
    )


def _in_order(net: Network, tensors: list[Tensor], vectors: np.ndarray) -> np.ndarray:
    """The columns of `vectors` in the order of the spec: kernel before bias."""
    by_path = dict(zip(_paths(tensors), tensors, strict=True))
    cuts = [by_path[leaf.path] for leaf in net.spec.leaves]
    parts = [vectors[:, cut.start : cut.end] for cut in cuts]
    return np.concatenate(parts, axis=1).astype(np.float32)
