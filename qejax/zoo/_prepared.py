"""A prepared zoo as a listing: all but the weights in memory, these read by row."""

from pathlib import Path
from typing import Any

import numpy as np

from qejax import nets
from qejax.zoo._listing import Found, Listing, Weights
from qejax.zoo._manifest import read_manifest
from qejax.zoo._normal import RECORD_FIELDS, NormalForm, from_records
from qejax.zoo._read import READ_AT_ONCE, check_id, columns_of, data_source, open_bucket
from qejax.zoo._zoo import split_code


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
    sources, small, places = {}, [], []
    for part, ids in entry["splits"].items():
        if not ids:
            continue
        source = sources[part] = data_source(root, entry, part)
        what = f"{root}, bucket {name!r}, split {part!r}"
        for start in range(0, len(source), READ_AT_ONCE):
            stop = min(start + READ_AT_ONCE, len(source))
            for at, record in enumerate(source.__getitems__(range(start, stop)), start):
                small.append({key: record[key] for key in SMALL})
                places.append((part, at))
                check_id(what, ids[at], record["id"].decode())
    order = np.argsort([record["row"] for record in small], kind="stable")
    small, places = [small[at] for at in order], [places[at] for at in order]
    network = nets.build(entry["network"])

    def records(rows: np.ndarray) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for part, source in sources.items():
            own = [row for row in rows.tolist() if places[row][0] == part]
            if own:
                read = source.__getitems__([places[row][1] for row in own])
                found |= dict(zip(own, read, strict=True))
        return [found[row] for row in rows.tolist()]

    def read(rows: np.ndarray) -> Weights:
        vectors = [record["theta"] for record in records(rows)]
        size = network.spec.num_parameters
        return Weights(np.array(vectors, np.float32).reshape(-1, size), {})

    def normal(rows: np.ndarray) -> NormalForm:
        found = records(rows)
        return from_records(
            {key: np.stack([r[key] for r in found]) for key in RECORD_FIELDS.values()}
        )

    hyper = columns_of([record["hyper"] for record in small], None)
    ids = np.array([record["id"].decode() for record in small], str)
    return Listing(
        network=network,
        ids=ids,
        runs=hyper[RUN].astype(str) if RUN in hyper else ids,
        labels=columns_of([record["labels"] for record in small], np.float32),
        hyper=hyper,
        split=np.array([split_code(part) for part, _ in places], np.int8),
        source=entry["source"],
        read=read,
        normal=normal,
    )


SMALL = ("row", "id", "labels", "hyper")
"""Fields of a record beside weights and normal form."""

RUN = "run"
"""Of `hyper`: the training run, where networks are checkpoints of one."""
