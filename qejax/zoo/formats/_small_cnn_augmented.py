"""The augmented Small CNN Zoo: every network beside a transformed copy of itself.

A directory holds pickles `augment_zoo_cifar_*_{train,val,test}.pickle`, one set for
each range of scales, `tanh` in the name where activations are: a dictionary of lists
`weights_augmented` and `biases_augmented`, an array a layer, `[2n, out, in, h, w]` and
`[2n, out, in]` as PyTorch orders axes, and `accuracy_test_augmented`. Rows `2i` and
`2i + 1` compute the same function: one is the other with hidden units permuted and
scaled, or with signs. The networks are those of `_small_cnn_zoo`.

A pickle is read as a whole, without running it. One is in memory at a time.

Source: Tran et al. 2024, arXiv:2409.11697.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qejax.nets import CNNConfig, Network, build
from qejax.zoo._cut import accurate_rows
from qejax.zoo._listing import Found, Listing, Problem, Weights
from qejax.zoo._zoo import SPLITS
from qejax.zoo.files import read_pickle
from qejax.zoo.formats._protocols import check_protocol
from qejax.zoo.formats._small_cnn_files import STRIDE

FAITHFUL = "faithful_monomial"
PROTOCOLS = (FAITHFUL,)
"""Files are splits. Others would need to know which copies are of one network."""

WEIGHTS, BIASES = "weights_augmented", "biases_augmented"
ACCURACY = "accuracy_test_augmented"
PATTERN = "augment_zoo_*.pickle"
COPIES = 2

_NAME = re.compile(r"augment_zoo_[a-z0-9]+_(.{1,40})_(train|val|test)\.pickle")


class _Arrays(NamedTuple):
    """What a file holds: kernels and biases by layer, `[N, ...]`, and accuracies."""

    kernels: list[np.ndarray]
    biases: list[np.ndarray]
    accuracy: np.ndarray


class _File(NamedTuple):
    path: Path
    split: str
    network: Network
    accuracy: np.ndarray


def list_small_cnn_augmented(
    directory: str | Path, cut_off: float = 0.0, protocol: str = FAITHFUL
) -> Found:
    """Lists the networks of an augmented Small CNN Zoo, a bucket for each set of files.

    Args:
        directory: holds `augment_zoo_*_{train,val,test}.pickle`.
        cut_off: networks below this `test_accuracy` are left out.
        protocol: "faithful_monomial": splits are those of the files.

    Returns:
        Buckets such as `relu_10`, by activation and range of scales. The label is
        `test_accuracy`. Networks are called `SPLIT_ROW`; a run is a pair of rows, a
        network and its copy.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if none can be used; names file and field, expected and found.
    """
    directory = Path(directory)
    check_protocol(directory, protocol, dict.fromkeys(PROTOCOLS))
    files: dict[str, list[_File]] = {}
    problems: list[Problem] = []
    for path in sorted(directory.glob(PATTERN)):
        name = _NAME.fullmatch(path.name)
        try:
            if name is None:
                raise ValueError(
                    f"{path}: expected augment_zoo_DATA_SCALES_SPLIT.pickle with a "
                    f"split of {list(SPLITS)}, got another name. Rename it."
                )
            bucket, activation = _bucket(name[1])
            arrays = _read(path)
            file = _File(path, name[2], _network(arrays, activation), arrays.accuracy)
            known = files.setdefault(bucket, [])
            if known and known[0].network.config != file.network.config:
                raise ValueError(
                    f"{path}: expected networks as those in {known[0].path.name}, "
                    f"{known[0].network.config}, got {file.network.config}."
                )
            known.append(file)
        except ValueError as error:
            problems.append(Problem(path.name, str(error)))
    files = {name: own for name, own in files.items() if own}
    if not files and problems:
        raise ValueError(f"{problems[0].why} No other file can be used.")
    if not files:
        raise FileNotFoundError(
            f"{directory}: expected files {PATTERN}, as an augmented Small CNN Zoo has "
            f"them, found none. Check the path."
        )
    read = functools.lru_cache(maxsize=1)(_read)
    listings = {
        name: _listing(directory, own, cut_off, read) for name, own in files.items()
    }
    advice = "remove the files to go on without them"
    return Found(listings, tuple(problems), protocol, advice)


def _bucket(scales: str) -> tuple[str, str]:
    """Name of the bucket, and the activation.

    Example:
        >>> _bucket("10"), _bucket("tanh_-1_1")
        (('relu_10', 'relu'), ('tanh_1_1', 'tanh'))
    """
    activation = "tanh" if "tanh" in scales else "relu"
    rest = re.sub("[^0-9a-z]+", "_", scales.lower().replace("tanh", "")).strip("_")
    return f"{activation}_{rest}".strip("_"), activation


def _read(path: Path) -> _Arrays:
    """The arrays of a file, of shapes that fit each other.

    Raises:
        ValueError: names file and field, expected and found.
    """
    stored = read_pickle(path)
    given: Any = stored.fields.get(ACCURACY, stored.tensors.get(ACCURACY, ()))
    accuracy = np.asarray(given, np.float64).reshape(-1)
    good = (accuracy >= 0) & (accuracy <= 1)
    if not len(accuracy) or len(accuracy) % COPIES or not good.all():
        raise ValueError(
            f"{path}: {ACCURACY} should be accuracies in [0, 1], of pairs of networks, "
            f"got {len(accuracy)} of which {np.count_nonzero(good)} are. Fetch the "
            f"file again."
        )
    layers = sum(name.startswith(f"{WEIGHTS}.") for name in stored.tensors)
    kernels, biases = [], []
    for layer in range(layers):
        last = layer == layers - 1
        kernel = _array(path, stored.tensors, f"{WEIGHTS}.{layer}", 3 if last else 5)
        bias = _array(path, stored.tensors, f"{BIASES}.{layer}", 2)
        reads = kernels[-1].shape[1] if kernels else kernel.shape[2]
        wants = (len(accuracy), kernel.shape[1], reads)
        if kernel.shape[:3] != wants or bias.shape != wants[:2]:
            raise ValueError(
                f"{path}: layer {layer} should have a kernel that begins with {wants} "
                f"and a bias {wants[:2]}, by the accuracies and the layer before, got "
                f"{kernel.shape} and {bias.shape}. Fetch the file again."
            )
        kernels.append(kernel)
        biases.append(bias)
    if layers < 2:
        raise ValueError(
            f"{path}: {WEIGHTS} should be kernels of convolutions and of a dense "
            f"layer, got {layers} arrays. Fetch the file again."
        )
    return _Arrays(kernels, biases, accuracy)


def _array(path: Path, tensors: Any, name: str, axes: int) -> np.ndarray:
    array = tensors.get(name, np.zeros(0))
    if array.ndim == axes + 1 and array.shape[1] == 1:
        array = array[:, 0]  # some have an axis of one channel
    if array.ndim != axes or array.dtype.kind != "f":
        raise ValueError(
            f"{path}: {name} should be floating numbers with {axes} axes, got "
            f"{array.dtype} of shape {array.shape}. Fetch the file again."
        )
    return array


def _network(arrays: _Arrays, activation: str) -> Network:
    kernels = arrays.kernels
    config = CNNConfig(
        in_channels=kernels[0].shape[2],
        channels=tuple(kernel.shape[1] for kernel in kernels[:-1]),
        windows=tuple(kernel.shape[3:] for kernel in kernels[:-1]),
        strides=STRIDE,
        activation=activation,
        num_outputs=kernels[-1].shape[1],
    )
    return build(config.to_dict())


def _vectors(arrays: _Arrays, rows: np.ndarray) -> np.ndarray:
    """Weights of some rows `[n, P]` float32, in the order of the spec."""
    parts: list[np.ndarray] = []
    with np.errstate(over="ignore"):  # beyond float32 is not finite, said elsewhere
        for kernel, bias in zip(arrays.kernels, arrays.biases, strict=True):
            axes = (0, 3, 4, 2, 1) if kernel.ndim == 5 else (0, 2, 1)
            own = kernel[rows].astype(np.float32).transpose(axes)
            parts += [own.reshape(len(rows), -1), bias[rows].astype(np.float32)]
    return np.concatenate(parts, axis=1)


def _listing(
    directory: Path,
    files: list[_File],
    cut_off: float,
    reader: Callable[[Path], _Arrays],
) -> Listing:
    network = files[0].network
    accuracy = np.concatenate([file.accuracy for file in files])
    kept = accurate_rows(accuracy, cut_off, str(directory))
    lengths = [len(file.accuracy) for file in files]
    which = np.repeat(np.arange(len(files)), lengths)[kept]
    rows = np.concatenate([np.arange(length) for length in lengths])[kept]

    def read(asked: np.ndarray) -> Weights:
        vectors = np.zeros((len(asked), network.spec.num_parameters), np.float32)
        problems: dict[int, str] = {}
        for number, file in enumerate(files):
            at = np.flatnonzero(which[asked] == number)
            if not len(at):
                continue
            try:
                found = _vectors(reader(file.path), rows[asked[at]])
            except (ValueError, IndexError) as error:
                why = f"{file.path}: expected the file as it was listed, got {error}"
                problems |= dict.fromkeys(at.tolist(), why)
                continue
            finite = np.isfinite(found)
            good = np.asarray(np.all(finite, axis=1))
            for place in np.flatnonzero(~good).tolist():
                problems[int(at[place])] = (
                    f"{file.path}, row {rows[asked[at[place]]]}: weights should be "
                    f"finite in float32, got {np.count_nonzero(~finite[place])} values "
                    f"that are not."
                )
            vectors[at] = np.where(good[:, None], found, 0)
        return Weights(vectors, problems)

    splits = [files[number].split for number in which]
    pairs = zip(splits, rows.tolist(), strict=True)
    names = [(f"{split}_{row}", f"{split}_{row // COPIES}") for split, row in pairs]
    return Listing(
        network=network,
        ids=np.array([name for name, _ in names]),
        runs=np.array([run for _, run in names]),
        labels={"test_accuracy": accuracy[kept].astype(np.float32)},
        hyper={},
        split=np.array([SPLITS[split] for split in splits], np.int8),
        source=f"small_cnn_augmented:{directory.name}",
        read=read,
    )
