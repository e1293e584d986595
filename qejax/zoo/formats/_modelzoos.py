"""Zoos of modelzoos.cc: small image classifiers, a checkpoint for every epoch.

A directory holds a folder a model, see `_modelzoos_files`. A checkpoint has the tensors
`module_list.{n}.{weight,bias}` of three convolutions and two dense layers; the numbers
between are those of layers without weights and are not looked at, so dropout shifts
nothing. Behind the first two convolutions, or all three, maps are pooled, which the
number of inputs of the first dense layer tells together with the side of the images.
PyTorch flattens channels first. Networks of other kinds there, such as residual ones
with batch norm, are not read.

Source: Schürholt et al. 2022, arXiv:2209.14764.
"""

import itertools
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax.nets import CNNConfig, Network, build
from qejax.zoo._cut import accurate_rows
from qejax.zoo._listing import Found, Listing, Problem, Weights, vectors_of
from qejax.zoo._splits import split_runs
from qejax.zoo.files import read_state
from qejax.zoo.formats._checkpoints import ALL, asked
from qejax.zoo.formats._infer import to_vector
from qejax.zoo.formats._modelzoos_files import (
    PARAMETERS,
    RESULTS,
    Model,
    find_models,
    read_model,
)
from qejax.zoo.formats._protocols import CLEAN, check_protocol, shuffled_codes

FAITHFUL = "faithful_sane"
FRACTIONS = (0.7, 0.15)
MODELZOOS = (CLEAN, FAITHFUL)

NONLINEARITY = "model::nlin"
ACTIVATIONS = {
    "tanh": "tanh",
    "relu": "relu",
    "leakyrelu": "leaky_relu",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "gelu": "gelu_erf",
    "identity": "identity",
}
"""Ours by their names of nonlinearities."""

LABELS = {
    "test_accuracy": "test_acc",
    "test_loss": "test_loss",
    "train_accuracy": "train_acc",
    "train_loss": "train_loss",
}
"""Their columns by our labels."""

POOLS = ((2, 2, 1), (2, 2, 2))
SIDES = (28, 32)
"""What networks there pool, and sides of the images that they read."""

_NAME = re.compile(r"module_list\.([0-9]{1,4})\.(weight|bias)")


class _Entry(NamedTuple):
    """A checkpoint that is kept."""

    model: Model
    epoch: int
    network: Network

    @property
    def path(self) -> Path:
        return self.model.checkpoints[self.epoch]


def list_modelzoos(
    directory: str | Path,
    checkpoint: int | str | None = None,
    split_seed: int = 0,
    cut_off: float = 0.0,
    protocol: str = CLEAN,
) -> Found:
    """Lists the networks of a zoo of modelzoos.cc, a bucket for each architecture.

    A checkpoint of every model is opened to see what it is, all are read when weights
    are asked for.

    Args:
        directory: holds a folder a model.
        checkpoint: epoch of the one to take; `None` takes the last of every model,
            "all" every one.
        split_seed: of the protocol "clean".
        cut_off: networks below this `test_accuracy` are left out before the split.
        protocol: "clean" splits models at random; "faithful_sane" repeats the published
            split of all folders of models, whatever is wrong with some.

    Returns:
        Bucket `cnns`, or `cnns_NUMBER` if there are several architectures. Labels are
        the accuracies and losses that all checkpoints have, in [0, 1]; `hyper` are what
        all models say in `params.json`, and `epoch`. A network is called `MODEL@EPOCH`
        if all of a model are taken.

    Raises:
        ValueError: if there is no model, none that can be used, or accuracies are not
            in [0, 1]: names the model and file, expected and found.
    """
    directory = Path(directory)
    check_protocol(directory, protocol, dict.fromkeys(MODELZOOS))
    checkpoint = asked("modelzoos.cc", checkpoint)
    entries: list[_Entry] = []
    problems: list[Problem] = []
    known: dict[str, Network] = {}
    folders = find_models(directory)
    for folder in folders:
        try:
            entries += _entries(folder, checkpoint, known)
        except ValueError as error:
            problems.append(Problem(folder.name, str(error)))
    bad = {at: why for at, one in enumerate(entries) if (why := _wrong(one))}
    problems += [Problem(entries[at].model.name, why) for at, why in bad.items()]
    entries = [one for at, one in enumerate(entries) if at not in bad]
    if not entries:
        raise ValueError(f"{problems[0].why} No other model can be used.")
    labels = _labels(directory, entries)
    rows = accurate_rows(labels["test_accuracy"], cut_off, str(directory))
    entries = [entries[row] for row in rows]
    labels = {name: x[rows] for name, x in labels.items()}
    runs = np.array([entry.model.name for entry in entries])
    codes = (
        split_runs(runs, split_seed)
        if protocol == CLEAN
        else _published(runs, [folder.name for folder in folders])
    )
    networks = list(dict.fromkeys(entry.network.config for entry in entries))
    listings = {
        (f"cnns_{n:02d}" if len(networks) > 1 else "cnns"): _listing(
            directory,
            [entry for entry in entries if entry.network.config == config],
            labels,
            codes,
            np.flatnonzero([entry.network.config == config for entry in entries]),
            checkpoint == ALL,
        )
        for n, config in enumerate(networks)
    }
    advice = "remove the folders to go on without them"
    return Found(listings, tuple(problems), protocol, advice)


def _entries(
    folder: Path, checkpoint: int | str | None, known: dict[str, Network]
) -> list[_Entry]:
    """The checkpoints of a model that are asked for."""
    model = read_model(folder)
    epochs = list(model.checkpoints)
    if checkpoint is None:
        epochs = epochs[-1:]
    elif checkpoint != ALL:
        epochs = [epoch for epoch in epochs if epoch == checkpoint]
    if not epochs:
        wanted = "some epoch" if checkpoint in (None, ALL) else f"epoch {checkpoint}"
        raise ValueError(
            f"{folder}: expected a checkpoint of {wanted}, got those of "
            f"{list(model.checkpoints)[:8]}. Choose another, or {ALL!r}."
        )
    path = model.checkpoints[epochs[0]]
    config = _config(path, model, _tensors(path))
    network = known.setdefault(str(config.to_dict()), build(config.to_dict()))
    return [_Entry(model, epoch, network) for epoch in epochs]


def _tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors in the order of the layers.

    Raises:
        ValueError: if there are others than those of convolutions and dense layers.
    """
    state = read_state(path)
    numbers: dict[str, int] = {}
    for name in state:
        found = _NAME.fullmatch(name)
        if found is None:
            raise ValueError(
                f"{path}: expected tensors module_list.NUMBER.weight and .bias of a "
                f"small CNN, got {name[:80]!r}. Other networks there are not read."
            )
        numbers[name] = int(found[1])
    return dict(sorted(state.items(), key=lambda item: numbers[item[0]]))


def _config(path: Path, model: Model, state: Mapping[str, np.ndarray]) -> CNNConfig:
    """What a network is, by the shapes of its weights."""
    kernels = [x for name, x in state.items() if name.endswith("weight")]
    if [kernel.ndim for kernel in kernels] != [4, 4, 4, 2, 2]:
        raise ValueError(
            f"{path}: expected the kernels of three convolutions and two dense layers, "
            f"got shapes {[kernel.shape for kernel in kernels][:8]}. Other networks "
            f"there are not read."
        )
    name = model.hyper.get(NONLINEARITY)
    if name not in ACTIVATIONS:
        raise ValueError(
            f"{path.parent.parent / PARAMETERS}: {NONLINEARITY} should be one of "
            f"{list(ACTIVATIONS)}, got {name!r}. Other networks there are not read."
        )
    channels = tuple(kernel.shape[0] for kernel in kernels[:3])
    windows = tuple(kernel.shape[2:] for kernel in kernels[:3])
    sides = [int(window[0]) for window in windows]
    wants = kernels[3].shape[1]
    fitting = [
        (side, pools)
        for side, pools in itertools.product(SIDES, POOLS)
        if channels[-1] * _left(side, sides, pools) ** 2 == wants
    ]
    if len(fitting) != 1:
        raise ValueError(
            f"{path}: expected the first dense layer to read a map of images of side "
            f"{SIDES}, pooled {POOLS}, got {wants} inputs, which fit {len(fitting)} of "
            f"these. Other networks there are not read."
        )
    ((side, pools),) = fitting
    return CNNConfig(
        in_channels=kernels[0].shape[1],
        channels=channels,
        windows=windows,
        activation=ACTIVATIONS[str(name)],
        head="flatten",
        image=(side, side),
        num_outputs=kernels[4].shape[0],
        pools=pools,
        hidden=(kernels[3].shape[0],),
    )


def _left(side: int, windows: list[int], pools: tuple[int, ...]) -> int:
    """The side of the map that is flattened."""
    for window, pool in zip(windows, pools, strict=True):
        side = max(side - window + 1, 0) // pool
    return side


def _labels(directory: Path, entries: list[_Entry]) -> dict[str, np.ndarray]:
    """Those that all checkpoints have."""
    rows = [entry.model.labels[entry.epoch] for entry in entries]
    labels: dict[str, np.ndarray] = {}
    for name, theirs in LABELS.items():
        if any(theirs not in row for row in rows):
            continue
        values = np.array([row[theirs] for row in rows], np.float32)
        high = np.flatnonzero(name.endswith("accuracy") & (values > 1))
        if len(high):
            entry = entries[high[0]]
            raise ValueError(
                f"{directory / entry.model.name / RESULTS}: {theirs} of epoch "
                f"{entry.epoch} should be a share in [0, 1], not per cent, got "
                f"{values[high[0]]:g}; so have {len(high)} of {len(rows)} checkpoints. "
                f"Divide them by 100."
            )
        labels[name] = values
    return labels


def _wrong(entry: _Entry) -> str:
    """What is wrong with the results of a checkpoint; nothing if they can be used."""
    row = entry.model.labels[entry.epoch]
    shown = {name: row.get(name) for name in LABELS.values() if name in row}
    good = [np.isfinite(value) and value >= 0 for value in shown.values() if value]
    if LABELS["test_accuracy"] in row and all(good):
        return ""
    return (
        f"{entry.path.parent.parent / RESULTS}: epoch {entry.epoch} should have "
        f"test_acc and finite numbers from 0, got {shown}."
    )


def _published(runs: np.ndarray, names: list[str]) -> np.ndarray:
    """The published split of all models, in the order of their names."""
    codes = shuffled_codes(len(names), random.Random(42), FRACTIONS)
    of = dict(zip(names, codes.tolist(), strict=True))
    return np.array([of[run] for run in runs.tolist()], np.int8)


def _hyper(entries: list[_Entry]) -> dict[str, np.ndarray]:
    """What all models say, numbers as numbers."""
    models = [entry.model.hyper for entry in entries]
    found: dict[str, np.ndarray] = {}
    for name in models[0]:
        values = [hyper.get(name) for hyper in models]
        if all(type(value) in (int, float) for value in values):
            found[name] = np.array(values, np.float64)
        elif all(value is not None for value in values):
            found[name] = np.array([str(value) for value in values])
    return found | {"epoch": np.array([entry.epoch for entry in entries], np.int64)}


def _listing(
    directory: Path,
    entries: list[_Entry],
    labels: Mapping[str, np.ndarray],
    codes: np.ndarray,
    rows: np.ndarray,
    several: bool,
) -> Listing:
    network = entries[0].network

    def vector(path: Path) -> np.ndarray:
        found = to_vector(network, _tensors(path), where=str(path))
        if not np.isfinite(found).all():
            raise ValueError(
                f"{path}: weights of the network should be finite in float32, got "
                f"{np.count_nonzero(~np.isfinite(found))} that are not."
            )
        return found

    def read(asked: np.ndarray) -> Weights:
        paths = [entries[at].path for at in asked.tolist()]
        return vectors_of(paths, network.spec.num_parameters, vector)

    runs = np.array([entry.model.name for entry in entries])
    epochs = [f"@{entry.epoch}" for entry in entries]
    return Listing(
        network=network,
        ids=np.char.add(runs, epochs) if several else runs,
        runs=runs,
        labels={name: x[rows] for name, x in labels.items()},
        hyper=_hyper(entries),
        split=codes[rows],
        source=f"modelzoos:{directory.name}",
        read=read,
    )
