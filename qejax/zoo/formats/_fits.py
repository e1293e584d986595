"""Coordinate networks in PyTorch files, one a network: read and checked together.

Networks are `sin(30 (W x + b))` at coordinates of a grid over [-1, 1], the first axis
of the image first.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax.nets import CoordinateConfig, Network, build
from qejax.zoo._fit_config import CONVENTIONS
from qejax.zoo._zoo import Zoo, from_vectors
from qejax.zoo.formats._small_transformer_files import check_tensors
from qejax.zoo.formats._torch_files import read_state


class Fit(NamedTuple):
    """One file: of which image, and which of its fits.

    Attributes:
        path: of the file.
        name: unique in its zoo.
        label: of the image.
        signal: index of the image.
        copy: 0, or the number of an extra fit, from 1.
        split: code.
    """

    path: Path
    name: str
    label: int
    signal: int
    copy: int
    split: int


def zoo_of(
    source: str, root: Path, fits: list[Fit], hidden: str, last: str, convention: str
) -> Zoo:
    """Returns the networks of all files.

    Args:
        source: the name of the format.
        root: the folder.
        fits: its files; all are opened before one is complained about.
        hidden: name of the hidden layer `{}` in the files.
        last: of the last layer.
        convention: a key of `CONVENTIONS`.

    Raises:
        ValueError: names the first file that cannot be used, and how many there are.
    """
    net = _network(fits[0].path, hidden, last, convention)
    names = _names(net, hidden, last)
    shapes = {
        names[leaf.path]: tuple(reversed(leaf.stored)) for leaf in net.spec.leaves
    }
    vectors = np.zeros((len(fits), net.spec.num_parameters), np.float32)
    damaged: list[ValueError] = []
    for row, fit in enumerate(fits):
        try:
            state = read_state(fit.path)
            check_tensors(fit.path, state, shapes)
        except ValueError as error:
            damaged.append(error)
            continue
        arrays = [state[names[leaf.path]].T.reshape(-1) for leaf in net.spec.leaves]
        vectors[row] = np.concatenate(arrays)
    if damaged:
        raise ValueError(
            f"{damaged[0]} ({len(damaged)} of {len(fits)} files cannot be used; remove "
            f"them to go on without.)"
        ) from damaged[0]
    return Zoo(
        network=net,
        thetas=from_vectors(net.spec, vectors),
        labels={"class": np.array([fit.label for fit in fits], np.float32)},
        hyper={
            "signal": np.array([fit.signal for fit in fits], np.int64),
            "copy": np.array([fit.copy for fit in fits], np.int64),
        },
        split=np.array([fit.split for fit in fits], np.int8),
        source=f"{source}:{root.name}",
        ids=np.array([fit.name for fit in fits]),
    )


def _network(path: Path, hidden: str, last: str, convention: str) -> Network:
    """The architecture of the first file."""
    state = read_state(path)
    rules = CONVENTIONS[convention]
    weights = [array for name, array in state.items() if name.endswith(".weight")]
    if not weights or any(array.ndim != 2 for array in weights):
        raise ValueError(
            f"{path}: expected matrices {hidden.format(0)}.weight and so on, got "
            f"{ {name: array.shape for name, array in state.items()} }."
        )
    widths = (weights[0].shape[1], *(array.shape[0] for array in weights))
    return build(
        CoordinateConfig(widths, offset=rules.offset, biases=rules.biases).to_dict()
    )


def _names(net: Network, hidden: str, last: str) -> dict[str, str]:
    """The tensors of the leaves by path."""
    kinds = {"kernel": "weight", "bias": "bias"}
    forms = [hidden] * (len(net.layers) - 1) + [last]
    return {
        leaf.path: f"{form.format(number)}.{kinds[leaf.path.rsplit('/', 1)[1]]}"
        for number, (layer, form) in enumerate(zip(net.layers, forms, strict=True))
        for leaf in layer.leaves
    }
