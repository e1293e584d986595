"""Coordinate networks in PyTorch files, one a network: read and checked together.

Networks are `sin(30 (W x + b))` at coordinates of a grid over [-1, 1], the first axis
of the image first.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax.nets import CoordinateConfig, Network, build
from qejax.zoo._fit_config import CONVENTIONS
from qejax.zoo._zoo import Zoo, from_vectors
from qejax.zoo.formats._small_transformer_files import check_tensors
from qejax.zoo.formats._torch_files import read_state

NAMED = 3
"""Of the files that something is wrong with."""


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
        fits: its files; all are opened before any is complained about. The most
            frequent architecture among them is that of the zoo.
        hidden: name of the hidden layer `{}` in the files.
        last: of the last layer.
        convention: a key of `CONVENTIONS`.

    Raises:
        ValueError: says what is wrong with the first file that cannot be used, names
            the first few and counts all.
    """
    found = _read(fits, hidden, last, convention, None)
    if found.widths:
        ((usual, _),) = found.widths.most_common(1)
        if usual != next(iter(found.widths)):
            # The first file is an odd one: all others are measured by the usual.
            found = _read(fits, hidden, last, convention, usual)
    if found.net is None or found.damaged:
        first = found.damaged[0][1]
        raise ValueError(
            f"{first} ({len(found.damaged)} of {len(fits)} files cannot be used: "
            f"{named(root, [fit for fit, _ in found.damaged])}; remove them to go on "
            f"without.)"
        ) from first
    net = found.net
    return Zoo(
        network=net,
        thetas=from_vectors(net.spec, found.vectors),
        labels={"class": np.array([fit.label for fit in fits], np.float32)},
        hyper={
            "signal": np.array([fit.signal for fit in fits], np.int64),
            "copy": np.array([fit.copy for fit in fits], np.int64),
        },
        split=np.array([fit.split for fit in fits], np.int8),
        source=f"{source}:{root.name}",
        ids=np.array([fit.name for fit in fits]),
    )


def named(root: Path, fits: list[Fit]) -> str:
    """Returns the names of the first few files."""
    few = [str(fit.path.relative_to(root)) for fit in fits[:NAMED]]
    return ", ".join([*few, "..."] if len(fits) > NAMED else few)


class _Read(NamedTuple):
    """All files as networks of one architecture, `None` if none has any.

    Attributes:
        net: the architecture.
        vectors: weights, a row a file.
        damaged: files that are not of it, and why.
        widths: how many files have these, by their first file.
    """

    net: Network | None
    vectors: np.ndarray
    damaged: list[tuple[Fit, ValueError]]
    widths: Counter[tuple[int, ...]]


def _read(
    fits: list[Fit],
    hidden: str,
    last: str,
    convention: str,
    widths: tuple[int, ...] | None,
) -> _Read:
    """Reads all files by these widths, or by those of the first that has any."""
    net = None if widths is None else _network(widths, convention)
    names: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    vectors = np.zeros((len(fits), 0), np.float32)
    damaged: list[tuple[Fit, ValueError]] = []
    counts: Counter[tuple[int, ...]] = Counter()
    for row, fit in enumerate(fits):
        try:
            state = read_state(fit.path)
            own = _widths(fit.path, state, hidden)
            net = net or _network(own, convention)
            if not names:
                names = _names(net, hidden, last)
                shapes = {
                    names[leaf.path]: tuple(reversed(leaf.stored))
                    for leaf in net.spec.leaves
                }
                vectors = np.zeros((len(fits), net.spec.num_parameters), np.float32)
            counts[own] += 1
            check_tensors(fit.path, state, shapes)
        except ValueError as error:
            damaged.append((fit, error))
            continue
        arrays = [state[names[leaf.path]].T.reshape(-1) for leaf in net.spec.leaves]
        vectors[row] = np.concatenate(arrays)
    return _Read(net, vectors, damaged, counts)


def _widths(path: Path, state: dict[str, np.ndarray], hidden: str) -> tuple[int, ...]:
    """Those of the matrices of a file, in their order."""
    weights = [array for name, array in state.items() if name.endswith(".weight")]
    if not weights or any(array.ndim != 2 for array in weights):
        raise ValueError(
            f"{path}: expected matrices {hidden.format(0)}.weight and so on, got "
            f"{ {name: array.shape for name, array in state.items()} }."
        )
    return (weights[0].shape[1], *(array.shape[0] for array in weights))


def _network(widths: tuple[int, ...], convention: str) -> Network:
    rules = CONVENTIONS[convention]
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
