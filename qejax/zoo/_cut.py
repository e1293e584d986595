"""Networks above a cut-off of accuracy: the literature reports several."""

from dataclasses import replace

import numpy as np

from qejax.zoo._splits import split_networks
from qejax.zoo._zoo import Zoo


def accurate_rows(accuracy: np.ndarray, cut_off: float, what: str) -> np.ndarray:
    """Returns the rows with an accuracy of at least `cut_off`, ascending.

    Args:
        accuracy: `[B]`.
        cut_off: in `[0, 1]`.
        what: where the accuracies come from, for the message.

    Raises:
        ValueError: if the cut-off is none, or no network is left.
    """
    if not 0 <= cut_off <= 1:
        raise ValueError(f"{what}: cut_off should be in [0, 1], got {cut_off}.")
    rows = np.flatnonzero(accuracy >= cut_off)
    if not len(rows):
        raise ValueError(
            f"{what}: no network has an accuracy of at least cut_off={cut_off:g}; the "
            f"best of {len(accuracy)} has {np.max(accuracy, initial=0):.4g}. Lower it."
        )
    return rows


def keep_accurate(zoo: Zoo, cut_off: float, split_seed: int = 0) -> Zoo:
    """Returns the networks with a `test_accuracy` of at least `cut_off`, split anew.

    The split is made of what is left, so every cut-off has a test split of its own,
    as in the literature. A cut-off of 0 keeps the networks and their split.

    Args:
        zoo: the networks.
        cut_off: in `[0, 1]`.
        split_seed: of the new split, see `split_networks`.

    Raises:
        ValueError: if the zoo has no label `test_accuracy`, the cut-off is none, or no
            network is left.
    """
    if cut_off == 0:
        return zoo
    if "test_accuracy" not in zoo.labels:
        raise ValueError(
            f"zoo {zoo.source}: a cut-off needs the label 'test_accuracy', got "
            f"{sorted(zoo.labels)}."
        )
    rows = accurate_rows(zoo.labels["test_accuracy"], cut_off, f"zoo {zoo.source}")
    return replace(zoo.take(rows), split=split_networks(len(rows), split_seed))
