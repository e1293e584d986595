"""Jobs in processes of their own: started, watched, ended at a moment, run again."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import harness

LIMIT = 300.0
"""Seconds after which a job counts as hanging."""


class Ended(NamedTuple):
    """How a job ended: its exit status, lines of both streams, and seconds."""

    status: int
    out: list[str]
    err: list[str]
    seconds: float

    def told(self) -> Any:
        """Returns the JSON of the last line."""
        return json.loads(self.out[-1])

    def step(self) -> int:
        """Returns the last step that was told; 0 before the first."""
        return last_number(self.out, "step ")


def last_number(lines: list[str], word: str) -> int:
    """Returns the number in the last line that begins with a word, or 0."""
    found = [line.removeprefix(word) for line in lines if line.startswith(word)]
    return int(found[-1]) if found else 0


class Job:
    """A process, with its output in files, so that it never waits for a reader."""

    def __init__(
        self,
        line: list[str],
        work: Path,
        limit: int | None = None,
        environ: Mapping[str, str] = {},
    ) -> None:
        """Starts `python LINE`; no file of it can grow past `limit` bytes."""

        def small() -> None:
            assert limit is not None
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        work.mkdir(parents=True, exist_ok=True)
        self.paths = work / "told.txt", work / "errors.txt"
        self.begun = time.perf_counter()
        with self.paths[0].open("wb") as out, self.paths[1].open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *line],
                cwd=harness.ROOT,
                # Messages are not cut into the lines of a terminal.
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    "COLUMNS": "2000",
                    **environ,
                },
                stdout=out,
                stderr=err,
                preexec_fn=None if limit is None else small,
            )

    def lines(self) -> list[str]:
        """Returns the whole lines that it printed so far."""
        text = self.paths[0].read_text()
        return text[: text.rfind("\n") + 1].splitlines()

    def wait_until(self, true: Callable[[], bool]) -> bool:
        """Returns whether something became true before the process ended."""
        while not true():
            if self.process.poll() is not None:
                return False
            if time.perf_counter() - self.begun > LIMIT:
                raise TimeoutError(f"{self.process.args}: nothing after {LIMIT} s")
            time.sleep(0.001)
        return True

    def end(self, number: signal.Signals | None = None, limit: float = LIMIT) -> Ended:
        """Sends a signal, if one is given, and waits for the end, or kills it."""
        if number is not None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        seconds = time.perf_counter() - self.begun
        out, err = (path.read_text().splitlines() for path in self.paths)
        return Ended(status, out, err, seconds)


class Disk(NamedTuple):
    """A place with little room: `grow` gives it more.

    Attributes:
        place: a folder.
        how: "tmpfs", or "RLIMIT_FSIZE" where nothing can be mounted.
        limit: for `Job`, where no disk is small.
        grow: makes room.
    """

    place: Path
    how: str
    limit: int | None
    grow: Callable[[], None]


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Disk]:
    """A disk of some bytes, mounted; without the right to, files of some bytes."""

    def command(*line: str) -> int:
        return subprocess.run(line, capture_output=True).returncode

    def option(bytes_: int) -> str:
        return f"size={bytes_}"

    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    name = str(place)
    mounted = shutil.which("mount") is not None and not command(
        "mount", "-t", "tmpfs", "-o", option(size), "tmpfs", name
    )
    try:
        if mounted:
            larger = ("mount", "-o", f"remount,{option(2**28)}", name)
            yield Disk(place, "tmpfs", None, lambda: assert_done(command(*larger)))
        else:
            yield Disk(place, "RLIMIT_FSIZE", size, lambda: None)
    finally:
        if mounted:
            assert_done(command("umount", name))
        shutil.rmtree(place, ignore_errors=True)


def assert_done(status: int) -> None:
    """Fails if a command of the system did."""
    assert status == 0, f"a mount ended with {status}"
