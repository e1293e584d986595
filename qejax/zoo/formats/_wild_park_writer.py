"""Writing a CNN Wild Park directory, for whoever reads the public one."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from qejax.nets import Network, SkipCNN
from qejax.zoo._listing import Listing, chunks
from qejax.zoo._zoo import SPLITS, from_vectors
from qejax.zoo.files import write_torch
from qejax.zoo.formats._wild_park import ACTIVATIONS, CLASS, FIELDS
from qejax.zoo.formats._wild_park_files import NAME
from qejax.zoo.formats._writing import check_labels

FOLDER, SPLIT_FILE = "cifar10_zooV2", "cnn_wild_park_splits.json"
MODULE = "experiments.cnn_generalization.dataset.cnn_sampler"
"""Where the class of the configuration is said to be; only its name counts here."""


def write_wild_park(directory: Path, listings: Mapping[str, Listing]) -> None:
    """Writes networks as checkpoints of runs, and their splits.

    `list_wild_park(directory, protocol="faithful_neural_graphs")` lists the same
    networks and splits again.

    Args:
        directory: exists and is empty.
        listings: by bucket; convolutional networks with skips (`skip_cnn`), of any
            architectures.

    Raises:
        ValueError: if networks are of another kind, `test_accuracy` is missing, or runs
            are no names of folders.
    """
    splits: dict[str, dict[str, list[Any]]] = {
        name: {"path": [], "score": [], "step": []} for name in SPLITS
    }
    names = {code: name for name, code in SPLITS.items()}
    for bucket, listing in listings.items():
        _check(directory, bucket, listing)
        places = listing.places
        numbers = _numbers(listing)
        for rows, vectors in chunks(listing):
            for row, vector in zip(rows.tolist(), vectors, strict=True):
                network = listing.networks[places[row]]
                run, number = str(listing.runs[row]), int(numbers[row])
                accuracy = float(listing.labels["test_accuracy"][row])
                place = f"{FOLDER}/{run}/checkpoint_{number:06d}/{NAME}"
                path = directory / place
                path.parent.mkdir(parents=True)
                _write(path, network, vector, accuracy, number)
                split = splits[names[int(listing.split[row])]]
                for name, value in (("path", place), ("score", accuracy)):
                    split[name].append(value)
                split["step"].append(number)
    (directory / SPLIT_FILE).write_text(json.dumps(splits))


def _check(directory: Path, bucket: str, listing: Listing) -> None:
    check_labels(directory, bucket, listing, ("test_accuracy",))
    for network in listing.networks:
        if not isinstance(network, SkipCNN):
            raise ValueError(
                f"{directory}: a CNN Wild Park holds networks of kind 'skip_cnn', got "
                f"bucket {bucket!r} with {network.config}. Choose another format."
            )
    for run in listing.runs.tolist():
        if PurePosixPath(run).parts != (run,) or run in (".", ".."):
            raise ValueError(
                f"{directory}: a run should be a name of a folder, got {run!r} in "
                f"bucket {bucket!r}. Rename it."
            )


def _numbers(listing: Listing) -> np.ndarray:
    """Numbers of the checkpoints: iterations, or places in their run."""
    known = listing.hyper.get("iteration")
    if known is not None and known.dtype.kind in "iu":
        pairs = set(zip(listing.runs.tolist(), known.tolist(), strict=True))
        if len(pairs) == len(listing):
            return known
    seen: dict[str, int] = {}
    numbers = []
    for run in listing.runs.tolist():
        seen[run] = seen.get(run, 0) + 1
        numbers.append(seen[run])
    return np.array(numbers, np.int64)


def _write(
    path: Path, network: Network, vector: np.ndarray, accuracy: float, number: int
) -> None:
    assert isinstance(network, SkipCNN)
    config: Any = network.config
    size = network.spec.num_parameters
    plain = network.join(from_vectors(network.spec, vector[:size]))
    count = len(config.channels) - 1
    tensors: dict[str, np.ndarray] = {}
    for at, layer in enumerate(plain.values()):
        name = f"model.layers.{at}" if at < count else "model.fc"
        kernel = np.asarray(layer["kernel"])
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        tensors[f"{name}.weight"] = np.ascontiguousarray(kernel.transpose(axes))
        tensors[f"{name}.bias"] = np.asarray(layer["bias"])
    theirs = {ours: name for name, ours in ACTIVATIONS.items()}
    fields: dict[str, Any] = {
        "config.n_layers": count,
        "config.n_classes": config.num_outputs,
        **{f"config.{name}": list(getattr(config, x)) for name, x in FIELDS.items()},
        "config.activation": [theirs.get(name, name) for name in config.activation],
        "iteration": number,
        "last_result.test/acc": accuracy,
    }
    parts, classes = ("model", "last_result"), {"config": f"{MODULE}.{CLASS}"}
    write_torch(path, tensors, fields, parts=parts, classes=classes)
