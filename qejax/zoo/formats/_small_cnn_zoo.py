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

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax.nets import ACTIVATIONS, CNNConfig, Network, build
from qejax.zoo._listing import Found, Listing, Problem, Weights, in_memory
from qejax.zoo._zoo import Zoo
from qejax.zoo.formats._checkpoints import ALL, asked
from qejax.zoo.formats._csv import column
from qejax.zoo.formats._protocols import CLEAN, Order, small_cnn_codes
from qejax.zoo.formats._small_cnn_files import (
    LABELS,
    PREFIX,
    STRIDE,
    Files,
    Tensor,
    open_files,
    read_rows,
)

ADVICE = "remove their rows from weights.npy and metrics.csv.gz to go on without them"


def list_small_cnn_zoo(
    directory: str | Path,
    checkpoint: int | str | None = None,
    split_seed: int = 0,
    cut_off: float = 0.0,
    protocol: str = CLEAN,
    split_file: str | Path | None = None,
) -> Found:
    """Lists the networks of a Small CNN Zoo directory, a bucket for each activation.

    Weights are read from their rows when they are asked for.

    Args:
        directory: holds `weights.npy`, `layout.csv` and `metrics.csv.gz`.
        checkpoint: step of the one to take; `None` takes the last of every network,
            "all" every one. An activation without such a checkpoint is left out.
        split_seed: of the protocol "clean".
        cut_off: networks below this `test_accuracy` are left out before the split, and
            an activation of which none is left.
        protocol: how networks are split, of `protocols("small_cnn_zoo")`: "clean"
            filters by activation, step and accuracy and then splits by network, see
            `split_runs`; each activation for itself, so that its split does not depend
            on which others are there.
        split_file: the order of all rows that the published protocols need.

    Returns:
        Buckets by the name of their activation, in alphabetical order, networks in the
        order of the rows. `labels` are the four accuracies and losses, `hyper` the
        `config.*` columns without their prefix and the `step`, `ids` the column
        `modeldir` (with `@STEP` for "all").

    Raises:
        FileNotFoundError: if a file is missing; names it.
        ValueError: if a file cannot be read, is truncated, or does not fit the others,
            or the protocol is unknown; names file, row or field, expected and found.
    """
    files = open_files(Path(directory))
    step = asked("a Small CNN Zoo", checkpoint)
    rows = _by_activation(files, step, cut_off)
    if not rows.kept:
        raise _none_found(files, "any", step, cut_off, rows.problems)
    order = Order(files.directory, rows.kept, files.metrics, split_seed, split_file)
    codes = small_cnn_codes(protocol, order)
    listings = {
        name: _bucket(files, name, rows.kept[name], codes[name], step == ALL)
        for name in sorted(rows.kept)
    }
    return Found(listings, tuple(rows.problems), protocol, ADVICE)


def load_small_cnn_zoo(
    directory: str | Path,
    activation: str = "relu",
    checkpoint: int | None = None,
    split_seed: int = 0,
    cut_off: float = 0.0,
) -> Zoo:
    """Returns the networks of a Small CNN Zoo directory with one activation.

    Args:
        directory: holds `weights.npy`, `layout.csv` and `metrics.csv.gz`.
        activation: which networks; the symmetry depends on it, so they are not mixed.
        checkpoint: step of the one to take; `None` takes the last of every network.
        split_seed: of the split by network, see `split_networks`. Networks are
            filtered by activation, step and accuracy first, then split.
        cut_off: networks below this `test_accuracy` are left out.

    Returns:
        The zoo, as one bucket of `list_small_cnn_zoo`.

    Raises:
        FileNotFoundError: if a file is missing; names it.
        ValueError: as `list_small_cnn_zoo`, and if a network cannot be used.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"{directory}: activation {activation!r} is unknown: expected one of "
            f"{list(ACTIVATIONS)}."
        )
    found = list_small_cnn_zoo(directory, checkpoint, split_seed, cut_off)
    if activation not in found.listings:
        files = open_files(Path(directory))
        raise _none_found(files, activation, checkpoint, cut_off, found.problems)
    one = {activation: found.listings[activation]}
    return in_memory(found._replace(listings=one))[activation]


def _bucket(
    files: Files, activation: str, rows: np.ndarray, codes: np.ndarray, several: bool
) -> Listing:
    rows, codes = rows[codes >= 0], codes[codes >= 0]
    directory, _, tensors, metrics = files
    net = _network(directory / "layout.csv", tensors, activation)
    chosen = [metrics[row] for row in rows]
    runs = np.array([line["modeldir"] for line in chosen], str)
    steps = [f"@{int(float(line['step']))}" for line in chosen]
    path = directory / "weights.npy"

    def read(asked: np.ndarray) -> Weights:
        with np.errstate(over="ignore"):  # beyond float32 is not finite, said below
            vectors = read_rows(files.weights, rows[asked]).astype(np.float32)
        finite = np.isfinite(vectors)
        problems = {
            at: f"{path}, row {rows[asked[at]]}: weights should be finite in float32, "
            f"got {np.count_nonzero(~finite[at])} values that are not."
            for at in np.flatnonzero(~finite.all(axis=1)).tolist()
        }
        return Weights(_in_order(net, tensors, vectors), problems)

    return Listing(
        network=net,
        ids=np.char.add(runs, steps) if several else runs,
        runs=runs,
        labels={
            name: np.array([float(line[name]) for line in chosen], np.float32)
            for name in LABELS
        },
        hyper=_hyper(chosen),
        split=codes.astype(np.int8),
        source=f"small_cnn_zoo:{directory.name}",
        read=read,
    )


class _Rows(NamedTuple):
    """Rows of the metrics that are kept, by activation, and what is wrong in others."""

    kept: dict[str, np.ndarray]
    problems: list[Problem]


def _by_activation(files: Files, step: int | str | None, cut_off: float) -> _Rows:
    """Rows at the step, one per network unless all are asked for, that are good."""
    path = files.directory / "metrics.csv.gz"
    problems: list[Problem] = []
    seen: dict[tuple[str, int], int] = {}
    last: dict[tuple[str, str], tuple[int, int]] = {}
    for row, line in enumerate(files.metrics):
        try:
            at = _checked(path, row, line, seen)
        except ValueError as error:
            problems.append(Problem(f"row {row}", str(error)))
            continue
        if step not in (None, ALL, at) or float(line["test_accuracy"]) < cut_off:
            continue
        name, model = line[f"{PREFIX}activation"], line["modeldir"]
        key = name, f"{model}@{at}" if step == ALL else model
        last[key] = max(last.get(key, (at, row)), (at, row))
    kept: dict[str, list[int]] = {}
    for (name, _), (_, row) in last.items():
        kept.setdefault(name, []).append(row)
    return _Rows(
        {name: np.array(sorted(rows), np.int64) for name, rows in kept.items()},
        problems,
    )


def _checked(
    path: Path, row: int, line: dict[str, str], seen: dict[tuple[str, int], int]
) -> int:
    """The step of a row, whose entries are in range and which is not there twice."""
    where, name = f"{path}, row {row}", line[f"{PREFIX}activation"]
    if name not in ACTIVATIONS:
        raise ValueError(
            f"{where}: {PREFIX}activation should be one of {list(ACTIVATIONS)}, got "
            f"{name!r}."
        )
    step, model = _number(where, "step", line["step"]), line["modeldir"]
    if not (step.is_integer() and step >= 0):
        raise ValueError(
            f"{where}: step should be a whole number from 0, got {line['step']!r}."
        )
    if not model:
        raise ValueError(f"{where}: modeldir should name the network, got ''.")
    for label in LABELS:
        value = _number(where, label, line[label])
        high = 1.0 if label.endswith("accuracy") else np.inf
        if not (0 <= value <= high and np.isfinite(value)):
            raise ValueError(
                f"{where}: {label} should be in [0, {high:g}], got {value}."
            )
    if (model, int(step)) in seen:
        raise ValueError(
            f"{where}: network {model!r} at step {int(step)} is there twice, first in "
            f"row {seen[model, int(step)]}; expected one row each."
        )
    seen[model, int(step)] = row
    return int(step)


def _none_found(
    files: Files,
    activation: str,
    step: int | str | None,
    cut_off: float,
    problems: Sequence[Problem],
) -> ValueError:
    path = files.directory / "metrics.csv.gz"
    if problems:
        return ValueError(problems[0].why)
    steps = sorted({int(float(line["step"])) for line in files.metrics})
    names = sorted({line[f"{PREFIX}activation"] for line in files.metrics})
    better = f" and a test_accuracy of at least {cut_off:g}" if cut_off else ""
    return ValueError(
        f"{path}: no network has activation {activation!r} and step "
        f"{'the last' if step is None else step}{better}; there are activations "
        f"{names} and steps {steps}."
    )


def _number(where: str, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(
            f"{where}: {name} should be a number, got {text!r}."
        ) from error


def _hyper(chosen: list[dict[str, str]]) -> dict[str, np.ndarray]:
    """The `config.*` columns, as numbers where every entry is one, and the step."""
    names = [name for name in chosen[0] if name and name.startswith(PREFIX)]
    columns = {
        name.removeprefix(PREFIX): column([line[name] for line in chosen])
        for name in names
    }
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
    return np.concatenate(parts, axis=1)
