"""How fast is an import of a public zoo, and how much memory does it take?

The zoo is made here: small convolutional networks that the generator trains for a few
steps on digits, written as a Small CNN Zoo directory. Then, in turns:

- `import`: the command line imports it, normal forms and statistics included;
- `copy`: its bytes are copied, the least that anything could do.

Memory is the largest resident set of the process that imports, less that of one that
imports a hundred of these networks: what it costs to have started at all. The limit
that is given is a tenth of the weights.

`python -m benchmarks.bench_import [--networks 30000] [--work DIR]`
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from qejax import nets, zoo

NET = nets.cnn(1, (16, 16, 16), 3, 2)
SIDE = 16
FEW = 100
REPEATS = 5
SMALLER = 10
"""The limit on memory is that share of the weights."""


def digits() -> zoo.Data:
    """Returns digits of twice their side, in [-1, 1]."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.float32).reshape(-1, 8, 8) / 8 - 1
    x = images.repeat(SIDE // 8, 1).repeat(SIDE // 8, 2)[..., None]
    y = np.asarray(classes, np.int32)
    return zoo.Data(x[:1000], y[:1000], x[1000:], y[1000:])


def public_zoo(work: Path, count: int) -> tuple[Path, float]:
    """Returns a Small CNN Zoo directory of generated networks, and the seconds."""
    place = work / f"public_{count}"
    start = time.perf_counter()
    if not place.exists():
        config = zoo.ZooConfig(
            buckets={"relu": NET.config}, count=count, steps=(0, 3), batch=8, chunk=500
        )
        made = zoo.generate(config, digits(), work / f"generated_{count}")
        found = zoo.list_prepared(made, verify=False)
        zoo.formats.export(found, f"small_cnn_zoo:{place}")
        shutil.rmtree(made)
    return place, time.perf_counter() - start


MEASURED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "status": status,
    "seconds": time.perf_counter() - start,
    "cpu_seconds": usage.ru_utime + usage.ru_stime,
    "max_resident_bytes": 1024 * usage.ru_maxrss,
}))
"""
"""A process of its own that is small: one that is forked counts its parent's memory."""


def imported(source: Path, out: Path, memory: int) -> harness.Record:
    """Imports by the command line; returns seconds and the largest resident set."""
    shutil.rmtree(out, ignore_errors=True)
    line = ["-m", "experiments.make_zoo", "import", f"small_cnn_zoo:{source}", str(out)]
    command = [sys.executable, *line, "--memory", str(memory)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        stdout=subprocess.PIPE,
        check=True,
        cwd=harness.ROOT,
    )
    found = json.loads(done.stdout)
    assert found.pop("status") == 0, "the import failed"
    return found


def copied(source: Path, target: Path) -> float:
    """Copies the files of a directory to the disk; returns seconds."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    start = time.perf_counter()
    for path in sorted(source.iterdir()):
        shutil.copyfile(path, target / path.name)
        with (target / path.name).open("rb") as file:
            os.fsync(file.fileno())
    return time.perf_counter() - start


def check(source: Path, out: Path) -> None:
    """Raises unless the prepared zoo has all networks, with their weights."""
    want = np.load(source / "weights.npy", mmap_mode="r")
    found = zoo.list_prepared(out).listings["relu"]
    assert len(found) == len(want), f"{len(found)} networks of {len(want)}"
    rows = np.linspace(0, len(want) - 1, FEW).astype(int)
    got = found.read(rows).vectors
    assert np.array_equal(np.sort(got, axis=1), np.sort(want[rows], axis=1))


def measure(count: int, work: Path) -> dict[str, Any]:
    """Makes the zoo if it is not there, imports it, and copies it."""
    source, made = public_zoo(work, count)
    few, _ = public_zoo(work, FEW)
    weights = (source / "weights.npy").stat().st_size
    size = sum(path.stat().st_size for path in source.iterdir())
    limit = max(1, (weights >> 20) // SMALLER)
    start = imported(few, work / "few", limit)
    whole = imported(source, work / "whole", limit)
    check(source, work / "whole")
    copies = [copied(source, work / "copy") for _ in range(REPEATS)]
    seconds, copy = whole["seconds"], statistics.median(copies)
    written = sum(path.stat().st_size for path in (work / "whole").rglob("*.array*"))
    extra = whole["max_resident_bytes"] - start["max_resident_bytes"]
    return {
        "networks": count,
        "parameters": NET.spec.num_parameters,
        "source_bytes": size,
        "written_bytes": written,
        "make_seconds": made,
        "start": start,
        "import": whole,
        "copy_seconds": copies,
        "networks_per_second": count / seconds,
        "networks_per_second_once_started": count / (seconds - start["seconds"]),
        "megabytes_per_second": size / seconds / 1e6,
        "copy_megabytes_per_second": size / copy / 1e6,
        "times_a_copy": seconds / copy,
        "memory_limit_bytes": limit << 20,
        "memory_extra_bytes": extra,
        "weights_over_limit": weights / (limit << 20),
    }


def main() -> None:
    """Measures, prints and writes the JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--networks", type=int, default=30_000)
    parser.add_argument("--work", type=Path, default=Path("runs/bench_import"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    found = measure(args.networks, args.work)
    print({k: f"{v:.4g}" for k, v in found.items() if isinstance(v, float)})
    print(
        f"memory: {found['memory_extra_bytes'] / 2**20:.0f} MiB above a start, limit "
        f"{found['memory_limit_bytes'] >> 20} MiB"
    )
    harness.save("import", {"stamp": harness.stamp(), **found})


if __name__ == "__main__":
    main()
