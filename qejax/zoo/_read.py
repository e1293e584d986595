"""Reading a prepared zoo: into memory if it fits, batch by batch if it does not.

Both give the same networks in the same order: `batches` over `read(root)` and
`stream(root)` yield equal batches for equal arguments.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qejax import nets
from qejax.nets import Network
from qejax.zoo._manifest import AGAIN, check_shards, read_manifest
from qejax.zoo._normal import RECORD_FIELDS, NormalForm, from_records
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
    net = nets.build(entry["network"])
    records: list[dict[str, Any]] = []
    split: list[int] = []
    for part, ids in entry["splits"].items():
        if not ids:
            continue
        source = data_source(root, entry, part)
        for start in range(0, len(source), READ_AT_ONCE):
            stop = min(start + READ_AT_ONCE, len(source))
            records += source.__getitems__(range(start, stop))
        split += [split_code(part)] * len(source)
        got = [record["id"].decode() for record in records[-len(source) :]]
        what = f"{root}, bucket {name!r}, split {part!r}"
        _check_count(what, ids, len(got))
        for expected, found in zip(ids, got, strict=True):
            check_id(what, expected, found)
    order = np.argsort([record["row"] for record in records], kind="stable")
    records = [records[row] for row in order]
    return Zoo(
        network=net,
        thetas=from_vectors(net.spec, np.stack([r["theta"] for r in records])),
        labels=columns_of([r["labels"] for r in records], np.float32),
        hyper=columns_of([r["hyper"] for r in records], None),
        split=np.array(split, np.int8)[order],
        source=entry["source"],
        ids=np.array([r["id"].decode() for r in records]),
        normal=from_records(
            {key: np.stack([r[key] for r in records]) for key in RECORD_FIELDS.values()}
        ),
    )


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
    for at in _order(range(len(rows)), batch, seed, epochs):
        chosen = rows[at]
        yield Batch(
            from_vectors(zoo.network.spec, vectors[chosen]),
            {name: x[chosen] for name, x in zoo.labels.items()},
            zoo.ids[chosen],
            None if zoo.normal is None else zoo.normal.take(chosen),
        )


def stream(
    root: str | Path,
    split: str,
    batch: int,
    *,
    bucket: str | None = None,
    seed: int | None = None,
    epochs: int = 1,
    verify: bool = True,
) -> Iterator[Batch]:
    """Yields batches of a split from disk, with grain; memory for a few batches only.

    Arguments and order as `batches`.

    Args:
        root: a folder made by `generate` or `store`.
        split: "train", "val" or "test".
        batch: networks in a batch; the last one of all epochs may have fewer.
        bucket: its name; not needed if there is one only.
        seed: of a new order in every epoch; `None` keeps the order of the zoo.
        epochs: how often every network comes.
        verify: whether to compare the checksum of every shard first.

    Raises:
        FileNotFoundError: if the manifest or a shard is missing.
        ValueError: if the split or bucket is unknown, or a shard is damaged.
    """
    root = Path(root)
    split_code(split)
    name, entry = open_bucket(root, bucket, verify)
    net, ids = nets.build(entry["network"]), entry["splits"][split]
    source = data_source(root, entry, split) if ids else []
    what = f"{root}, bucket {name!r}, split {split!r}"
    _check_count(what, ids, len(source))
    return _stream(net, set(ids), what, _order(source, batch, seed, epochs))


def _stream(
    net: Network, known: set[str], what: str, ordered: Iterator[Any]
) -> Iterator[Batch]:
    for records in ordered:
        ids = [name.decode() for name in records["id"]]
        for found in ids:
            check_id(what, found if found in known else "one of the manifest", found)
        yield Batch(
            from_vectors(net.spec, records["theta"]),
            {name: np.asarray(x, np.float32) for name, x in records["labels"].items()},
            np.array(ids),
            from_records(records),
        )


def _check_count(what: str, ids: list[str], got: int) -> None:
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


def _order(source: Any, batch: int, seed: int | None, epochs: int) -> Iterator[Any]:
    """Batches of a source; grain's order depends on its length and the seed only."""
    # grain takes a second to import.
    import grain

    if not len(source):
        return iter(())
    ordered = grain.MapDataset.source(source)
    if seed is not None:
        ordered = ordered.seed(seed).shuffle()
    ordered = ordered.repeat(epochs).batch(batch, drop_remainder=False)
    return iter(ordered.to_iter_dataset(grain.ReadOptions(num_threads=1)))


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


def data_source(root: Path, entry: dict[str, Any], split: str) -> Any:
    """Returns the records of a split by number."""
    # TFDS takes a second to import.
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(root / entry["folder"])
    return builder.as_data_source(split)


def columns_of(records: list[dict[str, Any]], dtype: Any) -> dict[str, np.ndarray]:
    """Returns columns by name from records that all have them."""
    names = records[0] if records else {}
    columns = {}
    for name in names:
        values = [record[name] for record in records]
        if isinstance(values[0], bytes):
            values = [value.decode() for value in values]
        columns[name] = np.array(values, dtype)
    return columns
