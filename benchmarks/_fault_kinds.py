"""The faults: each is done once, by a random draw, and says what became of the job.

Every function returns a record with `right`: whether all is as promised, and `numbers`:
whether the job, run again to its end, has the bits of the one that nobody touched.
"""

import random
import re
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _fault_jobs as jobs
from benchmarks._fault_processes import Disk, Ended, Job, small_disk
from benchmarks.harness import Record
from benchmarks.kill_import import command as import_command
from benchmarks.kill_import import digests
from qejax.train import CheckpointError, CheckpointWarning

PART = ".orbax-checkpoint-tmp"
BOUND = 2 * jobs.EVAL_EVERY
"""Steps that a kill may cost where every dispatch is followed by a save: those since
the newest save began, and, if it was still being written, those since the one before.
"""
STOPPED = re.compile(
    r"Stopped by (?P<by>.*) after step (?P<step>\d+) of \d+; the state is saved in "
    r".*/ckpt\. Run the same command again to go on from there\."
)
NO_ROOM = re.compile(r"expected room on the disk, got .* Make room and run")


@dataclass(frozen=True)
class Kind:
    """A job that can be killed.

    Attributes:
        line: its command line, given where it writes.
        word: begins the lines in which it tells how far it is.
        result: what has to be the same, given where it wrote and how it ended.
    """

    line: Callable[[Path], list[str]]
    word: str
    result: Callable[[Path, Ended], Any]


def job_line(*line: str) -> list[str]:
    """Returns the command line of a job."""
    return ["-m", "benchmarks._fault_jobs", *line]


def numbers(told: dict[str, Any]) -> Any:
    """Returns what a training run came to; where it went on from is no part of it."""
    return {name: told[name] for name in ("step", "params", "best", "log")}


def kinds(source: Path) -> dict[str, Kind]:
    """Returns the jobs; an import reads the public zoo `source`."""

    def zoo(out: Path, ended: Ended) -> Any:
        del ended
        assert not list(out.parent.glob(f"{out.name}.*")), "something is left behind"
        return digests(out)

    return {
        "training": Kind(
            lambda out: job_line("train", str(out), "--pause", "0.02"),
            "step ",
            lambda out, ended: numbers(ended.told()),
        ),
        "generating": Kind(
            lambda out: job_line("generate", str(out)), "networks ", zoo
        ),
        "importing": Kind(lambda out: import_command(source, out)[1:], "", zoo),
    }


def whole(kind: Kind, work: Path) -> tuple[Any, Ended]:
    """Returns the result of a job that nobody touches, and how it ended."""
    ended = Job(kind.line(work / "out"), work).end()
    assert ended.status == 0, "\n".join(ended.err)
    return kind.result(work / "out", ended), ended


def again(kind: Kind, out: Path, work: Path, want: Any) -> Record:
    """Runs a job again, to its end."""
    ended = Job(kind.line(out), work).end()
    if ended.status:
        return {"numbers": False, "error": ended.err[-3:]}
    found: Record = {"numbers": kind.result(out, ended) == want}
    if kind.word == "step ":
        found["resumed_from"] = ended.told()["resumed_from"] or 0
    return found


def newest(out: Path) -> int:
    """Returns the step of the newest checkpoint that is whole; 0 if there is none."""
    found = [int(path.name) for path in (out / "ckpt").glob("*") if path.name.isdigit()]
    return max(found, default=0)


def killed(
    kind: Kind, work: Path, want: Any, before: Ended, draw: random.Random, saving: bool
) -> Record:
    """SIGKILL at a random moment, or while a checkpoint is being written."""
    out = work / "out"
    told = sum(line.startswith(kind.word) for line in before.out) if kind.word else 0
    job = Job(kind.line(out), work)
    lines = draw.randrange(told - 1) if told else 0
    gap = before.seconds / (told + 4) if told else before.seconds * 0.95

    def parts() -> list[Path]:
        return list((out / "ckpt").glob(f"*{PART}"))

    def pieces() -> int:
        """Chunks or shards of an unfinished zoo that are there."""
        files = work.glob("out.partial/**/*")
        return sum(
            path.match("*.npz") or path.match("receipts/*.json") for path in files
        )

    job.wait_until(lambda: len(job.lines()) >= lines)
    if not told and (wanted := draw.randrange(3)):
        # Most of an import is its start: two kills of three come after it.
        lines, gap = wanted, 0.5
        job.wait_until(lambda: pieces() >= wanted)
    if saving:
        job.wait_until(lambda: bool(parts()))
        gap = 0.03
    wait_until = job.begun if not lines and not saving else None
    after = draw.uniform(0, gap)
    sleep(job, after, wait_until)
    ended = job.end(signal.SIGKILL)
    record: Record = {
        "status": ended.status,
        "lines": len(ended.out),
        "part_left": bool(parts()),
        "pieces": pieces(),
    }
    if kind.word == "step ":
        record |= {"step": ended.step(), "newest": newest(out)}
    record |= again(kind, out, work, want)
    record["right"] = record["numbers"] and ended.status == -signal.SIGKILL
    if kind.word == "step " and "resumed_from" in record:
        record["lost"] = max(0, record["step"] - record["resumed_from"])
        exact = record["resumed_from"] == record["newest"]
        record["right"] &= exact and record["lost"] <= BOUND
    return record


def sleep(job: Job, seconds: float, begun: float | None) -> None:
    """Waits so long, but not longer than the process lives."""
    until = (time.perf_counter() if begun is None else begun) + seconds
    job.wait_until(lambda: time.perf_counter() >= until)


def terminated(
    kind: Kind, work: Path, want: Any, before: Ended, draw: random.Random
) -> Record:
    """SIGTERM to a training run: it saves, says what to do, and loses no step."""
    out = work / "out"
    job = Job(kind.line(out), work)
    lines = draw.randrange(1, len(before.out) - 4)
    job.wait_until(lambda: len(job.lines()) >= lines)
    ended = job.end(signal.SIGTERM)
    said = STOPPED.fullmatch(ended.err[-1] if ended.err else "")
    record: Record = {"status": ended.status, "step": ended.step()}
    record["said"] = said is not None and said["by"] == "SIGTERM"
    record["said"] &= not any("Traceback" in one for one in ended.err)
    record["also_said"] = [line[:200] for line in ended.err[:-1]]
    record |= again(kind, out, work, want)
    if said and "resumed_from" in record:
        record["lost"] = max(int(said["step"]), ended.step()) - record["resumed_from"]
    record["right"] = (
        record["numbers"]
        and ended.status == 1
        and record["said"]
        and record.get("lost") == 0
    )
    return record


class Stop(Exception):
    """Ends a run in the middle."""


def stopped_run(out: Path, step: int) -> None:
    """Leaves a run with two checkpoints."""

    def tell(now: int) -> None:
        if now >= step:
            raise Stop

    try:
        jobs.train(out, tell=tell)
    except Stop:
        return
    raise AssertionError("the run was not stopped")


def flipped(base: Path, work: Path, want: Any, draw: random.Random, every: bool) -> Any:
    """A byte is changed in the newer checkpoint of two, or in each."""
    out = work / "out"
    shutil.copytree(base, out)
    steps = sorted((out / "ckpt").glob("*"), key=lambda path: int(path.name))
    record: Record = {"every": every, "files": []}
    for step in steps if every else steps[-1:]:
        files = sorted(f for f in step.rglob("*") if f.is_file() and f.stat().st_size)
        if every:
            files = [max(files, key=lambda f: f.stat().st_size)]
        record["files"].append(flip(draw.choice(files), draw).relative_to(out).parts)
    record["files"] = ["/".join(parts) for parts in record["files"]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            told = jobs.train(out)
        except CheckpointError as error:
            outcome, text = "refused", str(error)
            named = f"delete {out.resolve() / 'ckpt'} to begin again" in text
            shutil.rmtree(out / "ckpt")
            told = jobs.train(out)
        else:
            said = [w for w in caught if issubclass(w.category, CheckpointWarning)]
            outcome = "older used" if said else "not read"
            aside = list((out / "ckpt").glob("*.damaged"))
            named = len(said) == len(aside) and all(
                f"{path.with_suffix('').resolve()} is damaged" in str(one.message)
                for one, path in zip(said, aside, strict=False)
            )
    record |= {"outcome": outcome, "resumed_from": told["resumed_from"]}
    record |= {"said": named, "numbers": numbers(told) == want}
    record["right"] = named and record["numbers"]
    return record


def flip(path: Path, draw: random.Random) -> Path:
    """Changes one byte of a file."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
    path.write_bytes(content)
    return path


def filled(kind: Kind, work: Path, want: Any, size: int) -> Record:
    """The disk is full: the job says where and what to do, and goes on with room."""

    def run(disk: Disk) -> Record:
        out = disk.place / "out"
        ended = Job(kind.line(out), work, disk.limit).end()
        text = " ".join([*ended.out[-12:], *ended.err[-3:]])
        said = NO_ROOM.search(text)
        named = f"{disk.place.resolve()}/" in text
        record: Record = {"size": size, "how": disk.how, "status": ended.status}
        record |= {"said": bool(said) and named, "step": ended.step()}
        disk.grow()
        record |= again(kind, out, work, want)
        record["right"] = record["numbers"] and record["said"] and ended.status != 0
        return record

    with small_disk(work / "disk", size) as disk:
        return run(disk)
