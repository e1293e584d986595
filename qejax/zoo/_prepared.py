"""A prepared zoo as a listing: all but the weights in memory, these read by row."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from qejax import nets
from qejax.zoo._fetch import Records
from qejax.zoo._listing import Found, Listing, Weights
from qejax.zoo._manifest import read_manifest
from qejax.zoo._mixed_normal import (
    LAYERS,
    MIXED_FIELDS,
    MixedNormal,
    from_mixed_records,
)
from qejax.zoo._normal import RECORD_FIELDS, WHICH, from_records
from qejax.zoo._read import fetch_all, open_bucket
from qejax.zoo._zoo import SPLITS


def list_prepared(root: str | Path, *, verify: bool = True) -> Found:
    """Lists the networks of a prepared zoo, in the order in which they were stored.

    Args:
        root: a folder made by `generate`, `store` or `import_zoo`.
        verify: whether to compare the checksum of every shard first.

    Returns:
        Its buckets. A run is the training run that an import wrote down, else the
        network.

    Raises:
        FileNotFoundError: if the manifest or a shard is missing.
        ValueError: if a shard is damaged, or the records are not those of the manifest.
    """
    root = Path(root)
    manifest = read_manifest(root)
    listings = {name: _bucket(root, name, verify) for name in manifest["buckets"]}
    protocols = {
        entry.get("split", {}).get("protocol", "stored")
        for entry in manifest["buckets"].values()
    }
    return Found(listings, (), "; ".join(sorted(protocols)), "make the zoo again")


def _bucket(root: Path, name: str, verify: bool) -> Listing:
    _, entry = open_bucket(root, name, verify)
    small, split = fetch_all(root, name, entry, SMALL)
    return listing_of(entry, sources_of(root, entry), small, split)


def sources_of(
    root: Path, entry: dict[str, Any], without: Collection[str] = ()
) -> dict[int, Records]:
    """Returns the records of a bucket by the code of their split.

    Args:
        root: of the zoo.
        entry: of the bucket in the manifest.
        without: paths of files that are not looked into.
    """
    return {
        code: Records(root, entry, part, without)
        for part, code in SPLITS.items()
        if entry["splits"][part]
    }


def listing_of(
    entry: dict[str, Any],
    sources: dict[int, Records],
    small: dict[str, Any],
    split: np.ndarray,
) -> Listing:
    """Returns the listing of a bucket.

    Args:
        entry: of the bucket in the manifest.
        sources: its records by the code of their split.
        small: the fields `SMALL` of all records, those of a split in its order.
        split: `[B]`, codes.
    """
    configs = entry.get("networks", [entry["network"]])
    network, *others = (nets.build(config) for config in configs)
    # Where a network is among the records of its split.
    places = np.zeros(len(split), np.int64)
    for code in sources:
        rows = np.flatnonzero(split == code)
        places[rows] = np.arange(len(rows))

    def fetch(rows: np.ndarray, fields: tuple[str, ...]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for code, source in sources.items():
            at = np.flatnonzero(split[rows] == code)
            if not len(at):
                continue
            read = source.fetch(places[rows[at]], fields)
            for field in fields:
                shape = (len(rows), *read[field].shape[1:])
                found.setdefault(field, np.zeros(shape, read[field].dtype))
                found[field][at] = read[field]
        return found

    ids, hyper = small["id"], small["hyper"]

    def mixed_normal(rows: np.ndarray) -> MixedNormal:
        networks = [(network, *others)[place] for place in small[WHICH][rows].tolist()]
        return from_mixed_records(fetch(rows, MIXED_FIELDS), networks)

    return Listing(
        network=network,
        ids=ids,
        runs=hyper[RUN].astype(str) if RUN in hyper else ids,
        labels={key: x.astype(np.float32) for key, x in small["labels"].items()},
        hyper=hyper,
        split=split,
        source=entry["source"],
        read=lambda rows: Weights(fetch(rows, ("theta",))["theta"], {}),
        normal=None
        if others
        else lambda rows: from_records(fetch(rows, tuple(RECORD_FIELDS.values()))),
        mixed_normal=mixed_normal if LAYERS in entry else None,
        others=tuple(others),
        which=small.get(WHICH),
    )


SMALL = ("row", "id", WHICH, "labels", "hyper")
"""Fields of a record beside weights and normal form."""

RUN = "run"
"""Of `hyper`: the training run, where networks are checkpoints of one."""
