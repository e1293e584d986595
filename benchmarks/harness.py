"""How long does a compiled function take, and is its answer right?

Rules every benchmark here keeps by calling this file:

- compiling (trace and lower, then compile) is timed apart from running;
- the answer is checked first: a wrong one is reported as "failed", never with a time;
- every timed call ends in `jax.block_until_ready`;
- competitors of one benchmark take turns, repeat by repeat, so that a change in the
  load of the machine meets all of them;
- the minimum and the median of at least five repeats are kept, with all repeats;
- the JSON in `benchmarks/results/` carries the machine, versions, commit and command.
"""

import importlib.metadata
import json
import os
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
MIN_REPEATS = 5
_PACKAGES = ("qejax", "jax", "jaxlib", "flax", "optax", "numpy", "torch", "nfn")
_FLAGS = (
    "XLA_FLAGS",
    "JAX_PLATFORMS",
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)
_MEMORY = ("argument", "output", "temp", "alias", "generated_code")

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One competitor, ready to be timed.

    Attributes:
        name: key in the results.
        call: runs it once and returns only when the result is there.
        check: raises AssertionError when the answer is wrong; may return facts to keep
            beside the times (gaps, losses).
        facts: what is known without timing: parameters, compile seconds, flops.
    """

    name: str
    call: Callable[[], object]
    check: Callable[[], Mapping[str, object] | None] = lambda: None
    facts: Mapping[str, object] = field(default_factory=dict)


def compile_jitted(
    name: str,
    fn: Callable[..., Any],
    *args: Any,
    check: Callable[[Any], Mapping[str, object] | None] = lambda out: None,
    feed: Callable[[Any, tuple[Any, ...]], tuple[Any, ...]] | None = None,
    donate: tuple[int, ...] = (),
    facts: Mapping[str, object] | None = None,
) -> Subject:
    """Compiles `fn` ahead of time for `args`, timing that, and returns it to be timed.

    Args:
        name: key in the results.
        fn: a function of arrays; jitted here, an already jitted one is welcome.
        *args: what it is called with.
        check: gets the output of the first call; raises AssertionError if it is wrong.
        feed: arguments of the next call from the output and arguments of the last one,
            as `lambda out, args: (out, *args[1:])` for a training step. By default the
            same arguments again.
        donate: argument numbers whose memory the call may reuse; needs `feed`.
        facts: kept beside the measurements.

    Raises:
        ValueError: if arguments are donated and never replaced.
    """
    if donate and feed is None:
        raise ValueError(
            "compile_jitted(donate=...) needs `feed`: a donated argument is gone after"
            " the first call."
        )
    start = time.perf_counter()
    lowered = jax.jit(fn, donate_argnums=donate).lower(*args)
    middle = time.perf_counter()
    compiled = lowered.compile()
    end = time.perf_counter()
    state: dict[str, Any] = {"args": args}

    def call() -> object:
        out = jax.block_until_ready(compiled(*state["args"]))
        if feed is not None:
            state["args"] = feed(out, state["args"])
        return out

    return Subject(
        name=name,
        call=call,
        check=lambda: check(call()),
        facts={
            **(facts or {}),
            "lower_seconds": middle - start,
            "compile_seconds": end - middle,
            **compiled_costs(compiled),
        },
    )


def compiled_costs(compiled: Any) -> Record:
    """The compiler's own estimates: `flops` and bytes of memory; None where unknown."""
    cost = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    sizes = {
        f"{kind}_bytes": getattr(memory, f"{kind}_size_in_bytes", None)
        for kind in _MEMORY
    }
    sizes["peak_bytes"] = getattr(memory, "peak_memory_in_bytes", None)
    return {
        "flops": cost.get("flops"),
        "bytes_accessed": cost.get("bytes accessed"),
        "compiled_memory": sizes,
    }


def time_subjects(
    subjects: Sequence[Subject],
    *,
    repeats: int = 7,
    warm_up: int = 2,
    seconds: float = 0.5,
    log: Callable[[str], None] = print,
) -> dict[str, Record]:
    """Checks, warms up and times the subjects in turns.

    Args:
        subjects: with different names.
        repeats: timed runs of each, at least 5.
        warm_up: calls of each before timing.
        seconds: a repeat holds as many calls as fit into this, at least one.
        log: called with one line a subject.

    Returns:
        For each name its facts and, if its answer was right, `status` "ok" and the
        seconds of one call: `min_seconds`, `median_seconds`, `repeat_seconds`. If it
        was wrong, `status` "failed" and the `reason`, and no time.

    Raises:
        ValueError: if there are too few repeats.
    """
    if repeats < MIN_REPEATS:
        raise ValueError(f"repeats should be at least {MIN_REPEATS}, got {repeats}.")
    records: dict[str, Record] = {}
    calls: dict[str, int] = {}
    for subject in subjects:
        records[subject.name] = record = {"status": "ok", **subject.facts}
        try:
            record.update(subject.check() or {})
        except AssertionError as error:
            record.update(status="failed", reason=str(error))
            log(f"{subject.name}: failed: {error}")
            continue
        calls[subject.name] = _warm(subject, warm_up, seconds)
    right = [subject for subject in subjects if subject.name in calls]
    times: dict[str, list[float]] = {subject.name: [] for subject in right}
    for _ in range(repeats):
        for subject in right:
            times[subject.name].append(_time(subject, calls[subject.name]))
    for name, measured in times.items():
        records[name].update(
            min_seconds=min(measured),
            median_seconds=statistics.median(measured),
            repeat_seconds=measured,
            calls_per_repeat=calls[name],
        )
        log(f"{name}: median {statistics.median(measured):.3e} s a call")
    return records


def _warm(subject: Subject, warm_up: int, seconds: float) -> int:
    """Calls it, and returns how many calls fill `seconds`."""
    for _ in range(warm_up):
        subject.call()
    return max(1, round(seconds / _time(subject, 1)))


def _time(subject: Subject, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        subject.call()
    return (time.perf_counter() - start) / calls


def peak_memory_bytes() -> int:
    """The most memory this process has held so far (peak resident set)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def stamp(code: Sequence[str] = ("qejax", "benchmarks/*.py")) -> Record:
    """What a number depends on: machine, versions, commit, flags, command, date.

    Compare times only where `device`, `cpu` and `versions` agree, and distrust those
    with a `load_average` that says the machine was busy: take the stamp first.

    Args:
        code: paths of what is measured; where they differ from the commit, it ends
            in "+changes".
    """
    device = jax.devices()[0]
    versions = {name: _version(name) for name in _PACKAGES}
    versions["python"] = platform.python_version()
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "device_count": jax.device_count(),
        "cpu": _cpu_name(),
        "cores": _cores(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "versions": versions,
        "commit": _commit(code),
        "flags": {
            **{name: os.environ[name] for name in _FLAGS if name in os.environ},
            "x64": bool(jax.config.read("jax_enable_x64")),
        },
        "command": _command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int | None:
    """Cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def _commit(code: Sequence[str]) -> str | None:
    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", *args], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *code)
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _command() -> str:
    """The command line; folders of this machine mean nothing elsewhere and go."""
    program = Path(sys.argv[0]).resolve()
    if program.is_relative_to(ROOT):
        parts = program.relative_to(ROOT).with_suffix("").parts
        words = ["python", "-m", ".".join(parts)]
    else:
        words = [program.name]
    words += [re.sub(r"(^|=)/(?:[^/]*/)*", r"\1DIR/", arg) for arg in sys.argv[1:]]
    return shlex.join(words)


def save(name: str, record: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Writes `folder/name.json` in one move: a reader never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    partial.replace(path)
    return path


def read_runs(path: Path) -> Record:
    """The runs that a results file already holds; none if there is no such file."""
    return json.loads(path.read_text())["runs"] if path.exists() else {}
