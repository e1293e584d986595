"""A run that was stopped, at any moment and by any means, ends in the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax.train import FitResult, Interrupted, Progress, _run
from qejax.train._checkpoint import Checkpointer
from tests.train.killed_run import STEPS, run

SAVED = (0, 1, 40, 41, STEPS)  # where the signals of the first test save
SCRIPT = Path(__file__).with_name("killed_run.py")


class Crash(Exception):
    """Stands for whatever ends a process without saving."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[FitResult, list[Any]]:
    """The run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    result = run(out, save_seconds=1e9)
    return result, numbers(out)


def numbers(out: Path) -> list[Any]:
    """Returns the rows of the log but for the wall clock; JSON keeps every bit."""
    lines = (out / "log.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


def assert_same_run(out: Path, result: FitResult, whole: Any) -> None:
    want, rows = whole
    assert numbers(out) == rows
    assert [{**row, "seconds": None} for row in result.history] == rows
    assert (result.best_step, result.best_metrics) == (
        want.best_step,
        want.best_metrics,
    )
    assert result.seconds > result.history[0]["seconds"]
    for name in ("params", "last_params"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(result, name), getattr(want, name)
        )


def ask_to_stop(step: int, name: str) -> Any:
    asked = []

    def progress(report: Progress) -> None:
        if report.step >= step and not asked:
            asked.append(name)
            signal.raise_signal(signal.Signals[name])

    return progress


def crash(step: int) -> Any:
    def progress(report: Progress) -> None:
        if report.step >= step:
            raise Crash

    return progress


def test_signals_save_first_and_the_run_goes_on(tmp_path: Path, whole: Any) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    # Right after a start a dispatch has one step, so 1 and 41 lie between evaluations.
    stops = ((0, "SIGINT"), (1, "SIGTERM"), (37, "SIGINT"), (41, "SIGTERM"))
    for (step, name), saved in zip((*stops, (STEPS, "SIGINT")), SAVED, strict=True):
        with pytest.raises(
            Interrupted, match=rf"Stopped by {name} .*/ckpt\. Run"
        ) as info:
            # A far save interval: only the signal saves.
            run(tmp_path, progress=ask_to_stop(step, name), save_seconds=1e9)
        assert f"after step {saved} of {STEPS}" in str(info.value)
        assert (
            signal.getsignal(signal.SIGINT),
            signal.getsignal(signal.SIGTERM),
        ) == before
    result = run(tmp_path)
    assert result.resumed_from == STEPS
    assert_same_run(tmp_path, result, whole)


def test_a_signal_while_a_finished_run_is_read_is_heard(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    restore = Checkpointer.restore

    def asked(self: Checkpointer, *args: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return restore(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "restore", asked)
        with pytest.raises(Interrupted, match=f"SIGTERM after step {STEPS} of {STEPS}"):
            run(tmp_path)
    assert_same_run(tmp_path, run(tmp_path), whole)


def test_crashes_lose_only_steps_after_the_last_save(
    tmp_path: Path, whole: Any
) -> None:
    for step in (1, 50):
        with pytest.raises(Crash):
            run(tmp_path, progress=crash(step))
    result = run(tmp_path, save_seconds=1e9)
    assert result.resumed_from is not None
    assert 40 <= result.resumed_from < 70
    assert_same_run(tmp_path, result, whole)


def test_a_crash_before_any_save_begins_again(tmp_path: Path, whole: Any) -> None:
    with pytest.raises(Crash):
        run(tmp_path, progress=crash(70), save_seconds=1e9)
    assert len(numbers(tmp_path)) > 5
    result = run(tmp_path, save_seconds=1e9)
    assert result.resumed_from is None
    assert_same_run(tmp_path, result, whole)


def begin(out: Path, pause: float) -> "subprocess.Popen[str]":
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(out), "--pause", str(pause)],
        cwd=root,
        # The flags of this process, so that it can be compared with, and go on.
        env={**os.environ, "PYTHONPATH": str(root), "JAX_ENABLE_X64": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_rows(process: Any, out: Path, rows: int) -> None:
    log, deadline = out / "log.jsonl", time.monotonic() + 120
    while not log.exists() or len(log.read_text().splitlines()) < rows:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_processes_that_are_killed_go_on(tmp_path: Path, whole: Any) -> None:
    with begin(tmp_path, 0.1) as process:
        wait_for_rows(process, tmp_path, 3)
        process.send_signal(signal.SIGTERM)
        printed, message = process.communicate(timeout=60)
    assert process.returncode == 1
    assert printed == ""
    assert "Stopped by SIGTERM after step" in message
    assert "Run the same command again" in message
    assert "Traceback" not in message
    saved = len(numbers(tmp_path))
    assert 3 <= saved < len(whole[1])
    with begin(tmp_path, 0.1) as process:
        wait_for_rows(process, tmp_path, saved + 3)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    result = run(tmp_path)
    assert result.resumed_from is not None
    assert 0 < result.resumed_from < STEPS
    assert_same_run(tmp_path, result, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_processes_killed_at_random_moments(
    tmp_path: Path, whole: Any, seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(4):
        with begin(tmp_path, 0.05) as process:
            time.sleep(rng.uniform(3.0, 9.0))
            process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
            process.communicate(timeout=60)
    with begin(tmp_path, 0.0) as process:
        assert process.communicate(timeout=120)[0] == f"{STEPS}\n"
    assert_same_run(tmp_path, run(tmp_path), whole)


def test_a_signal_in_the_last_save_is_heard(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, asked = _run.Run.save_and_wait, list[int]()

    def slow(self: Any) -> None:
        # Once: a second signal aborts.
        if not asked:
            asked.append(self.step)
            signal.raise_signal(signal.SIGTERM)
        save(self)

    with monkeypatch.context() as patch:
        patch.setattr(_run.Run, "save_and_wait", slow)
        with pytest.raises(Interrupted, match=f"SIGTERM after step {STEPS} of"):
            run(tmp_path, save_seconds=1e9)
    assert_same_run(tmp_path, run(tmp_path), whole)
