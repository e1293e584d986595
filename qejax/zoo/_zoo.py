"""Many trained networks of one architecture in memory, and their flat vectors."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qejax import _trees
from qejax.nets import Network
from qejax.spaces import WeightSpec
from qejax.zoo._normal import NormalForm, columns

TRAIN, VAL, TEST = 0, 1, 2
"""Codes of `Zoo.split`."""

SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}
"""Codes of the splits by name."""


@dataclass(frozen=True)
class Zoo:
    """`B` trained networks of one architecture, as NumPy arrays.

    Attributes:
        network: the architecture.
        thetas: stacked weights, float32; every leaf has a leading axis `B`.
        labels: by name, `[B]` float32: `test_accuracy`, `test_loss`, `train_accuracy`,
            `train_loss`.
        hyper: by name, `[B]`: how each network was trained; numbers or strings.
        split: `[B]` int8, 0 train, 1 validation, 2 test. By network, never by
            checkpoint.
        source: where the networks come from.
        ids: `[B]` strings, unique.
        normal: the normal forms of `thetas`, where they have been computed: `read`
            returns them, `normal_forms` computes them. Weights that are replaced
            need others.

    Raises:
        ValueError: at construction, if an array does not have `B` rows, a code is none
            of a split, or a leaf or a normal form does not fit the spec of the network.
    """

    network: Network
    thetas: Any
    labels: dict[str, np.ndarray]
    hyper: dict[str, np.ndarray]
    split: np.ndarray
    source: str
    ids: np.ndarray
    normal: NormalForm | None = None

    def __post_init__(self) -> None:
        """Checks rows of every array, codes of splits, and shapes of the leaves."""
        count = len(self.ids)
        columns = {"split": self.split}
        columns |= {f"labels[{name!r}]": x for name, x in self.labels.items()}
        columns |= {f"hyper[{name!r}]": x for name, x in self.hyper.items()}
        for name, column in columns.items():
            if column.shape != (count,):
                raise ValueError(
                    f"zoo {self.source}: {name} should have one entry for each of "
                    f"{count} networks, got shape {column.shape}."
                )
        unknown = np.flatnonzero(~np.isin(self.split, list(SPLITS.values())))
        if len(unknown):
            raise ValueError(
                f"zoo {self.source}: split codes should be among {SPLITS}, got "
                f"{self.split[unknown[0]]} in row {unknown[0]}. Use zoo.split_networks."
            )
        leaves = _trees.flatten(self.thetas)
        got = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
        expected = {
            leaf.path: (count, *leaf.stored) for leaf in self.network.spec.leaves
        }
        if got != expected:
            raise ValueError(
                f"zoo {self.source}: thetas should have the shapes {expected}, got "
                f"{got}."
            )
        if self.normal is not None:
            _check_normal(self.source, self.network.spec, self.normal, count)

    def __len__(self) -> int:
        """Returns `B`."""
        return len(self.ids)

    def rows(self, split: str) -> np.ndarray:
        """Returns the rows of a split, ascending.

        Raises:
            ValueError: if the split is none of "train", "val", "test".
        """
        return np.flatnonzero(self.split == split_code(split))

    def take(self, rows: np.ndarray) -> "Zoo":
        """Returns the zoo of these rows, in this order."""
        return replace(
            self,
            thetas=_map(lambda leaf: leaf[rows], self.thetas),
            labels={name: x[rows] for name, x in self.labels.items()},
            hyper={name: x[rows] for name, x in self.hyper.items()},
            split=self.split[rows],
            ids=self.ids[rows],
            normal=None if self.normal is None else self.normal.take(rows),
        )

    def select(self, split: str) -> "Zoo":
        """Returns the zoo of one split, in the order of the whole zoo.

        Raises:
            ValueError: if the split is none of "train", "val", "test".
        """
        return self.take(self.rows(split))

    def vectors(self) -> np.ndarray:
        """Returns the weights as `[B, P]` float32, leaves in the order of the spec."""
        return to_vectors(self.network.spec, self.thetas)


def split_code(split: str) -> int:
    """Returns the code of a split.

    Raises:
        ValueError: if the split is none of "train", "val", "test".
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown: expected one of {list(SPLITS)}.")
    return SPLITS[split]


def _check_normal(
    source: str, spec: WeightSpec, normal: NormalForm, count: int
) -> None:
    for name, (width, dtype) in columns(spec).items():
        column = getattr(normal, name)
        if column.shape != (count, width) or column.dtype != dtype:
            raise ValueError(
                f"zoo {source}: normal.{name} should have shape {(count, width)} and "
                f"dtype {np.dtype(dtype)}, got {column.shape} and {column.dtype}. "
                f"Compute it with zoo.normal_forms."
            )


def _map(function: Any, tree: Any) -> Any:
    leaves = _trees.flatten(tree)
    return _trees.nest({path: function(leaf) for path, leaf in leaves.items()})


def to_vectors(spec: WeightSpec, thetas: Mapping[str, Any]) -> np.ndarray:
    """Returns stacked weights as `[B, P]` float32, leaves in the order of the spec."""
    leaves = _trees.flatten(thetas)
    flat = [np.asarray(leaves[leaf.path], np.float32) for leaf in spec.leaves]
    return np.concatenate([x.reshape(len(x), -1) for x in flat], axis=1)


def from_vectors(spec: WeightSpec, vectors: np.ndarray) -> dict[str, Any]:
    """Returns the stacked weights whose `to_vectors` is `vectors: [..., P]`.

    Leading axes are kept, so that one vector gives one network.

    Raises:
        ValueError: if the last axis does not have `P` entries.
    """
    if vectors.shape[-1:] != (spec.num_parameters,):
        raise ValueError(
            f"weight vectors should have {spec.num_parameters} entries, got shape "
            f"{vectors.shape}."
        )
    leaves, start = {}, 0
    for leaf in spec.leaves:
        cut = vectors[..., start : start + leaf.size]
        leaves[leaf.path] = cut.reshape(*vectors.shape[:-1], *leaf.stored)
        start += leaf.size
    return _trees.nest(leaves)
