"""One damaged zoo, read as a user would: what came of it, and what it touched."""

import os
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._fuzz_mutators import MUTATORS
from benchmarks._fuzz_seeds import OF_OTHERS
from qejax import zoo
from qejax.zoo import files, formats

Reader = Callable[[Path], Any]
CLEAR = (ValueError, FileNotFoundError, FileExistsError)
FOREIGN = ("<string>", "<unknown>", "<pickle>")
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")
NEVER = (*RUNS, "pickle.find_class", "socket.connect", "os.spawn", "marshal.loads")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Hears what the interpreter does while `on`, from when it is made."""

    def __init__(self, allowed: Path) -> None:
        self.allowed, self.on = str(allowed), False
        self.heard: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in NEVER:
            self.heard.append(f"{event} {args!r}"[:200])
        elif event == "exec" and args[0].co_filename in FOREIGN:
            self.heard.append(f"exec {args[0]!r}"[:200])
        elif event == "open" and isinstance(args[2], int) and args[2] & WRITES:
            if not str(args[0]).startswith(self.allowed) and args[0] != os.devnull:
                self.heard.append(f"open for writing {args[0]!r}"[:200])


def read_format(name: str, folder: Path, out: Path | None) -> None:
    """Lists a zoo, reads all weights and, with `out`, imports it."""
    address = f"{name}:{folder}"
    found = formats.list_networks(address)
    for listing in found.listings.values():
        listing.read(np.arange(len(listing)))
    if out is not None:
        zoo.import_zoo(found, out, {"from": name}, files=formats.files_of(address))


def read_files(folder: Path, out: Path | None) -> None:
    """Reads every file with every reader that its name asks for, whatever fails."""
    del out
    first: Exception | None = None
    for path in sorted(folder.rglob("*")):
        known = files.kind_of(path)
        read: Reader | None = files.read_file if known else None
        if path.suffix == ".pickle":
            read = files.read_pickle
        try:
            if read is not None:
                read(path)
        except CLEAR as error:
            first = first or error
    if first is not None:
        raise first


def read_prepared(folder: Path, out: Path | None) -> None:
    """Reads and streams a prepared zoo, checksums compared, and then not."""
    first: Exception | None = None
    for verify in (True, False):
        try:
            found = zoo.list_prepared(folder, verify=verify)
            for name, listing in found.listings.items():
                listing.read(np.arange(len(listing)))
                zoo.read(folder, name, verify=verify)
                if out is not None:
                    list(zoo.stream(folder, "train", 2, bucket=name, verify=verify))
        except CLEAR as error:
            first = first or error
    if first is not None:
        raise first


def reader_of(seed: str) -> Callable[[Path, Path | None], None]:
    """Returns what reads a zoo of a seed."""
    special = {"files": read_files, "prepared": read_prepared}
    name = seed.removesuffix(OF_OTHERS)
    return special.get(seed, lambda folder, out: read_format(name, folder, out))


def damage(
    seeds: Mapping[str, Path], sandbox: Path, number: int, seed: int
) -> tuple[str, str]:
    """Makes `sandbox/case` of a seed with one file damaged, the same in every call.

    Returns:
        The names of seed and mutator.
    """
    rng = np.random.default_rng((seed, number))
    name = list(seeds)[number % len(seeds)]
    mutator = list(MUTATORS)[(number // len(seeds)) % len(MUTATORS)]
    case = sandbox / "case"
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(seeds[name], case)
    paths = sorted(path for path in case.rglob("*") if path.is_file())
    path = paths[int(rng.integers(len(paths)))]
    MUTATORS[mutator](path, rng, sandbox / "sentinel")
    return name, mutator


def snapshot(sandbox: Path) -> dict[str, tuple[int, int]]:
    """Returns all that is in a sandbox, but for the case and what it may write."""
    free = (sandbox / "case", sandbox / "out")
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for top in sorted(sandbox.iterdir())
        if top not in free and not top.name.startswith("out.")
        for path in (top, *top.rglob("*"))
    }


def rss() -> int:
    """Returns the bytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def restart_peak() -> None:
    """Forgets the most that this process has held (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Returns the most bytes that this process has held since `restart_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) << 10 for x in lines if x.startswith("VmHWM"))


def judge(
    read: Callable[[Path, Path | None], None], sandbox: Path, watch: Watch, out: bool
) -> dict[str, Any]:
    """Reads `sandbox/case`; says what came of it.

    Returns:
        `outcome`: "read", "refused" or "failed"; `why`; `seconds`.
    """
    before, start = snapshot(sandbox), time.perf_counter()
    outcome, why = "read", ""
    watch.heard.clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            watch.on = True
            read(sandbox / "case", sandbox / "out" if out else None)
    except CLEAR as error:
        outcome, why = "refused", str(error)
        if str(sandbox) not in why:
            outcome, why = "failed", f"names no path: {type(error).__name__}: {why}"
    except BaseException as error:
        outcome, why = "failed", f"{type(error).__name__}: {error}"
    finally:
        watch.on = False
    if watch.heard:
        outcome, why = "failed", f"did what no reader does: {watch.heard[:3]}"
    if snapshot(sandbox) != before:
        outcome, why = "failed", "wrote outside of its folder"
    for path in sandbox.glob("out*"):
        shutil.rmtree(path)
    seconds = time.perf_counter() - start
    return {"outcome": outcome, "why": why[:600], "seconds": seconds}
