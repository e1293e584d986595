"""Making a prepared zoo of what a directory holds, shard by shard, resumable.

While it is being made, a zoo lives in `OUT.partial`: finished shards where they will
stay, and beside them a receipt for each. The same call goes on where an interrupted one
stopped, to the same bytes. `OUT` appears when everything is there.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qejax._disk import room
from qejax._processes import on_first, wait_for_all
from qejax.zoo._config import check_bucket_name
from qejax.zoo._listing import Found, Listing, Problem, named
from qejax.zoo._manifest import sha256, versions, write_manifest
from qejax.zoo._parts import begin, found_before, partial_of, sweep
from qejax.zoo._prepared import RUN
from qejax.zoo._shards import Part, Written, parts_of, read_at_once, write_part
from qejax.zoo._splits import split_digest
from qejax.zoo._store import MEMORY, describe_bucket
from qejax.zoo._workers import is_own

MOST_PROBLEMS = 100
"""Networks that a bucket's entry names among those that were left out."""


class ImportProgress(NamedTuple):
    """Where an import stands; of many processes, the share of this one.

    Attributes:
        bucket: of the last shard.
        networks: read so far, those of an earlier call and those left out included.
        num_networks: in all.
        left_out: so far.
        size: bytes of the weights that were read so far.
        resumed: whether the last shard was found on disk.
    """

    bucket: str
    networks: int
    num_networks: int
    left_out: int
    size: int
    resumed: bool


def import_zoo(
    found: Found,
    out: str | Path,
    recipe: dict[str, Any],
    *,
    files: Iterable[Path] = (),
    memory: int = MEMORY,
    progress: Callable[[ImportProgress], None] | None = None,
) -> Path:
    """Makes a prepared zoo of listed networks in the folder `out`, or finds it there.

    Weights are read and written some networks at a time, with their normal forms and
    statistics. Networks that cannot be used (a damaged file, weights that are not
    finite) are left out: counted and named in the manifest with what is wrong. Splits
    are decided before anything is read, so they do not depend on what is damaged.

    Killed at any moment, the same call goes on and ends with the same bytes. Bytes do
    not depend on `memory`.

    Args:
        found: what is imported; see `formats.list_networks`.
        out: the folder; read it with `read` or `stream`.
        recipe: where it comes from, of JSON types; written into the manifest.
        files: that the networks are read from. If their names, sizes or times change
            before the zoo is finished, it is not gone on with; if what is in them does
            afterwards, the zoo is another one.
        memory: bytes for weights and what is made of them; what lists the networks
            (ids, labels, hyper-parameters: about 1 kB each) comes on top.
        progress: called after every shard.

    Returns:
        `out`, as a path. Entries of its buckets have, beside those of `store`: `split`
        (the protocol, and the SHA-256 of all ids with their splits, see
        `split_digest`), `left_out` (count) and `problems` (the first of them).

    Raises:
        ValueError: if there is no network that can be used; if a training run is in two
            splits; if `out` or its unfinished form are of something else; says what.
        FileExistsError: if `out` holds something that is no zoo, or is inside of one.
        NotADirectoryError: if `out`, or what it is in, is a file.
    """
    out = Path(out)
    for name in found.listings:
        check_bucket_name(name, f"{out}, buckets")
    check_runs(found)
    found = found._replace(
        listings={name: _with_runs(one) for name, one in found.listings.items()}
    )
    files = sorted(files)
    recipe = json.loads(json.dumps(recipe))  # as it is read again: no tuples
    recipe |= {
        "protocol": found.protocol,
        "listing_sha256": listing_digest(found),
        "contents_sha256": _contents_digest(files),
    }
    partial = partial_of(out)
    if on_first(lambda: _begun(out, recipe, files)):
        return out
    total = sum(map(len, found.listings.values()))
    own = sum(
        len(part.rows)
        for listing in found.listings.values()
        for number, part in enumerate(parts_of(listing))
        if is_own(number)
    )
    work = _Work(partial, own, memory, progress)
    buckets = {}
    for name, listing in found.listings.items():
        entry = work.bucket(name, listing, found.protocol)
        if entry is not None:
            buckets[name] = entry
    if not buckets:
        first = [*found.problems, *work.problems][0]
        raise ValueError(
            f"{out}: expected at least one network that can be used, got {total} of "
            f"which none can. {first.why} Inspect the directory first."
        )
    wait_for_all()  # nobody reads receipts any more
    on_first(lambda: _finish(partial, out, recipe, buckets, found.problems))
    return out


def _begun(out: Path, recipe: dict[str, Any], files: Sequence[Path]) -> bool:
    """Returns whether the zoo is there; else its unfinished form is."""
    if found_before(out, recipe):
        return True
    partial = partial_of(out)
    begin(partial, recipe | {"files_sha256": _files_digest(files)})
    for left in (partial / ZOO).rglob("*.draft-*"):
        left.unlink()  # of a write that was killed
    return False


def _finish(
    partial: Path,
    out: Path,
    recipe: dict[str, Any],
    buckets: dict[str, Any],
    problems: tuple[Problem, ...],
) -> None:
    """Writes the manifest, and gives the zoo its name."""
    unlisted = {
        "count": len(problems),
        "problems": [list(problem) for problem in problems[:MOST_PROBLEMS]],
    }
    config = recipe | {"not_listed": unlisted}
    body = {"config": config, "versions": versions(), "buckets": buckets}
    write_manifest(partial / ZOO, body)
    if out.is_dir():
        out.rmdir()  # it is empty
    os.replace(partial / ZOO, out)
    sweep(out)


ZOO, RECEIPTS = "zoo", "receipts"
"""In the folder of an unfinished zoo: what becomes the zoo, and what is done."""


class _Work:
    """Writes buckets, or finds what an earlier call has written of them."""

    def __init__(
        self,
        partial: Path,
        total: int,
        memory: int,
        progress: Callable[[ImportProgress], None] | None,
    ) -> None:
        self.partial, self.memory, self.progress = partial, memory, progress
        self.problems: list[Problem] = []
        self.total, self.networks, self.size = total, 0, 0

    def bucket(
        self, name: str, listing: Listing, protocol: str
    ) -> dict[str, Any] | None:
        """Returns the entry of a bucket; `None` if no network of it can be used."""
        # TFDS takes a second to import.
        from qejax.zoo._records import Bucket

        root = self.partial / ZOO
        spec = None if listing.mixed else listing.network.spec
        bucket = Bucket(root, name, spec, listing.labels, listing.hyper)
        written: list[tuple[Part, Written]] = []
        before = len(self.problems)
        parts = parts_of(listing)
        for number, part in enumerate(parts):
            if not is_own(number):
                continue
            one, resumed = self._part(bucket, name, listing, part)
            self.problems += one.problems
            self._tell(name, listing, part, resumed)
        wait_for_all()
        for part in parts:
            one = _receipt(self._receipt_path(name, part))
            if one is None:
                raise ValueError(
                    f"{self._receipt_path(name, part)}: expected the receipt of a "
                    f"shard that was just written, found none. Use storage that all "
                    f"processes share, and import again."
                )
            written.append((part, one))
        self.problems = self.problems[:before]
        self.problems += [problem for _, one in written for problem in one.problems]
        problems = self.problems[before:]
        if not any(one.ids for _, one in written):
            return None
        entry = on_first(lambda: describe_bucket(root, bucket, listing, written))
        return entry | {
            "split": {"protocol": protocol, "sha256": split_digest(entry["splits"])},
            "left_out": len(problems),
            "problems": [list(problem) for problem in problems[:MOST_PROBLEMS]],
        }

    def _part(
        self, bucket: Any, name: str, listing: Listing, part: Part
    ) -> tuple[Written, bool]:
        path = bucket.shard(part.split, part.number, part.of)
        receipt = self._receipt_path(name, part)
        found = _receipt(receipt)
        if found is not None and path.is_file() and sha256(path) == found.sha256:
            return found, True
        at_once = read_at_once(listing, self.memory)
        _, one = write_part(bucket, listing, part, at_once)
        draft = receipt.with_suffix(f".draft-{os.getpid()}")
        with room(receipt):
            receipt.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(one._asdict()))
        os.replace(draft, receipt)
        return one, False

    def _receipt_path(self, name: str, part: Part) -> Path:
        return self.partial / RECEIPTS / f"{name}-{part.split}-{part.number:05d}.json"

    def _tell(self, name: str, listing: Listing, part: Part, resumed: bool) -> None:
        self.networks += len(part.rows)
        self.size += 4 * int(listing.sizes[part.rows].sum())
        if self.progress is not None:
            left = len(self.problems)
            self.progress(
                ImportProgress(
                    name, self.networks, self.total, left, self.size, resumed
                )
            )


def _receipt(path: Path) -> Written | None:
    """What was written; `None` if nothing was, or nobody can tell any more."""
    try:
        found = Written(**json.loads(path.read_text()))
        return Written(
            tuple(found.ids),
            int(found.size),
            str(found.sha256),
            tuple(Problem(*problem) for problem in found.problems),
        )
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _with_runs(listing: Listing) -> Listing:
    """The listing with its runs among the columns that are stored, if they say more."""
    if np.array_equal(listing.runs, listing.ids):
        return listing
    return replace(listing, hyper={**listing.hyper, RUN: listing.runs})


def check_runs(found: Found) -> None:
    """Raises unless all networks of a training run are in one split, in any bucket.

    Raises:
        ValueError: names a run that is in two splits.
    """
    first: dict[str, int] = {}
    for name, one in found.listings.items():
        for run, code in zip(one.runs.tolist(), one.split.tolist(), strict=True):
            if first.setdefault(run, code) != code:
                raise ValueError(
                    f"{one.source}, bucket {name!r}: every training run should be in "
                    f"one split, got run {run!r} in two. Take one checkpoint of a run, "
                    f"or the protocol 'clean'."
                )


def listing_digest(found: Found) -> str:
    """Returns the SHA-256 of everything that a directory's listing says."""
    total = hashlib.sha256()
    for name, one in sorted(found.listings.items()):
        configs = [network.config.to_dict() for network in one.networks]
        config = json.dumps([name, *configs], sort_keys=True)
        total.update(config.encode())
        columns = {"ids": one.ids, "runs": one.runs, "split": one.split}
        columns |= {"which": one.places} if one.mixed else {}
        columns |= {f"labels/{key}": x for key, x in one.labels.items()}
        columns |= {f"hyper/{key}": x for key, x in one.hyper.items()}
        for key, column in sorted(columns.items()):
            total.update(f"{key}:{column.dtype.str}:".encode())
            total.update(np.ascontiguousarray(column).tobytes())
    total.update(named(problem.name for problem in found.problems).encode())
    return total.hexdigest()


def _contents_digest(files: Sequence[Path]) -> str:
    """The SHA-256 of all that is in the files; their names are in the listing.

    Reading is cheap beside importing, and tells networks that were trained again.
    """
    total = hashlib.sha256()
    for path in files:
        try:
            total.update(sha256(path).encode())
        except OSError:  # its network is one of those that cannot be used
            total.update(b"cannot be read")
    return total.hexdigest()


def _files_digest(files: Iterable[Path]) -> str:
    """The SHA-256 of names, sizes and times: cheap, however large the files are."""
    total = hashlib.sha256()
    for path in sorted(files):
        about = path.stat()
        total.update(f"{path}:{about.st_size}:{about.st_mtime_ns}\n".encode())
    return total.hexdigest()
