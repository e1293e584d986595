"""The faults of two processes that train together, done to one of them or to both."""

import random
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks._fault_kinds import (
    BOUND,
    NO_ROOM,
    STOPPED,
    job_line,
    newest,
    numbers,
)
from benchmarks._fault_processes import Ended, Job, last_number, small_disk
from benchmarks.harness import Record
from tests import processes

LIMIT = 90.0
"""Seconds after a fault in which both have to end; heartbeats are 10 s."""
AGAIN = "Start all of them again with the same command"


def started(
    work: Path, out: Path, pause: str = "0", limit: int | None = None
) -> list[Job]:
    """Starts two processes that write to one folder."""
    line = job_line("train", str(out), "--processes", "--pause", pause)
    return [
        Job(line, work / f"process_{index}", limit, environ)
        for index, environ in enumerate(processes.environs(2))
    ]


def together(work: Path) -> Any:
    """Returns the numbers of two processes that nobody touches."""
    first, second = (job.end() for job in started(work, work / "out"))
    assert first.status == second.status == 0, "\n".join(first.err + second.err)
    return numbers(first.told())


def again(work: Path, out: Path, want: Any) -> Record:
    """Runs both again, to their end."""
    ends = [job.end() for job in started(work / "again", out)]
    if any(ended.status for ended in ends):
        return {"numbers": False, "error": [ended.err[-3:] for ended in ends]}
    first, second = (ended.told() for ended in ends)
    same = numbers(first) == want and second["params"] == want["params"]
    return {"numbers": same, "resumed_from": first["resumed_from"] or 0}


def _reach(job: Job, step: int) -> None:
    job.wait_until(lambda: last_number(job.lines(), "step ") >= step)


def without_peer(work: Path, want: Any, draw: random.Random, victim: int) -> Record:
    """One of two processes is killed: the other ends, and both go on together."""
    out = work / "out"
    both = started(work, out, "0.1")
    step = draw.randrange(60, 300)
    _reach(both[victim], step)
    other = both[1 - victim]
    # What every process prints at its beginning tells nothing of this end.
    before = [len(path.read_text()) for path in other.paths]
    dead = both[victim].end(signal.SIGKILL)
    ended = other.end(limit=LIMIT)
    # The last word comes from a shell that outlives the process.
    time.sleep(1)
    after = [p.read_text()[n:] for p, n in zip(other.paths, before, strict=True)]
    step = max(dead.step(), ended.step())
    record: Record = {"victim": victim, "status": ended.status, "step": step}
    record |= {"newest": newest(out), "said": any(AGAIN in text for text in after)}
    lines = "\n".join(after).replace(f"{harness.ROOT}/", "").splitlines()
    record["last_lines"] = [line[:300] for line in lines[-3:]]
    record |= again(work, out, want)
    record["right"] = (
        record["numbers"]
        and record["said"]
        and ended.status not in (0, -signal.SIGKILL)
    )
    if "resumed_from" in record:
        record["lost"] = max(0, step - record["resumed_from"])
        exact = record["resumed_from"] == record["newest"]
        record["right"] &= exact and record["lost"] <= BOUND
    return record


def one_terminated(work: Path, want: Any, draw: random.Random, victim: int) -> Record:
    """SIGTERM to one of two: both save, say what to do, and lose no step."""
    out = work / "out"
    both = started(work, out, "0.05")
    step = draw.randrange(1, 380)
    _reach(both[victim], step)
    both[victim].process.send_signal(signal.SIGTERM)
    ends = [job.end(limit=LIMIT) for job in both]
    found = [_stopped(ended) for ended in ends]
    wanted = ["a signal to another process"] * 2
    wanted[victim] = "SIGTERM"
    record: Record = {"victim": victim, "status": [ended.status for ended in ends]}
    record |= {"step": max(ended.step() for ended in ends), "stopped": found}
    record["said"] = (
        [by for by, _ in found] == wanted
        and found[0][1] == found[1][1]
        and not any("Traceback" in line for ended in ends for line in ended.err)
    )
    record |= again(work, out, want)
    if "resumed_from" in record:
        last = max(record["step"], *(step for _, step in found))
        record["lost"] = last - record["resumed_from"]
    record["right"] = (
        record["numbers"]
        and record["said"]
        and record["status"] == [1, 1]
        and record.get("lost") == 0
    )
    return record


def _stopped(ended: Ended) -> tuple[str, int]:
    """Returns by what a process says that it was stopped, and after which step."""
    lines = [found for line in ended.err if (found := STOPPED.fullmatch(line))]
    return (lines[-1]["by"], int(lines[-1]["step"])) if lines else ("", 0)


def filled_together(work: Path, want: Any, size: int) -> Record:
    """The disk is full: both end, both say where and what to do; with room, on."""
    with small_disk(work / "disk", size) as disk:
        out = disk.place / "out"
        both = started(work, out, "0.02", disk.limit)
        ends = [job.end(limit=LIMIT) for job in both]
        texts = [" ".join(ended.err[-3:]) for ended in ends]
        said = [
            NO_ROOM.search(text) is not None and f"{out.resolve()}/" in text
            for text in texts
        ]
        record: Record = {"size": size, "how": disk.how}
        record |= {"status": [ended.status for ended in ends], "said": all(said)}
        record |= {"step": ends[0].step(), "peer_error": "PeerError" in texts[1]}
        record["seconds"] = max(ended.seconds for ended in ends)
        disk.grow()
        record |= again(work, out, want)
    record["right"] = (
        record["numbers"] and record["said"] and record["status"] == [1, 1]
    )
    return record
