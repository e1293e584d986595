"""Batches of mixed architectures from disk: memory for a few of them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from qejax import nets
from qejax.nets import PadSize, ladder_of, rung_of
from qejax.zoo._fetch import Records
from qejax.zoo._mixed import MixedBatch, Plan, Rows, padded_batch
from qejax.zoo._mixed_normal import MIXED_FIELDS, from_mixed_records
from qejax.zoo._normal import WHICH
from qejax.zoo._order import AHEAD
from qejax.zoo._read import check_count, check_id, open_bucket
from qejax.zoo._splits import split_digest
from qejax.zoo._stream import Stream, check_shard, read_ahead
from qejax.zoo._zoo import split_code

T = TypeVar("T")


def stream_mixed(
    root: str | Path,
    split: str,
    batch_size: int,
    *,
    ladder: tuple[PadSize, ...] | None = None,
    bucket: str | None = None,
    seed: int | None = None,
    epochs: int | None = 1,
    shard: tuple[int, int] = (0, 1),
    take: Callable[[MixedBatch], T] | None = None,
    normal: bool = True,
    device: Any = None,
    ahead: int = AHEAD,
    verify: bool = True,
) -> Stream[Any]:
    """Returns batches of a split of a mixed bucket from disk, read ahead by a thread.

    Deterministic: epoch `e` has the batches of
    `read_mixed(root).select(split).batches(ladder, batch_size, (seed, e))`. Batch `i`
    depends on the arguments and on `i` alone. All batches have `batch_size` networks of
    one size; see `MixedBatch.there`. What a predictor reads is in `MixedBatch.normal`.

    Args:
        root: a folder made by `import_zoo`.
        split: "train", "val" or "test".
        batch_size: networks in a batch, of all shards together.
        ladder: sizes; `None` for `nets.ladder_of` of the networks of all splits.
        bucket: its name; not needed if there is one only.
        seed: of a new order in every epoch; `None` keeps the order of the zoo, size by
            size.
        epochs: how often every network comes; `None` for ever.
        shard: as in `stream`.
        take: what is made of a batch, in the thread that reads; by default the batch.
        normal: whether normal forms are read.
        device: as in `stream`; what `take` returns has to be arrays then.
        ahead: as in `stream`.
        verify: as in `stream`.

    Raises:
        FileNotFoundError: as `stream`.
        ValueError: as `stream`; if a network fits no size of the ladder; if the bucket
            was written before mixed buckets had normal forms.
    """
    root = Path(root)
    split_code(split)
    index, count = check_shard("stream_mixed", shard, batch_size)
    name, entry = open_bucket(root, bucket, verify)
    what = f"{root}, bucket {name!r}"
    places, plan = _planned(what, entry, split, ladder, batch_size)
    about = {
        "bucket": name,
        "split": split,
        "splits_sha256": split_digest(entry["splits"]),
        "batch_size": batch_size,
        "ladder": [list(vars(size).values()) for size in plan.ladder],
        "seed": seed,
        "epochs": epochs,
    }
    ids = entry["splits"][split]
    if not ids:
        return Stream((), about)
    records = Records(root, entry, split)
    what = f"{what}, split {split!r}"
    check_count(what, ids, len(records))
    load = _Load(places, records, ids, what, normal)
    epoch = functools.lru_cache(maxsize=2)(
        lambda number: plan.epoch(None if seed is None else (seed, number))
    )
    piece = batch_size // count

    def read(number: int) -> Any:
        part = epoch(number // len(plan))[number % len(plan)]
        cut = slice(index * piece, (index + 1) * piece)
        got = load(Rows(part.rows[cut], part.there[cut], part.size))
        return got if take is None else take(got)

    batches = _numbers(len(plan), epochs).map(read)
    return Stream(read_ahead(batches, ahead, device), about)


def _planned(
    what: str,
    entry: dict[str, Any],
    split: str,
    ladder: tuple[PadSize, ...] | None,
    batch_size: int,
) -> tuple[list[nets.Network], Plan]:
    """The networks of a split, and which of them come in which batch."""
    if WHICH not in entry:
        raise ValueError(
            f"{what}: expected mixed architectures with normal forms, as "
            f"zoo.import_zoo writes them, got other networks. Use zoo.stream for one "
            f"architecture, or import again."
        )
    found = [nets.build(config) for config in entry["networks"]]
    which = entry[WHICH]
    if ladder is None:
        # Those of all splits: a predictor is built for one ladder.
        ladder = ladder_of(found[place] for part in which.values() for place in part)
    rungs = [rung_of(network, ladder) for network in found]
    plan = Plan([rungs[place] for place in which[split]], ladder, batch_size)
    return [found[place] for place in which[split]], plan


def _numbers(batches: int, epochs: int | None) -> Any:
    """A grain data set of the numbers of all batches, epoch by epoch."""
    import grain

    return grain.MapDataset.range(_FOR_EVER if epochs is None else batches * epochs)


_FOR_EVER = 1 << 62
"""Batches; at a million a second they last for 100,000 years."""


class _Load:
    """From the rows of a batch to the batch."""

    def __init__(
        self,
        networks: list[nets.Network],
        records: Records,
        ids: list[str],
        what: str,
        normal: bool,
    ) -> None:
        self._networks, self._records = networks, records
        self._ids, self._what, self._normal = ids, what, normal
        self._fields = ("id", "theta", WHICH, "labels")
        if normal:
            self._fields = (*self._fields, *MIXED_FIELDS)

    def __call__(self, part: Rows) -> MixedBatch:
        rows = part.rows.tolist()
        found = self._records.fetch(part.rows, self._fields)
        networks = [self._networks[row] for row in rows]
        for row, got in zip(rows, found["id"].tolist(), strict=True):
            check_id(self._what, self._ids[row], got)
        vectors = [
            vector[: network.spec.num_parameters]
            for vector, network in zip(found["theta"], networks, strict=True)
        ]
        return padded_batch(
            part,
            networks,
            vectors,
            {name: x.astype(np.float32) for name, x in found["labels"].items()},
            from_mixed_records(found, networks) if self._normal else None,
        )
