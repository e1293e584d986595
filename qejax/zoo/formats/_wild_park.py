"""The CNN Wild Park: small image classifiers, nearly every run its own architecture.

A directory holds `<zoo>/<run>/checkpoint_<number>/checkpoint.pt`, see
`_wild_park_files`, and perhaps a file `*splits*.json`. A checkpoint has

- `model`: tensors `layers.{i}.{weight,bias}` and `fc.{weight,bias}`;
- `config`: an instance of `CNNConfig`, read as its fields without running anything;
- `iteration`, and `last_result` with the accuracy `test/acc`; the optimizer is left
  out.

Source: Kofinas et al. 2024, arXiv:2403.12143.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qejax.nets import SkipCNN, SkipCNNConfig, build
from qejax.zoo._cut import accurate_rows
from qejax.zoo._listing import Found, Listing, Problem, Weights
from qejax.zoo._splits import split_runs
from qejax.zoo._zoo import SPLITS, to_vectors
from qejax.zoo.files import Stored, read_torch
from qejax.zoo.formats._checkpoints import ALL, asked
from qejax.zoo.formats._protocols import CLEAN, check_protocol
from qejax.zoo.formats._wild_park_files import (
    Checkpoint,
    find_checkpoints,
    read_split,
)

FAITHFUL = "faithful_neural_graphs"
WILD_PARK = (CLEAN, FAITHFUL)
CLASS, ACCURACY = "CNNConfig", "last_result.test/acc"

ACTIVATIONS = {"gelu": "gelu_erf", "leakyrelu": "leaky_relu"}
"""Activations of PyTorch by their name there, where ours is another."""

FIELDS = {
    "channels": "channels",
    "kernel_size": "windows",
    "stride": "strides",
    "padding": "padding",
    "residual": "residual",
}
"""Fields of the configuration, lists of whole numbers, and ours."""

MOST = 1 << 16
"""Of a number in a configuration."""


class _Opened(NamedTuple):
    checkpoint: Checkpoint
    network: SkipCNN
    accuracy: float
    iteration: int


def list_wild_park(
    directory: str | Path,
    checkpoint: int | str | None = None,
    split_seed: int = 0,
    cut_off: float = 0.0,
    protocol: str = CLEAN,
    split_file: str | Path | None = None,
) -> Found:
    """Lists the networks of a CNN Wild Park directory, of mixed architectures.

    Every checkpoint that is asked for is opened once to see what it is, and again when
    weights are asked for.

    Args:
        directory: holds `<zoo>/<run>/checkpoint_<number>/checkpoint.pt`.
        checkpoint: number of the one to take; `None` takes the last of every run,
            "all" every one. With the published protocol `None` is "all".
        split_seed: of the protocol "clean".
        cut_off: networks below this `test_accuracy` are left out before the split.
        protocol: "clean" splits runs at random; "faithful_neural_graphs" takes the
            checkpoints of the split file, and their splits.
        split_file: its path, if it is not the one file `*splits*.json` there.

    Returns:
        Bucket `cnns` by run and checkpoint. The label is `test_accuracy`, `hyper` is
        `iteration`; a network is called `RUN@NUMBER` if all of a run are taken.

    Raises:
        ValueError: if there is no checkpoint, or none that can be used; if the split
            file is missing or damaged; names file and field, expected and found.
    """
    directory = Path(directory)
    check_protocol(directory, protocol, dict.fromkeys(WILD_PARK))
    every = find_checkpoints(directory)
    splits: dict[Path, str] = {}
    if protocol == FAITHFUL:
        path = _split_file(directory) if split_file is None else Path(split_file)
        members = read_split(path, every)
        splits = {member.checkpoint.path: member.split for member in members}
        _check_splits(path, splits)
        every = [one for one in every if one.path in splits]
        checkpoint = ALL if checkpoint is None else checkpoint
    opened, problems = _open(_asked(directory, every, checkpoint))
    if not opened:
        raise ValueError(f"{problems[0].why} No other checkpoint can be used.")
    accuracy = np.array([one.accuracy for one in opened])
    kept = accurate_rows(accuracy, cut_off, str(directory))
    opened = [opened[row] for row in kept]
    runs = np.array([one.checkpoint.run for one in opened])
    codes = (
        np.array([SPLITS[splits[one.checkpoint.path]] for one in opened], np.int8)
        if splits
        else split_runs(runs, split_seed)
    )
    listing = _listing(directory, opened, runs, codes, checkpoint == ALL)
    advice = "remove the checkpoints to go on without them"
    return Found({"cnns": listing}, tuple(problems), protocol, advice)


def _split_file(directory: Path) -> Path:
    found = sorted(directory.glob("*splits*.json"))
    found = found or sorted(directory.glob("*/*splits*.json"))
    if len(found) != 1:
        raise ValueError(
            f"{directory}: protocol {FAITHFUL!r} needs one file *splits*.json, got "
            f"{[path.name for path in found]}. Give split_file, or use {CLEAN!r}."
        )
    return found[0]


def _check_splits(path: Path, splits: Mapping[Path, str]) -> None:
    unknown = sorted(set(splits.values()) - set(SPLITS))
    if unknown or not splits:
        raise ValueError(
            f"{path}: expected the splits {list(SPLITS)} with checkpoints in them, got "
            f"{unknown or 'no checkpoint'}. Use the published split file."
        )


def _asked(
    directory: Path, every: list[Checkpoint], checkpoint: int | str | None
) -> list[Checkpoint]:
    """The checkpoints that are asked for, of every run that has them."""
    number = asked("a Wild Park", checkpoint)
    if number == ALL:
        return every
    if number is None:
        return list({one.run: one for one in every}.values())  # the last one counts
    found = [one for one in every if one.number == number]
    if not found:
        raise ValueError(
            f"{directory}: expected checkpoint {checkpoint} of some run, got numbers "
            f"{sorted({one.number for one in every})[:8]}. Give one, or {ALL!r}."
        )
    return found


def _open(checkpoints: list[Checkpoint]) -> tuple[list[_Opened], list[Problem]]:
    opened: list[_Opened] = []
    problems: list[Problem] = []
    known: dict[str, SkipCNN] = {}
    for one in checkpoints:
        try:
            stored = read_wild_park(one.path)
            config = config_of(one.path, stored)
            key = json.dumps(config.to_dict())
            if key not in known:
                net = build(config.to_dict())
                assert isinstance(net, SkipCNN)
                known[key] = net
            accuracy, iteration = _results(one.path, stored)
        except ValueError as error:
            problems.append(Problem(f"{one.run}@{one.number}", str(error)))
            continue
        opened.append(_Opened(one, known[key], accuracy, iteration))
    return opened, problems


def read_wild_park(path: Path) -> Stored:
    """Returns what a checkpoint holds, without its optimizer.

    Raises:
        ValueError: if it cannot be read.
    """
    return read_torch(path, fields_of=[CLASS], ignore=["optimizer"])


def config_of(path: Path, stored: Stored) -> SkipCNNConfig:
    """Returns the configuration of a network, which fits its tensors.

    Raises:
        ValueError: if there is none, or it does not fit; names the file and field.
    """
    values: dict[str, Any] = {}
    for name, ours in FIELDS.items():
        value = stored.fields.get(f"config.{name}")
        good = type(value) is list and all(
            type(entry) is int and -1 <= entry <= MOST for entry in value
        )
        if not good:
            raise ValueError(
                f"{path}: config.{name} should be a list of whole numbers up to "
                f"{MOST}, got {str(value)[:80]}. Fetch the file again."
            )
        values[ours] = value
    names = stored.fields.get("config.activation")
    names = names if type(names) is list else [names]
    values["activation"] = [ACTIVATIONS.get(str(name), str(name)) for name in names]
    bias = stored.tensors.get("model.fc.bias")
    values["num_outputs"] = 0 if bias is None else bias.size
    layers = sum(name.startswith("model.layers.") for name in stored.tensors) // 2
    if len(values["channels"]) != layers + 1:
        raise ValueError(
            f"{path}: config.channels should have an entry for the images and for each "
            f"of {layers} layers, got {values['channels'][:8]}. Fetch the file again."
        )
    try:
        config = SkipCNNConfig(**values)
    except ValueError as error:
        raise ValueError(
            f"{path}: config should describe a network, got one that does not: {error}"
        ) from error
    _check_tensors(path, config, stored.tensors)
    return config


def _shapes(config: SkipCNNConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a network."""
    windows: Any = config.windows
    last, outputs = config.channels[-1], config.num_outputs
    shapes: dict[str, tuple[int, ...]] = {}
    for number, side in enumerate(windows):
        n_in, n_out = config.channels[number : number + 2]
        shapes[f"model.layers.{number}.weight"] = (n_out, n_in, side, side)
        shapes[f"model.layers.{number}.bias"] = (n_out,)
    return shapes | {"model.fc.weight": (outputs, last), "model.fc.bias": (outputs,)}


def _check_tensors(
    path: Path, config: SkipCNNConfig, tensors: Mapping[str, np.ndarray]
) -> None:
    shapes = _shapes(config)
    for name in {**shapes, **tensors}:
        got = tensors.get(name)
        floats = got is not None and got.dtype.kind == "f"
        if got is None or name not in shapes or got.shape != shapes[name] or not floats:
            found = "none" if got is None else f"{got.dtype} of shape {got.shape}"
            raise ValueError(
                f"{path}: tensor {name!r} should be floating numbers of shape "
                f"{shapes.get(name, 'none')} by config, got {found}. Fetch the file "
                f"again."
            )


def _results(path: Path, stored: Stored) -> tuple[float, int]:
    accuracy: Any = stored.fields.get(ACCURACY)
    iteration: Any = stored.fields.get("iteration")
    if type(accuracy) not in (int, float) or not 0 <= accuracy <= 1:
        raise ValueError(
            f"{path}: {ACCURACY} should be an accuracy in [0, 1], got "
            f"{str(accuracy)[:40]}. Fetch the file again."
        )
    if type(iteration) is not int or not 0 <= iteration < 1 << 62:
        raise ValueError(
            f"{path}: iteration should be a whole number from 0, got "
            f"{str(iteration)[:40]}. Fetch the file again."
        )
    return float(accuracy), iteration


def vector_of(network: SkipCNN, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the weights `[P]` float32, in the order of the spec; checks nothing."""
    count = len(network.config.channels) - 1
    names = [*(f"model.layers.{number}" for number in range(count)), "model.fc"]
    plain: dict[str, dict[str, Any]] = {}
    with np.errstate(over="ignore"):  # beyond float32 is not finite, said elsewhere
        for number, name in enumerate(names):
            weight = tensors[f"{name}.weight"].astype(np.float32)
            axes = (2, 3, 1, 0) if weight.ndim == 4 else (1, 0)
            plain[f"layer_{number:02d}"] = {
                "kernel": weight.transpose(axes)[None],
                "bias": tensors[f"{name}.bias"].astype(np.float32)[None],
            }
    return to_vectors(network.spec, network.split(plain))[0]


def _listing(
    directory: Path,
    opened: list[_Opened],
    runs: np.ndarray,
    codes: np.ndarray,
    several: bool,
) -> Listing:
    networks = {one.network.config: one.network for one in opened}
    places = {config: place for place, config in enumerate(networks)}
    first, *others = networks.values()
    width = max(network.spec.num_parameters for network in networks.values())

    def read(rows: np.ndarray) -> Weights:
        vectors = np.zeros((len(rows), width), np.float32)
        problems: dict[int, str] = {}
        for at, row in enumerate(rows.tolist()):
            path, network = opened[row].checkpoint.path, opened[row].network
            try:
                stored = read_wild_park(path)
                _check_tensors(path, network.config, stored.tensors)
                vector = vector_of(network, stored.tensors)
            except ValueError as error:
                problems[at] = str(error)
                continue
            if np.isfinite(vector).all():
                vectors[at, : len(vector)] = vector
            else:
                problems[at] = f"{path}: weights should be finite in float32."
        return Weights(vectors, problems)

    numbers = [f"@{one.checkpoint.number}" for one in opened]
    return Listing(
        network=first,
        others=tuple(others),
        which=np.array([places[one.network.config] for one in opened], np.int64),
        ids=np.char.add(runs, numbers) if several else runs,
        runs=runs,
        labels={"test_accuracy": np.array([o.accuracy for o in opened], np.float32)},
        hyper={"iteration": np.array([o.iteration for o in opened], np.int64)},
        split=codes,
        source=f"cnn_wild_park:{directory.name}",
        read=read,
    )
