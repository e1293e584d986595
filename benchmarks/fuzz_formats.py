"""Damaged and hostile files in every format: read or refused, and nothing else.

Every case is one small zoo with one file damaged. It has to be read, or refused with an
error that names a path, within seconds and bounded memory. No code may run, no file be
written outside of the output folder. A case depends on `(seed, number)` alone.

    python -m benchmarks.fuzz_formats --files 20000 --seed 0
"""

import argparse
import codecs
import contextlib
import multiprocessing
import shutil
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import _fuzz_case as cases
from benchmarks import harness
from benchmarks._fuzz_mutators import MUTATORS
from benchmarks._fuzz_seeds import make_seeds

SECONDS = 20.0
"""A case may take."""

GROWTH = 512 << 20
"""Bytes a case may need beyond what its process held when it was ready."""

IMPORTED = 16
"""One case of so many is imported or streamed as well, if its seed is below."""

SMALL = ("npz", "safetensors", "msgpack", "torch", "prepared")
"""Seeds of one small architecture, whose normal form is compiled once."""


ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "cp437", "latin-1")
ENCODINGS = (*ENCODINGS, "utf-32", "utf-32-be", "utf-32-le")
"""Modules of the standard library that `json` and `zipfile` import when texts ask."""


def work(root: Path, seed: int, pipe: Connection) -> None:
    """Runs the cases whose numbers come through a pipe, until it is closed."""
    sandbox = root / "sandbox"
    seeds = {path.name: path for path in sorted((root / "seeds").iterdir())}
    watch = cases.Watch(sandbox / "out")
    for name in ENCODINGS:
        codecs.lookup(name)
    for name, path in seeds.items():  # what is compiled or imported once is so now
        shutil.copytree(path, sandbox / "case")
        with contextlib.suppress(*cases.CLEAR):  # some of others' files are refused
            out = sandbox / "out" if name in SMALL else None
            cases.reader_of(name)(sandbox / "case", out)
        shutil.rmtree(sandbox / "case")
        shutil.rmtree(sandbox / "out", ignore_errors=True)
    pipe.send(cases.rss())
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            return
        name, mutator = cases.damage(seeds, sandbox, number, seed)
        cases.restart_peak()
        round_number = number // len(seeds) // len(MUTATORS)
        imported = name in SMALL and round_number % IMPORTED == 0
        said = cases.judge(cases.reader_of(name), sandbox, watch, imported)
        facts = {"format": name, "mutator": mutator, "peak": cases.peak()}
        pipe.send({**said, **facts})


class Worker:
    """A process that is started again when a case ends it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.start()

    def start(self) -> None:
        """Starts a process and waits until it is ready."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        args = (self.root, self.seed, theirs)
        self.process = context.Process(target=work, args=args, daemon=True)
        self.process.start()
        theirs.close()
        self.base = self.pipe.recv()

    def run(self, number: int) -> dict[str, Any]:
        """Runs a case; one that ends the process, or never ends, has failed."""
        self.pipe.send(number)
        try:
            if self.pipe.poll(SECONDS):
                return self.pipe.recv()
            why = f"no answer within {SECONDS:g} s"
        except EOFError:
            why = "the process died"
        self.process.kill()
        self.process.join()
        self.start()
        facts = {"outcome": "failed", "why": why, "seconds": SECONDS}
        return {**facts, "format": "?", "mutator": "?", "peak": self.base}


def run(root: Path, numbers: range, seed: int) -> dict[str, Any]:
    """Runs cases in `root`, an empty folder.

    Returns:
        Counts by format, mutator and outcome, the failures, and what was needed.
    """
    (root / "made").mkdir()
    (root / "sandbox" / "canary").mkdir(parents=True)
    (root / "sandbox" / "canary" / "a.txt").write_text("outside")
    for name, path in make_seeds(root / "made").items():
        shutil.copytree(path, root / "seeds" / name)
    worker = Worker(root, seed)
    start, growth, slowest = time.perf_counter(), 0, 0.0
    counts: dict[str, Counter[str]] = {
        kind: Counter() for kind in ("outcomes", "formats", "mutators")
    }
    failures = []
    for number in numbers:
        said = worker.run(number)
        grown = said["peak"] - worker.base
        if grown > GROWTH:
            said |= {"outcome": "failed", "why": f"needed {grown >> 20} MiB"}
        counts["outcomes"][said["outcome"]] += 1
        counts["formats"][f"{said['format']}: {said['outcome']}"] += 1
        counts["mutators"][f"{said['mutator']}: {said['outcome']}"] += 1
        growth, slowest = max(growth, grown), max(slowest, said["seconds"])
        if said["outcome"] == "failed":
            why = said["why"].replace(str(root), "ROOT")
            failures.append({**said, "number": number, "why": why})
            kept = root / "failures" / str(number)
            if (root / "sandbox" / "case").exists():
                shutil.copytree(root / "sandbox" / "case", kept, symlinks=True)
    worker.pipe.close()
    worker.process.join()
    return {
        **{kind: dict(sorted(found.items())) for kind, found in counts.items()},
        "failures": failures,
        "seconds": time.perf_counter() - start,
        "slowest_seconds": slowest,
        "most_growth_bytes": growth,
        "bytes_at_start": worker.base,
    }


def main() -> None:
    """Runs the cases, says what failed, and saves the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--name", default="fuzz", help="of the results file")
    args = parser.parse_args()
    stamp = harness.stamp()
    root = Path(tempfile.mkdtemp(prefix="fuzz-"))
    numbers = range(args.first, args.first + args.files)
    found = run(root, numbers, args.seed)
    limits = {"seconds": SECONDS, "growth_bytes": GROWTH}
    told = {"files": args.files, "seed": args.seed, "limits": limits}
    harness.save(args.name, {"stamp": stamp, **told, **found})
    for failure in found["failures"][:40]:
        where = f"{failure['format']}, {failure['mutator']}"
        print(f"case {failure['number']} ({where}): {failure['why']}")
    print(found["outcomes"], f"{found['seconds']:.0f} s")
    if not found["failures"]:
        shutil.rmtree(root)
    else:
        print(f"failures are kept in {root}")


if __name__ == "__main__":
    main()
