"""Batches of a prepared zoo from disk: memory for a few of them, whatever its size."""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import numpy as np

from qejax.nets import Network
from qejax.zoo._fetch import Records
from qejax.zoo._normal import RECORD_FIELDS, from_records
from qejax.zoo._order import AHEAD, batches_of
from qejax.zoo._read import Batch, check_count, check_id, only_network, open_bucket
from qejax.zoo._splits import split_digest
from qejax.zoo._zoo import from_vectors, split_code

T = TypeVar("T")


class Stream(Iterator[T], Generic[T]):
    """Batches one after the other, and the place that a later process goes on from.

    Iterate over it, and `close` one that is not at its end; `get_state` and `set_state`
    are those of a grain iterator, so that it is checkpointed with a run. Batches that
    were prepared and not handed out yet are not counted.

    Args:
        dataset: grain's, of batches.
        about: what decides the batches, of JSON types.
    """

    def __init__(self, dataset: Any, about: dict[str, Any]) -> None:
        self.about = about
        self._iterator = iter(dataset)
        text = json.dumps(about, sort_keys=True)
        self._digest = hashlib.sha256(text.encode()).hexdigest()

    def __next__(self) -> T:
        """Returns the next batch."""
        return next(self._iterator)

    def close(self) -> None:
        """Stops reading ahead; nothing can be asked for afterwards."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()

    def get_state(self) -> dict[str, Any]:
        """Returns the place, of JSON types."""
        return {"of": self._digest, "grain": self._iterator.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a place that `get_state` returned.

        Raises:
            ValueError: if it is the place of other batches.
        """
        if state.get("of") != self._digest:
            raise ValueError(
                f"Stream.set_state: expected a place in the batches {self.about}, got "
                f"one in others. Use the same zoo, split, batch and seed."
            )
        self._iterator.set_state(state["grain"])


def stream(
    root: str | Path,
    split: str,
    batch: int,
    *,
    bucket: str | None = None,
    seed: int | None = None,
    epochs: int | None = 1,
    shard: tuple[int, int] = (0, 1),
    whole: bool = False,
    take: Callable[[Batch], T] | None = None,
    normal: bool = True,
    device: Any = None,
    ahead: int = AHEAD,
    verify: bool = True,
) -> Stream[Any]:
    """Returns batches of a split from disk, read ahead by a thread.

    Deterministic: `batches(read(root), ...)` yields the same. Batch `i` depends on
    the arguments and on `i` alone, so that a stream can go on from any place.

    Args:
        root: a folder made by `generate`, `store` or `import_zoo`.
        split: "train", "val" or "test".
        batch: networks in a batch, of all shards together; the last one of all epochs
            may have fewer.
        bucket: its name; not needed if there is one only.
        seed: of a new order in every epoch; `None` keeps the order of the zoo.
        epochs: how often every network comes; `None` for ever.
        shard: `(index, count)`, such as `(jax.process_index(), jax.process_count())`:
            every batch is cut into `count` pieces of equal size, and this stream reads
            the piece of that index alone. All shards together are the batches of one,
            and a place in one is a place in all, however many there are.
        whole: leave out the last batch if it has fewer networks.
        take: what is made of a batch, in the thread that reads; by default the batch.
        normal: whether normal forms are read.
        device: a JAX device or sharding that batches are put on, ahead of time; what
            `take` returns has to be arrays then. On one of many processes
            (`train.batch_sharding(mesh)`) pieces become whole batches.
        ahead: batches that are ready before they are asked for; 0 for none.
        verify: whether to compare the checksum of every shard first.

    Raises:
        FileNotFoundError: if the manifest or a shard is missing.
        ValueError: if the split or bucket is unknown, a shard is damaged, or batches
            cannot be cut into pieces of equal size.
    """
    root = Path(root)
    split_code(split)
    index, count = check_shard("stream", shard, batch)
    name, entry = open_bucket(root, bucket, verify)
    network = only_network(root, name, entry)
    ids = entry["splits"][split]
    about = {
        "bucket": name,
        "split": split,
        "splits_sha256": split_digest(entry["splits"]),
        "batch": batch,
        "seed": seed,
        "epochs": epochs,
        "whole": whole,
    }
    if not ids:
        return Stream((), about)
    records = Records(root, entry, split)
    what = f"{root}, bucket {name!r}, split {split!r}"
    check_count(what, ids, len(records))
    piece = batch // count
    rows = (_whole if whole else batches_of)(len(records), batch, seed, epochs)
    load = _Load(network, records, ids, what, normal)

    def read(numbers: np.ndarray) -> Any:
        found = load(numbers[index * piece : (index + 1) * piece])
        return found if take is None else take(found)

    return Stream(read_ahead(rows.map(read), ahead, device), about)


def check_shard(what: str, shard: tuple[int, int], batch: int) -> tuple[int, int]:
    """Returns index and count of a shard.

    Raises:
        ValueError: if there is no such shard, or batches cannot be cut so.
    """
    index, count = shard
    if not (0 <= index < count and batch % count == 0):
        raise ValueError(
            f"{what}(shard={shard}, batch of {batch}): expected (index, count) with "
            f"index below count, and a batch that is a multiple of count."
        )
    return index, count


def _whole(count: int, batch: int, seed: int | None, epochs: int | None) -> Any:
    if epochs is not None and count * epochs < batch:
        raise ValueError(
            f"stream(whole=True): expected at least batch = {batch} networks, got "
            f"{count} in {epochs} epochs."
        )
    rows = batches_of(count, batch, seed, epochs)
    return rows if epochs is None else rows[: count * epochs // batch]


def read_ahead(dataset: Any, ahead: int, device: Any) -> Any:
    """Returns an iterable of what a grain data set holds, read by a thread."""
    import grain

    # One thread: reading is decoding, and Python decodes one thing at a time.
    threads = 1 if ahead else 0
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    read = dataset.to_iter_dataset(options)
    if device is None:
        return read
    if isinstance(device, jax.sharding.Sharding) and not device.is_fully_addressable:
        # Batches of many processes: each has a piece of all of them.
        return read.map(partial(_joined_batch, device))
    return grain.experimental.device_put(
        read, device, cpu_buffer_size=max(ahead, 1), device_buffer_size=max(ahead, 1)
    )


def _joined_batch(sharding: jax.sharding.Sharding, piece: Any) -> Any:
    def join(leaf: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, leaf)

    return jax.tree.map(join, piece)


class _Load:
    """From numbers of records to a batch."""

    def __init__(
        self, net: Network, records: Records, ids: list[str], what: str, normal: bool
    ) -> None:
        self._net, self._records = net, records
        self._ids, self._what = ids, what
        self._fields = ("id", "theta", "labels")
        self._normal = normal
        if normal:
            self._fields = (*self._fields, *RECORD_FIELDS.values())

    def __call__(self, numbers: np.ndarray) -> Batch:
        found = self._records.fetch(numbers, self._fields)
        for number, got in zip(numbers.tolist(), found["id"].tolist(), strict=True):
            check_id(self._what, self._ids[number], got)
        return Batch(
            from_vectors(self._net.spec, found["theta"]),
            {name: x.astype(np.float32) for name, x in found["labels"].items()},
            found["id"],
            from_records(found) if self._normal else None,
        )
