"""What is left of a prepared zoo some files of which are not as they were written."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qejax.zoo._listing import Found, Listing, Problem
from qejax.zoo._manifest import read_manifest
from qejax.zoo._prepared import SMALL, listing_of, sources_of
from qejax.zoo._read import joined_records
from qejax.zoo._store import DESCRIPTIONS


def list_whole(root: str | Path, wrong: Mapping[str, Collection[str]]) -> Found:
    """Lists the networks of a prepared zoo that are in whole files, split by split.

    Args:
        root: of the zoo.
        wrong: by bucket, paths of files that are not looked into; see `wrong_files`.

    Returns:
        Its buckets; `problems` has those of which no network can be read, and why.

    Raises:
        FileNotFoundError: if the folder has no manifest.
        ValueError: if the manifest itself is not as it was written.
    """
    root = Path(root)
    listings: dict[str, Listing] = {}
    problems: list[Problem] = []
    protocols: set[str] = set()
    for name, entry in read_manifest(root)["buckets"].items():
        protocols.add(entry.get("split", {}).get("protocol", "stored"))
        without = wrong.get(name, ())
        lost = [f for f in DESCRIPTIONS if f"{entry['folder']}/{f}" in without]
        if lost:
            why = f"no network can be read without {' and '.join(lost)}"
            problems.append(Problem(name, why))
            continue
        try:
            listing = _bucket(root, entry, without)
        except ValueError as error:
            problems.append(Problem(name, str(error)))
            continue
        if len(listing):
            listings[name] = listing
        else:
            problems.append(Problem(name, "no file that has networks is whole"))
    protocol = "; ".join(sorted(protocols))
    return Found(listings, tuple(problems), protocol, "make the zoo again")


def _bucket(root: Path, entry: dict[str, Any], without: Collection[str]) -> Listing:
    sources = sources_of(root, entry, without)
    parts = [source.fetch(range(len(source)), SMALL) for source in sources.values()]
    split = np.repeat(list(sources), [len(source) for source in sources.values()])
    small = joined_records(parts, np.arange(len(split)))
    return listing_of(entry, sources, small, split.astype(np.int8))
