"""Splits by network: which networks train a metanetwork, select it, and test it."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from qejax.zoo._zoo import TEST, TRAIN, VAL

FRACTIONS = (0.6, 0.1)
"""Of the training and of the validation split; the rest is the test split."""


def split_networks(
    count: int, seed: int = 0, fractions: tuple[float, float] = FRACTIONS
) -> np.ndarray:
    """Returns a random split of `count` networks.

    The permutation of `numpy.random.default_rng(seed)`: its first 60 % train, its next
    10 % validate, the rest test. A network has one row, whatever the number of its
    checkpoints, so no run is in two splits.

    Args:
        count: number of networks.
        seed: of the permutation.
        fractions: of the training and of the validation split.

    Returns:
        `[count]` int8 codes: 0 train, 1 validation, 2 test.

    Raises:
        ValueError: if the fractions are not between 0 and 1 with a sum of at most 1.

    Example:
        >>> np.bincount(split_networks(10)).tolist()
        [6, 1, 3]
    """
    train, val = fractions
    if min(fractions) < 0 or train + val > 1:
        raise ValueError(
            f"split_networks(fractions=...): expected two fractions of at least 0 with "
            f"a sum of at most 1, got {fractions}."
        )
    order = np.random.default_rng(seed).permutation(count)
    first, second = int(train * count), int((train + val) * count)
    codes = np.full(count, TEST, np.int8)
    codes[order[:first]] = TRAIN
    codes[order[first:second]] = VAL
    return codes


def split_runs(
    runs: np.ndarray, seed: int = 0, fractions: tuple[float, float] = FRACTIONS
) -> np.ndarray:
    """Returns a random split of training runs: all checkpoints of a run go together.

    The split of `split_networks` over the runs in the order in which they come first.

    Args:
        runs: `[B]`, names.
        seed: of the permutation.
        fractions: of the training and of the validation split, counted in runs.

    Returns:
        `[B]` int8 codes.

    Raises:
        ValueError: as `split_networks`.

    Example:
        >>> split_runs(np.array(["a", "b", "a", "c"]), fractions=(0.5, 0.5)).tolist()
        [1, 1, 1, 0]
    """
    names, first, which = np.unique(runs, return_index=True, return_inverse=True)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(first)] = np.arange(len(names))
    return split_networks(len(names), seed, fractions)[rank[which]]


def split_digest(splits: Mapping[str, Sequence[str]]) -> str:
    """Returns the SHA-256 of a split: of its lines `ID TAB SPLIT`, sorted.

    Two zoos with this digest train, select and test on the same networks, whatever
    their order.

    Args:
        splits: ids by the name of their split.

    Example:
        >>> split_digest({"train": ["b", "a"], "test": ["c"]})[:8]
        '036218b4'
    """
    lines = sorted(
        f"{name}\t{split}\n" for split, ids in splits.items() for name in ids
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
