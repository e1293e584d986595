"""Coordinate networks in PyTorch files, one a network.

Networks are `sin(30 (W x + b))` at coordinates of a grid over [-1, 1], the first axis
of the image first.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax.nets import CoordinateConfig, Network, build
from qejax.zoo._fit_config import CONVENTIONS
from qejax.zoo._listing import Listing, Weights, vectors_of
from qejax.zoo.files import read_state
from qejax.zoo.formats._small_transformer_files import check_tensors

LOOKED_AT = 64
"""Files, evenly spread, of which the most frequent architecture is that of the zoo."""


class Fit(NamedTuple):
    """One file: of which image, and which of its fits.

    Attributes:
        path: of the file.
        name: unique in its zoo.
        label: of the image.
        signal: index of the image.
        copy: 0, or the number of an extra fit, from 1.
    """

    path: Path
    name: str
    label: int
    signal: int
    copy: int


class Layout(NamedTuple):
    """How a format writes its networks.

    Attributes:
        source: its name.
        hidden: name of the hidden layer `{}` in the files.
        last: of the last layer.
        convention: a key of `CONVENTIONS`.
    """

    source: str
    hidden: str
    last: str
    convention: str


def listing_of(
    layout: Layout,
    root: Path,
    fits: list[Fit],
    runs: np.ndarray,
    codes: np.ndarray,
    **hyper: np.ndarray,
) -> Listing:
    """Returns the networks of all files, to be read when they are asked for.

    Args:
        layout: of the files.
        root: the folder.
        fits: its files, at least one.
        runs: names of their images: fits of one image go together.
        codes: their splits.
        hyper: further columns.

    Raises:
        ValueError: if no file that was looked at is a network; says what is wrong with
            the first.
    """
    net = _usual(layout, fits)
    names = tensor_names(layout, net)
    shapes = {
        names[leaf.path]: tuple(reversed(leaf.stored)) for leaf in net.spec.leaves
    }

    def vector(path: Path) -> np.ndarray:
        state = read_state(path)
        check_tensors(path, state, shapes)
        arrays = [state[names[leaf.path]].T.reshape(-1) for leaf in net.spec.leaves]
        return np.concatenate(arrays)

    def read(rows: np.ndarray) -> Weights:
        paths = [fits[row].path for row in rows]
        return vectors_of(paths, net.spec.num_parameters, vector)

    return Listing(
        network=net,
        ids=np.array([fit.name for fit in fits]),
        runs=runs,
        labels={"class": np.array([fit.label for fit in fits], np.float32)},
        hyper={
            "signal": np.array([fit.signal for fit in fits], np.int64),
            "copy": np.array([fit.copy for fit in fits], np.int64),
            **hyper,
        },
        split=codes.astype(np.int8),
        source=f"{layout.source}:{root.name}",
        read=read,
    )


def _usual(layout: Layout, fits: list[Fit]) -> Network:
    """The most frequent architecture among some of the files."""
    counts: Counter[tuple[int, ...]] = Counter()
    problems: list[str] = []
    places = np.unique(np.linspace(0, len(fits) - 1, LOOKED_AT).astype(int))
    for place in places.tolist():
        path = fits[place].path
        try:
            counts[_widths(path, read_state(path), layout.hidden)] += 1
        except ValueError as error:
            problems.append(str(error))
    if not counts:
        raise ValueError(
            f"{problems[0]} ({len(problems)} of {len(problems)} files that were looked "
            f"at cannot be used.)"
        )
    ((widths, _),) = counts.most_common(1)
    rules = CONVENTIONS[layout.convention]
    return build(
        CoordinateConfig(widths, offset=rules.offset, biases=rules.biases).to_dict()
    )


def _widths(path: Path, state: dict[str, np.ndarray], hidden: str) -> tuple[int, ...]:
    """Those of the matrices of a file, in their order."""
    weights = [array for name, array in state.items() if name.endswith(".weight")]
    if not weights or any(0 in array.shape or array.ndim != 2 for array in weights):
        raise ValueError(
            f"{path}: expected matrices {hidden.format(0)}.weight and so on, got "
            f"{ {name: array.shape for name, array in state.items()} }."
        )
    return (weights[0].shape[1], *(array.shape[0] for array in weights))


def tensor_names(layout: Layout, net: Network) -> dict[str, str]:
    """Returns the tensors of the leaves by path."""
    kinds = {"kernel": "weight", "bias": "bias"}
    forms = [layout.hidden] * (len(net.layers) - 1) + [layout.last]
    return {
        leaf.path: f"{form.format(number)}.{kinds[leaf.path.rsplit('/', 1)[1]]}"
        for number, (layer, form) in enumerate(zip(net.layers, forms, strict=True))
        for leaf in layer.leaves
    }
