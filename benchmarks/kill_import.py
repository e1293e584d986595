"""Is a killed import lost? Twenty of them are killed and gone on with.

Every import is killed with SIGKILL at a random moment between its start and the time
that a whole one takes; then the same command is run again. All files have to be those
of an import that nothing stopped, byte by byte.

`python -m benchmarks.kill_import [--kills 20] [--networks 4000] [--work DIR]`
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import harness
from benchmarks.bench_import import public_zoo


def command(source: Path, out: Path) -> list[str]:
    """Returns the command line that imports."""
    line = ["-m", "experiments.make_zoo", "import", f"small_cnn_zoo:{source}", str(out)]
    return [sys.executable, *line]


def digests(out: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file below a folder."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def run(source: Path, out: Path, seconds: float | None) -> tuple[int, float]:
    """Imports, killed after some seconds; returns exit status and seconds."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command(source, out), stdout=subprocess.DEVNULL, cwd=harness.ROOT
    )
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        status = process.wait()
    return status, time.perf_counter() - start


def killed(
    source: Path, out: Path, want: dict[str, str], after: float
) -> harness.Record:
    """Kills one import, goes on with it, and compares the bytes."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(out.with_name(out.name + ".partial"), ignore_errors=True)
    status, _ = run(source, out, after)
    receipts = out.with_name(out.name + ".partial") / "receipts"
    shards = len(list(receipts.glob("*.json"))) if receipts.is_dir() else 0
    there = out.exists()
    again, seconds = run(source, out, None)
    assert again == 0, f"the second import ended with {again}"
    left = [path.name for path in out.parent.glob(f"{out.name}*") if path != out]
    return {
        "killed_after_seconds": after,
        "status": status,
        "shards_kept": shards,
        "zoo_was_there": there,
        "seconds_again": seconds,
        "same_bytes": digests(out) == want,
        "left_behind": left,
    }


def main() -> None:
    """Kills, compares, and writes the JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--networks", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/kill_import"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    source, _ = public_zoo(args.work, args.networks)
    whole = args.work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    status, seconds = run(source, whole, None)
    assert status == 0, f"the import ended with {status}"
    want, rng = digests(whole), random.Random(args.seed)
    runs = []
    for number in range(args.kills):
        after = rng.uniform(0, seconds)
        runs.append(killed(source, args.work / "killed", want, after))
        print(f"{number + 1}: {runs[-1]}", flush=True)
    same = sum(one["same_bytes"] for one in runs)
    print(f"{same} of {len(runs)} with the bytes of an import that nothing stopped")
    record = {
        "networks": args.networks,
        "seed": args.seed,
        "files": len(want),
        "whole_seconds": seconds,
        "kills": len(runs),
        "same_bytes": same,
        "runs": runs,
    }
    harness.save("kill_import", {"stamp": harness.stamp(), **record})
    assert same == len(runs)


if __name__ == "__main__":
    main()
