"""Networks that one metanetwork reads: one architecture, one activation, one split."""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from experiments.predict_accuracy.readings import Readings

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Codes of a zoo's split."""

SPLITS = ("train", "validation", "test")
"""Names of the codes."""


@dataclass(frozen=True, eq=False)
class Bucket:
    """A zoo of one architecture, split by network.

    Attributes:
        name: of its activation.
        everything: all networks, `B` of them.
        accuracies: `[B]`, measured test accuracies.
        split: `[B]`, codes.
        images: over which each accuracy was measured.
    """

    name: str
    everything: Readings
    accuracies: np.ndarray
    split: np.ndarray
    images: int
    _cache: dict[int, Readings] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuses a split that leaves nothing to train on, select by or test on."""
        for code, name in enumerate(SPLITS):
            if np.sum(self.split == code) < 2:
                raise ValueError(
                    f"zoo {self.name!r}: expected at least 2 networks in the {name} "
                    f"split, got {int(np.sum(self.split == code))} of "
                    f"{len(self.split)}. Use a larger zoo."
                )

    def members(self, split: int) -> np.ndarray:
        """Returns the indices of the networks of a split."""
        return np.flatnonzero(self.split == split)

    def readings(self, split: int) -> Readings:
        """Returns the networks of a split; the test split is for `final_test` only."""
        if split not in self._cache:
            members = self.members(split)
            thetas: Any = jax.tree.map(lambda a: a[members], self.everything.thetas)
            self._cache[split] = self.everything.replaced(thetas)
        return self._cache[split]

    def accuracy(self, split: int) -> np.ndarray:
        """Returns the measured accuracies of a split."""
        return self.accuracies[self.members(split)]

    def summary(self) -> dict[str, Any]:
        """Returns counts and training accuracies in numbers, for the log.

        Nothing of the test split but its size.
        """
        known = self.accuracies[self.split != TEST]
        return {
            "bucket": self.name,
            "networks": len(self.split),
            "parameters": self.everything.network.spec.num_parameters,
            **{
                name: int(np.sum(self.split == code))
                for code, name in enumerate(SPLITS)
            },
            "accuracy_deciles": np.quantile(known, np.linspace(0, 1, 11)).tolist(),
        }
