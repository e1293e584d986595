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

from pathlib import Path
from typing import Any

import numpy as np

from qejax.nets import ACTIVATIONS, CNNConfig, Network, build
from qejax.zoo._splits import split_networks
from qejax.zoo._zoo import Zoo, from_vectors
from qejax.zoo.formats._small_cnn_files import (
    LABELS,
    PREFIX,
    Files,
    Tensor,
    open_files,
)

STRIDE = 2


def load_small_cnn_zoo(
    directory: str | Path,
    activation: str = "relu",
    step: int | None = None,
    split_seed: int = 0,
    cut_off: float = 0.0,
) -> Zoo:
    """Returns the networks of a Small CNN Zoo directory with one activation.

    Args:
        directory: holds `weights.npy`, `layout.csv` and `metrics.csv.gz`.
        activation: which networks; the symmetry depends on it, so they are not mixed.
        step: of the checkpoint to take; `None` takes the last of every network.
        split_seed: of the split by network, see `split_networks`. Networks are
            filtered by activation, step and accuracy first, then split.
        cut_off: networks below this `test_accuracy` are left out.

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
    files = open_files(Path(directory))
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"{directory}: activation {activation!r} is unknown: expected one of "
            f"{list(ACTIVATIONS)}."
        )
    found = _by_activation(files, step, cut_off)
    if activation not in found:
        raise _none_found(files, activation, step, cut_off)
    return _bucket(files, activation, found[activation], split_seed)


def load_small_cnn_zoo_all(
    directory: str | Path,
    step: int | None = None,
    split_seed: int = 0,
    cut_off: float = 0.0,
) -> dict[str, Zoo]:
    """Returns all networks of a Small CNN Zoo directory, a zoo for each activation.

    The files are read once. Each zoo is that of `load_small_cnn_zoo` for its
    activation: networks are filtered by activation first, and every activation is
    split for itself, so that each has its share of every split and its split does not
    depend on which others are there.

    Args:
        directory: holds `weights.npy`, `layout.csv` and `metrics.csv.gz`.
        step: of the checkpoint to take; `None` takes the last of every network. An
            activation without a checkpoint at that step is left out.
        split_seed: of the split by network, the same for every activation.
        cut_off: networks below this `test_accuracy` are left out before the split, and
            an activation of which none is left.

    Returns:
        Zoos by the name of their activation, in alphabetical order.

    Raises:
        FileNotFoundError: as `load_small_cnn_zoo`.
        ValueError: as `load_small_cnn_zoo`.
    """
    files = open_files(Path(directory))
    by_activation = _by_activation(files, step, cut_off)
    if not by_activation:
        raise _none_found(files, "any", step, cut_off)
    return {
        name: _bucket(files, name, by_activation[name], split_seed)
        for name in sorted(by_activation)
    }


def _bucket(files: Files, activation: str, rows: np.ndarray, split_seed: int) -> Zoo:
    directory, weights, tensors, metrics = files
    with np.errstate(over="ignore"):  # beyond float32 is not finite, and said below
        vectors = weights[rows].astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        count = np.count_nonzero(~np.isfinite(vectors[bad[0]]))
        raise ValueError(
            f"{directory / 'weights.npy'}, row {rows[bad[0]]}: weights should be "
            f"finite in float32, got {count} values "
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


def _by_activation(
    files: Files, step: int | None, cut_off: float
) -> dict[str, np.ndarray]:
    """Rows at the step, one per network, that are good enough, by activation."""
    path = files.directory / "metrics.csv.gz"
    seen: dict[tuple[str, int], int] = {}
    last: dict[str, dict[str, tuple[int, int]]] = {}
    for row, line in enumerate(files.metrics):
        name = line[f"{PREFIX}activation"]
        if name not in ACTIVATIONS:
            raise ValueError(
                f"{path}, row {row}: {PREFIX}activation should be one of "
                f"{list(ACTIVATIONS)}, got {name!r}."
            )
        at, model = _step(path, row, line["step"]), line["modeldir"]
        if not model:
            raise ValueError(
                f"{path}, row {row}: modeldir should name the network, got ''."
            )
        if (model, at) in seen:
            raise ValueError(
                f"{path}, row {row}: network {model!r} at step {at} is there twice, "
                f"first in row {seen[model, at]}; expected one row each."
            )
        seen[model, at] = row
        if step is None or at == step:
            models = last.setdefault(name, {})
            models[model] = max(models.get(model, (at, row)), (at, row))
    found = {
        name: np.array(
            sorted(row for _, row in models.values() if _reaches(files, row, cut_off)),
            np.int64,
        )
        for name, models in last.items()
    }
    return {name: rows for name, rows in found.items() if len(rows)}


def _reaches(files: Files, row: int, cut_off: float) -> bool:
    """Whether a network is not below a cut-off; what is no accuracy is named later."""
    if cut_off == 0:
        return True
    path, text = files.directory / "metrics.csv.gz", files.metrics[row]["test_accuracy"]
    return not _number(path, row, "test_accuracy", text) < cut_off


def _none_found(
    files: Files, activation: str, step: int | None, cut_off: float
) -> ValueError:
    path = files.directory / "metrics.csv.gz"
    steps = sorted({int(float(line["step"])) for line in files.metrics})
    names = sorted({line[f"{PREFIX}activation"] for line in files.metrics})
    better = f" and a test_accuracy of at least {cut_off:g}" if cut_off else ""
    return ValueError(
        f"{path}: no network has activation {activation!r} and step "
        f"{'the last' if step is None else step}{better}; there are activations "
        f"{names} and steps {steps}."
    )


def _step(path: Path, row: int, text: str) -> int:
    step = _number(path, row, "step", text)
    if not (step.is_integer() and step >= 0):
        raise ValueError(
            f"{path}, row {row}: step should be a whole number from 0, got {text!r}."
        )
    return int(step)


def _number(path: Path, row: int, name: str, text: str) -> float:
    try:
        return float(text)
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
        texts = [line[name] for line in chosen]
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
    return np.concatenate(parts, axis=1)
