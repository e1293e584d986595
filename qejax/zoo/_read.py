"""Reading a prepared zoo into memory, and taking it batch by batch.

`stream` takes it from disk: `batches` over `read(root)` and `stream(root)` yield equal
batches for equal arguments.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qejax import nets
from qejax.nets import Network
from qejax.zoo._fetch import FIELDS, Records
from qejax.zoo._manifest import AGAIN, MIXED, check_shards, read_manifest
from qejax.zoo._normal import NormalForm, from_records
from qejax.zoo._order import order_of
from qejax.zoo._zoo import Zoo, from_vectors, split_code

READ_AT_ONCE = 1024


class Batch(NamedTuple):
    """Some networks of a split: `B` of them.

    Attributes:
        thetas: stacked weights, float32, leading axis `B`.
        labels: by name, `[B]` float32.
        ids: `[B]` strings.
        normal: their normal forms; `None` if they come from a zoo without.
    """

    thetas: Any
    labels: dict[str, np.ndarray]
    ids: np.ndarray
    normal: NormalForm | None = None


def buckets(root: str | Path) -> tuple[str, ...]:
    """Returns the names of the buckets of a prepared zoo.

    Raises:
        FileNotFoundError: if the folder has no manifest.
        ValueError: if the manifest is none of a zoo.
    """
    return tuple(read_manifest(Path(root))["buckets"])


def notes(root: str | Path, bucket: str | None = None) -> dict[str, Any]:
    """Returns a bucket's entry in the manifest, with what its making had to say.

    Raises:
        FileNotFoundError: if the folder has no manifest.
        ValueError: if the bucket is unknown.
    """
    return open_bucket(Path(root), bucket, verify=False)[1]


def recipe(root: str | Path) -> dict[str, Any]:
    """Returns what a prepared zoo was made with, as its maker wrote it down.

    Returns:
        "fit" and "data_sha256" of a zoo of fits, the fields of a `ZooConfig` of a
        generated one; empty where its maker wrote down nothing.

    Raises:
        FileNotFoundError: if the folder has no manifest.
        ValueError: if the manifest is none of a zoo.
    """
    return dict(read_manifest(Path(root))["config"] or {})


def read(root: str | Path, bucket: str | None = None, *, verify: bool = True) -> Zoo:
    """Returns one bucket of a prepared zoo, in memory, in the order it was stored in.

    Args:
        root: a folder made by `generate` or `store`.
        bucket: its name; not needed if there is one only.
        verify: whether to compare the checksum of every shard first.

    Returns:
        The zoo; its `source` is the one that was stored, its normal forms are there.

    Raises:
        FileNotFoundError: if the manifest or a shard is missing.
        ValueError: if the bucket is unknown, a shard is damaged, or the records are
            not those of the manifest; names the shard or field.
    """
    root = Path(root)
    name, entry = open_bucket(root, bucket, verify)
    net = only_network(root, name, entry)
    found, split = fetch_all(root, name, entry)
    return Zoo(
        network=net,
        thetas=from_vectors(net.spec, found["theta"]),
        labels={key: x.astype(np.float32) for key, x in found["labels"].items()},
        hyper=found["hyper"],
        split=split,
        source=entry["source"],
        ids=found["id"],
        normal=from_records(found),
    )


def only_network(root: Path, name: str, entry: dict[str, Any]) -> Network:
    """Returns the architecture of a bucket.

    Raises:
        ValueError: if there are several.
    """
    if entry["network"].get("kind") == MIXED:
        raise ValueError(
            f"{root}, bucket {name!r}: expected networks of one architecture, got "
            f"{len(entry.get('networks', []))} architectures. Use zoo.read_mixed."
        )
    return nets.build(entry["network"])


def fetch_all(
    root: Path,
    name: str,
    entry: dict[str, Any],
    fields: Sequence[str] = FIELDS,
) -> tuple[dict[str, Any], np.ndarray]:
    """Returns all records of a bucket in the order of the zoo, and their splits.

    Args:
        root: of the zoo.
        name: of the bucket.
        entry: of the bucket.
        fields: of `FIELDS`, `row` and `id` among them.

    Raises:
        ValueError: if records are not those of the manifest.
    """
    parts: list[dict[str, Any]] = []
    split: list[int] = []
    for part, ids in entry["splits"].items():
        if not ids:
            continue
        source = Records(root, entry, part)
        what = f"{root}, bucket {name!r}, split {part!r}"
        check_count(what, ids, len(source))
        for start in range(0, len(source), READ_AT_ONCE):
            stop = min(start + READ_AT_ONCE, len(source))
            parts.append(source.fetch(range(start, stop), fields))
            for expected, found in zip(ids[start:], parts[-1]["id"], strict=False):
                check_id(what, expected, str(found))
        split += [split_code(part)] * len(source)
    order = np.argsort(np.concatenate([part["row"] for part in parts]), kind="stable")
    return joined_records(parts, order), np.array(split, np.int8)[order]


def joined_records(parts: list[dict[str, Any]], order: np.ndarray) -> dict[str, Any]:
    """Returns records one after the other, then in this order; columns as well."""
    return {
        name: joined_records([part[name] for part in parts], order)
        if isinstance(parts[0][name], dict)
        else np.concatenate([part[name] for part in parts])[order]
        for name in parts[0]
    }


def read_all(root: str | Path, *, verify: bool = True) -> dict[str, Zoo]:
    """Returns all buckets of a prepared zoo by name; see `read`."""
    return {name: read(root, name, verify=verify) for name in buckets(root)}


def batches(
    zoo: Zoo,
    split: str,
    batch: int,
    *,
    seed: int | None = None,
    epochs: int = 1,
) -> Iterator[Batch]:
    """Yields batches of a split of a zoo in memory.

    Args:
        zoo: the networks.
        split: "train", "val" or "test".
        batch: networks in a batch; the last one of all epochs may have fewer.
        seed: of a new order in every epoch; `None` keeps the order of the zoo.
        epochs: how often every network comes.

    Raises:
        ValueError: if the split is unknown.
    """
    rows, vectors = zoo.rows(split), zoo.vectors()
    for at in order_of(len(rows), batch, seed, epochs):
        chosen = rows[at]
        yield Batch(
            from_vectors(zoo.network.spec, vectors[chosen]),
            {name: x[chosen] for name, x in zoo.labels.items()},
            zoo.ids[chosen],
            None if zoo.normal is None else zoo.normal.take(chosen),
        )


def check_count(what: str, ids: list[str], got: int) -> None:
    """Raises a `ValueError` unless there are as many records as networks."""
    if got != len(ids):
        raise ValueError(
            f"{what}: expected {len(ids)} networks by the manifest, got {got} records. "
            f"{AGAIN}"
        )


def check_id(what: str, expected: str, got: str) -> None:
    """Raises a `ValueError` unless a record is the network that it should be."""
    if got != expected:
        raise ValueError(
            f"{what}: by the manifest, the record should be network {expected!r}, got "
            f"{got!r}. {AGAIN}"
        )


def open_bucket(
    root: Path, bucket: str | None, verify: bool
) -> tuple[str, dict[str, Any]]:
    """Returns name and entry of a bucket; `None` names the only one.

    Raises:
        FileNotFoundError: if the manifest or a shard is missing.
        ValueError: if the bucket is unknown or a shard is damaged.
    """
    entries = read_manifest(root)["buckets"]
    if bucket is None and len(entries) == 1:
        bucket = next(iter(entries))
    if bucket is None or bucket not in entries:
        raise ValueError(
            f"{root}: expected one of the buckets {list(entries)}, got {bucket!r}."
        )
    entry = entries[bucket]
    if verify:
        check_shards(root, bucket, entry["shards"])
    return bucket, entry
