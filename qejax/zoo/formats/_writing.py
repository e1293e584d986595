"""What all writers of public formats do: check what they are given, and read it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qejax.zoo._listing import Listing


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
