"""What all writers of public formats do: check what they are given, and read it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qejax.zoo._listing import Listing

AT_ONCE = 256
"""Networks in memory."""


def chunks(listing: Listing) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rows and their weights, some at a time.

    Raises:
        ValueError: if a network cannot be read: exports are of whole zoos.
    """
    for start in range(0, len(listing), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(listing)))
        read = listing.read(rows)
        if read.problems:
            at, why = next(iter(read.problems.items()))
            raise ValueError(
                f"{listing.source}, network {str(listing.ids[rows[at]])!r} cannot be "
                f"exported: {why}"
            )
        yield rows, read.vectors


def single(
    directory: Path, listings: Mapping[str, Listing], common: Callable[[Listing], Any]
) -> Listing:
    """Returns the first bucket, of which all others have what the format needs.

    Args:
        directory: that is written.
        listings: by bucket.
        common: what all buckets need to have in common; `None` if the format does not
            hold such networks at all.

    Raises:
        ValueError: names the bucket that does not fit.
    """
    first = next(iter(listings.values()))
    for name, listing in listings.items():
        found = common(listing)
        if found is None or found != common(first):
            why = "networks of this kind" if found is None else "another layout as well"
            raise ValueError(
                f"{directory}: the format does not hold {why}, got bucket {name!r} of "
                f"{listing.network.config}. Choose another format, such as safetensors."
            )
    return first


def check_labels(
    directory: Path, name: str, listing: Listing, labels: Sequence[str]
) -> None:
    """Raises unless a bucket has the labels that the format stores.

    Raises:
        ValueError: names the bucket and what is missing.
    """
    missing = [label for label in labels if label not in listing.labels]
    if missing:
        raise ValueError(
            f"{directory}: the format has the labels {list(labels)}, bucket {name!r} "
            f"has no {missing}."
        )
