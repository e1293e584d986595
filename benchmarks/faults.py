"""Is anything lost, or any number wrong, after kills, flipped bytes and a full disk?

Real jobs in processes of their own meet faults that are drawn from one seed; each is
then run again to its end, and has to have the bits of one that nobody touched:

- SIGKILL at a random moment of training, of the writing of a checkpoint, of generating
  a zoo and of importing one;
- SIGTERM to training: exit status 1, a message, and not one step lost;
- a byte changed in a random file of the newest checkpoint, and in each of them;
- a disk without room (a small tmpfs; without the right to mount one, a limit on the
  size of files) for each job, and then with room;
- SIGKILL while a predictor is saved over an older one: the folder is one of both;
- two processes that train together: one killed, the first or the second, one asked to
  stop by SIGTERM, and the disk that both write to full.

Training saves after every dispatch, at most 20 steps. What a kill costs is counted
against the steps that were told: it goes on from the newest checkpoint that is whole,
so at most what came since then; that is an interval, or two where it hit the writing of
a checkpoint: how often it was more than one is counted. Ends with status 1 if anything
is not as promised.

    python -m benchmarks.faults [--kills 30] [--saves 6] [--terms 10] [--flips 10]
        [--peers 4] [--work DIR]
"""

import argparse
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import _fault_jobs as jobs
from benchmarks import _fault_kinds as faults
from benchmarks import _fault_peers as peers
from benchmarks import _fault_saves as saves
from benchmarks import harness
from benchmarks.bench_import import public_zoo
from benchmarks.harness import Record

QUESTION = str(__doc__).splitlines()[0]
NETWORKS = 400
SHARES = {"training": 1 / 3, "saving": 1 / 3, "generating": 1 / 6, "importing": 1 / 6}
"""Of the kills."""
DISKS = {
    "training": (2_000_000, 7_000_000, 11_000_000),
    "generating": (64_000, 300_000),
    "importing": (900_000,),
}
"""Bytes: for no checkpoint, one and two; for some chunks and all; for some shards."""
PEER_DISKS = (2_000_000, 7_000_000)
"""Likewise, for two processes."""
Fault = tuple[str, Callable[[], Record]]


def planned(args: argparse.Namespace) -> Iterator[Fault]:
    """Yields every fault by the name of its row, ready to be done."""
    draw = random.Random(args.seed)
    place = args.work / "job"
    if args.kills or args.terms or args.flips or args.disks:
        yield from planned_for_one(args, place, draw)
    if args.saves:
        yield from planned_saves(args, place, draw)
    if args.peers:
        yield from planned_for_two(args, place, draw)


def planned_for_one(
    args: argparse.Namespace, place: Path, draw: random.Random
) -> Iterator[Fault]:
    """Yields the faults of a process alone that trains, makes or imports a zoo."""
    source, _ = public_zoo(args.work, NETWORKS)
    kinds = faults.kinds(source.resolve())
    want: dict[str, Any] = {}
    ends: dict[str, Any] = {}
    for name, kind in kinds.items():
        want[name], ends[name] = faults.whole(kind, emptied(args.work / name))

    for row, share in SHARES.items():
        name = "training" if row == "saving" else row

        def kill(name: str = name, saving: bool = row == "saving") -> Record:
            before = want[name], ends[name]
            found = faults.killed(kinds[name], emptied(place), *before, draw, saving)
            # Where the moment had gone before it came, another one is drawn.
            late = not found["status"]
            late |= saving and found["right"] and not found["part_left"]
            return kill(name, saving) if late else found

        for _ in range(round(args.kills * share)):
            yield f"SIGKILL while {row}", kill
    for _ in range(args.terms):
        yield (
            "SIGTERM while training",
            lambda: faults.terminated(
                kinds["training"],
                emptied(place),
                want["training"],
                ends["training"],
                draw,
            ),
        )
    base = emptied(args.work / "base") / "out"
    faults.stopped_run(base, 220)
    for number in range(args.flips + args.flips // 3):
        every = number >= args.flips
        row = "a byte of every checkpoint" if every else "a byte of a checkpoint"
        yield (
            row,
            lambda every=every: faults.flipped(
                base, emptied(place), want["training"], draw, every
            ),
        )
    for name, sizes in DISKS.items() if args.disks else ():
        for size in sizes:
            yield (
                f"a full disk while {name}",
                lambda name=name, size=size: faults.filled(
                    kinds[name], emptied(place), want[name], size
                ),
            )


def planned_saves(
    args: argparse.Namespace, place: Path, draw: random.Random
) -> Iterator[Fault]:
    """Yields the kills of the saving of a predictor."""
    before = saves.untouched(emptied(args.work / "saves"))

    def kill() -> Record:
        found = saves.killed_save(emptied(place), before, draw)
        # As above: where it had ended, another moment is drawn.
        return found if found["status"] else kill()

    for _ in range(args.saves):
        yield "SIGKILL while saving a predictor", kill


def planned_for_two(
    args: argparse.Namespace, place: Path, draw: random.Random
) -> Iterator[Fault]:
    """Yields the faults of two processes that train together."""
    both = peers.together(emptied(args.work / "both"))
    for name, fault, count in (
        ("a process of two killed", peers.without_peer, 2),
        ("SIGTERM to one of two processes", peers.one_terminated, args.peers),
    ):
        for number in range(count):
            yield (
                name,
                lambda fault=fault, victim=number % 2: fault(
                    emptied(place), both, draw, victim
                ),
            )
    for size in PEER_DISKS:
        yield (
            "a full disk under two processes",
            lambda size=size: peers.filled_together(emptied(place), both, size),
        )


def emptied(folder: Path) -> Path:
    """Returns a folder with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def counted(runs: dict[str, list[Record]]) -> dict[str, Record]:
    """Returns a row for each kind of fault: how many, how many right, steps lost."""
    rows: dict[str, Record] = {}
    for name, records in runs.items():
        lost = [one["lost"] for one in records if "lost" in one]
        rows[name] = {
            "faults": len(records),
            "as_promised": sum(bool(one["right"]) for one in records),
            "same_bits": sum(bool(one["numbers"]) for one in records),
            "most_steps_lost": max(lost, default=None),
        }
        if lost:
            rows[name]["over_one_interval"] = sum(n > jobs.EVAL_EVERY for n in lost)
        said = [one["said"] for one in records if "said" in one]
        if said:
            rows[name]["said_what_to_do"] = sum(map(bool, said))
        pieces = [one.get("pieces", 0) for one in records]
        if any(pieces):
            rows[name]["with_pieces_done"] = sum(map(bool, pieces))
        outcomes = [one["outcome"] for one in records if "outcome" in one]
        if outcomes:
            found = sorted(set(outcomes))
            rows[name]["outcomes"] = {one: outcomes.count(one) for one in found}
    return rows


def table(rows: dict[str, Record]) -> str:
    """Returns the rows as text."""
    head = ("faults", "as_promised", "same_bits", "said_what_to_do")
    head += ("most_steps_lost", "over_one_interval")
    lines = [f"{'':32}" + "".join(f"{name:>18}" for name in head)]
    for name, row in rows.items():
        shown = ["-" if row.get(one) is None else str(row[one]) for one in head]
        lines.append(f"{name:32}" + "".join(f"{one:>18}" for one in shown))
    return "\n".join(lines)


def main() -> int:
    """Does all faults, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--terms", type=int, default=10)
    parser.add_argument("--flips", type=int, default=10)
    parser.add_argument("--disks", type=int, default=1, help="0 for none")
    parser.add_argument("--saves", type=int, default=6)
    parser.add_argument("--peers", type=int, default=4, help="SIGTERMs; 0: no pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/faults"))
    parser.add_argument("--out", type=Path, default=harness.RESULTS)
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    stamp, start = harness.stamp(), time.perf_counter()
    runs: dict[str, list[Record]] = {}
    for name, fault in planned(args):
        record = fault()
        runs.setdefault(name, []).append(record)
        print(f"{time.perf_counter() - start:6.0f} s  {name}: {record}", flush=True)
    rows = counted(runs)
    right = all(row["as_promised"] == row["faults"] for row in rows.values())
    print(table(rows))
    record = {
        "question": QUESTION,
        "stamp": stamp,
        "seed": args.seed,
        "checkpoint_interval_steps": jobs.EVAL_EVERY,
        "most_steps_that_may_be_lost": faults.BOUND,
        "seconds": time.perf_counter() - start,
        "all_as_promised": right,
        "rows": rows,
        "runs": runs,
    }
    harness.save("faults", record, args.out)
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
