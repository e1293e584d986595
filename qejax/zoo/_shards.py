"""The shards of a bucket: which networks each of them holds, and how one is written.

What a shard holds depends on the listing alone, never on the memory that there is, so
that the same networks become the same bytes on every machine.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qejax.zoo._listing import Listing, Problem
from qejax.zoo._manifest import sha256
from qejax.zoo._mixed_normal import LAYERS, mixed_normal_forms
from qejax.zoo._normal import RECORD_FIELDS, WHICH, networks_at_once, normal_forms
from qejax.zoo._zoo import SPLITS, from_vectors

if TYPE_CHECKING:  # TFDS takes a second to import.
    from qejax.zoo._records import Bucket

SHARD_NETWORKS, SHARD_BYTES = 4096, 1 << 25
"""Most networks of a shard, and most bytes of their weights."""

COPIES = 8
"""Of the weights that are being written, in all that is made of them."""


class Part(NamedTuple):
    """One shard of a bucket.

    Attributes:
        split: which split.
        number: of the shard, from 0.
        of: shards of the split.
        rows: of the listing, ascending.
    """

    split: str
    number: int
    of: int
    rows: np.ndarray


class Written(NamedTuple):
    """What became of a part.

    Attributes:
        ids: of the networks that the shard holds, in its order.
        size: bytes of its records.
        sha256: of its file.
        problems: networks that were left out.
    """

    ids: tuple[str, ...]
    size: int
    sha256: str
    problems: tuple[Problem, ...]


def parts_of(listing: Listing) -> list[Part]:
    """Returns the shards of a bucket, split by split."""
    weights = 4 * max(1, listing.width)
    each = max(1, min(SHARD_NETWORKS, SHARD_BYTES // weights))
    parts = []
    for split, code in SPLITS.items():
        rows = np.flatnonzero(listing.split == code)
        cuts = [rows[start : start + each] for start in range(0, len(rows), each)]
        parts += [Part(split, n, len(cuts), cut) for n, cut in enumerate(cuts)]
    return parts


def read_at_once(listing: Listing, memory: int) -> int:
    """Returns how many networks may be in memory together.

    Whole calls of the program of normal forms, at least one.

    Args:
        listing: of the bucket.
        memory: bytes.
    """
    # Those of a mixed bucket are of several programs, whatever their number.
    each = 1 if listing.mixed else networks_at_once(listing.network.spec)
    fit = memory // (4 * COPIES * max(1, listing.width))
    return max(1, fit // each) * each


def write_part(
    bucket: "Bucket", listing: Listing, part: Part, at_once: int
) -> tuple[Path, Written]:
    """Writes a shard, whole or not at all; networks that cannot be used are left out.

    Args:
        bucket: of the shard.
        listing: of the bucket.
        part: of the bucket.
        at_once: most networks in memory.
    """
    path = bucket.shard(part.split, part.number, part.of)
    ids: list[str] = []
    problems: list[Problem] = []
    size = bucket.write(path, _records(listing, part.rows, at_once, ids, problems))
    return path, Written(tuple(ids), size, sha256(path), tuple(problems))


def _records(
    listing: Listing,
    rows: np.ndarray,
    at_once: int,
    ids: list[str],
    problems: list[Problem],
) -> Iterator[dict[str, Any]]:
    """Yields the records of these rows; `ids` and `problems` grow as they are read."""
    sizes = listing.sizes.tolist()
    for start in range(0, len(rows), at_once):
        chunk = rows[start : start + at_once]
        read = listing.read(chunk)
        why = read.problems | {
            at: _infinite(listing, str(listing.ids[chunk[at]]), read.vectors[at])
            for at in np.flatnonzero(~np.isfinite(read.vectors).all(axis=1)).tolist()
        }
        problems += [
            Problem(str(listing.ids[chunk[at]]), why[at]) for at in sorted(why)
        ]
        good = np.setdiff1d(np.arange(len(chunk)), list(why))
        if not len(good):
            continue
        chunk, vectors = chunk[good], read.vectors[good]
        extra = (_exact_mixed if listing.mixed else _exact)(listing, chunk, vectors)
        for at, row in enumerate(chunk.tolist()):
            ids.append(str(listing.ids[row]))
            yield {
                "theta": vectors[at, : sizes[row]],
                **{name: column[at] for name, column in extra.items()},
                "row": row,
                "id": ids[-1],
                "labels": {name: x[row] for name, x in listing.labels.items()},
                "hyper": {name: x[row] for name, x in listing.hyper.items()},
            }


def _exact(listing: Listing, rows: np.ndarray, vectors: np.ndarray) -> dict[str, Any]:
    """The normal forms, which are in records beside the weights."""
    spec = listing.network.spec
    normal = (
        normal_forms(spec, from_vectors(spec, vectors))
        if listing.normal is None
        else listing.normal(rows)
    )
    return {field: getattr(normal, name) for name, field in RECORD_FIELDS.items()}


def _exact_mixed(
    listing: Listing, rows: np.ndarray, vectors: np.ndarray
) -> dict[str, Any]:
    """Likewise, and which architecture a network has."""
    which = listing.places[rows]
    normal = (
        mixed_normal_forms(listing.networks, which, vectors)
        if listing.mixed_normal is None
        else listing.mixed_normal(rows)
    )
    return {
        WHICH: which,
        RECORD_FIELDS["vectors"]: normal.vectors,
        RECORD_FIELDS["statistics"]: normal.statistics,
        LAYERS: [one.reshape(-1) for one in normal.layers],
    }


def _infinite(listing: Listing, name: str, vector: np.ndarray) -> str:
    return (
        f"{listing.source}, network {name!r}: weights should be finite in float32, got "
        f"{np.count_nonzero(~np.isfinite(vector))} values that are not."
    )
