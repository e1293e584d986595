"""Does a long run stay as it was: memory flat, nothing compiled again, no slow steps?

`train.fit_stream` trains the predictor of 254,000 parameters for `--minutes` on the
stream of a zoo on disk, with evaluations and checkpoints as in any run. Every dispatch
is one step here, so that each is timed, from the end of the step before to its own:
input, logging, evaluations and saving included. Looked at is what comes after the
warm-up, a fifth of the time and at most five minutes:

- memory: the resident set each second, and the slope of a line through it; flat is
  below 60 MB an hour;
- compilations that the compiler reports: none;
- step times: the 99th percentile below 3 times the median.

Ends with status 1 if one of them is not so; runs below ten minutes only report.

    python -m benchmarks.soak --minutes 30
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from benchmarks import harness
from benchmarks._predictor_254k import training
from benchmarks.bench_import import imported, public_zoo
from benchmarks.bench_stream import BATCH, take
from benchmarks.harness import Record
from qejax import train, zoo
from qejax.train import _loop

QUESTION = str(__doc__).splitlines()[0]
FLAT_BYTES_PER_HOUR = 60e6
SLOW = 3.0
COMPILED = "/jax/core/compile/backend_compile_duration"
JUDGED_MINUTES = 10


class Enough(Exception):
    """The time is over."""


class Watch:
    """Times steps, and notes memory and compilations, while a run goes on."""

    def __init__(self, minutes: float) -> None:
        self.start = time.perf_counter()
        self.seconds = 60 * minutes
        self.warm = min(self.seconds / 5, 300.0)
        self.last = (0.0, 0)
        self.steps: list[tuple[float, float]] = []
        self.memory: list[tuple[float, int]] = []
        self.compiled: list[float] = []
        self.compiled_before = 0
        jax.monitoring.register_event_duration_secs_listener(self._event)

    def _event(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        del duration_secs, kwargs
        if event == COMPILED:
            self.compiled.append(self.now())

    def now(self) -> float:
        """Returns the seconds since the start."""
        return time.perf_counter() - self.start

    def __call__(self, report: train.Progress) -> None:
        """Is told after every step, and after every evaluation."""
        if not self.memory:
            self.start = time.perf_counter()  # compiling is over
            self.compiled_before = len(self.compiled)
            self.compiled.clear()
        at, step = self.last
        now = self.now()
        if report.step == step + 1:
            self.steps.append((now, now - at))
            self.last = (now, report.step)
        if not self.memory or now - self.memory[-1][0] >= 1.0:
            self.memory.append((now, resident_bytes()))
        if now > self.seconds:
            raise Enough


def resident_bytes() -> int:
    """Returns the memory that this process holds now."""
    if not Path("/proc/self/statm").exists():
        return harness.peak_memory_bytes()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Returns the slope of the line with the least squares through points."""
    x, y = np.array(points, float).T
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x**2).sum())


def judged(watch: Watch) -> Record:
    """Returns what was seen after the warm-up, and what of it is as it should be."""
    steps = [seconds for at, seconds in watch.steps if at > watch.warm]
    memory = [(at, size) for at, size in watch.memory if at > watch.warm]
    again = [at for at in watch.compiled if at > watch.warm]
    median, slow = (float(np.percentile(steps, q)) for q in (50, 99))
    per_hour = 3600 * slope(memory)
    return {
        "warm_up_seconds": watch.warm,
        "steps": len(steps),
        "step_seconds_p50": median,
        "step_seconds_p99": slow,
        "step_seconds_max": max(steps),
        "p99_over_p50": slow / median,
        "memory_first_bytes": memory[0][1],
        "memory_last_bytes": memory[-1][1],
        "memory_bytes_per_hour": per_hour,
        "compilations": watch.compiled_before + len(watch.compiled),
        "compilations_after_warm_up": len(again),
        "memory_flat": per_hour < FLAT_BYTES_PER_HOUR,
        # What is never heard of is not counted.
        "nothing_compiled": watch.compiled_before > 0 and not again,
        "no_slow_steps": slow < SLOW * median,
    }


def trained(root: Path, out: Path, watch: Watch, save_seconds: float) -> None:
    """Trains until the watch says that it is enough."""
    listing = zoo.list_prepared(root, verify=False).listings["relu"]
    made = training(listing.network.spec)
    held = take(next(zoo.batches(zoo.read(root, verify=False), "val", BATCH, seed=0)))
    read = jax.jit(made.read)

    def evaluate(params: Any) -> dict[str, float]:
        scores = jax.nn.sigmoid(read(params, held["theta"]))
        return {"kendall_tau": train.kendall_tau(held["label"], np.asarray(scores))}

    stream = zoo.stream(
        root,
        "train",
        BATCH,
        seed=0,
        epochs=None,
        take=take,
        normal=False,
        device=jax.devices()[0],
    )
    # Every dispatch is one step, so that each is timed.
    _loop._DISPATCH_SECONDS = 0.0
    config = train.FitConfig(
        steps=10**9, batch_size=BATCH, eval_every=100, select="kendall_tau", ema=0.99
    )
    shutil.rmtree(out, ignore_errors=True)
    try:
        train.fit_stream(
            made.loss_fn,
            made.params,
            stream,
            config,
            optimizer=optax.adam(1e-3),
            evaluate=evaluate,
            out=out,
            progress=watch,
            save_seconds=save_seconds,
        )
    except Enough:
        return


def main() -> int:
    """Trains, looks, prints and writes the JSON."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--networks", type=int, default=400)
    parser.add_argument("--save-seconds", type=float, default=30.0)
    parser.add_argument("--zoo", type=Path, help="a prepared zoo")
    parser.add_argument("--work", type=Path, default=Path("runs/soak"))
    parser.add_argument("--out", type=Path, default=harness.RESULTS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    root = args.zoo or args.work.resolve() / "zoo"
    if not (root / "manifest.json").exists():
        imported(public_zoo(args.work.resolve(), args.networks)[0], root, 256)
    stamp, watch = harness.stamp(), Watch(args.minutes)
    trained(root, args.work / "run", watch, args.save_seconds)
    found = judged(watch)
    for name, value in found.items():
        print(f"{name:28} {value}")
    record = {
        "question": QUESTION,
        "stamp": stamp,
        "minutes": args.minutes,
        "batch": BATCH,
        "flat_bytes_per_hour": FLAT_BYTES_PER_HOUR,
        **found,
        "memory": [[round(at), size] for at, size in watch.memory[::10]],
    }
    harness.save("soak", record, args.out)
    right = found["memory_flat"] and found["nothing_compiled"]
    right = right and found["no_slow_steps"]
    return 0 if right or args.minutes < JUDGED_MINUTES else 1


if __name__ == "__main__":
    sys.exit(main())
