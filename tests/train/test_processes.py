"""Two processes on this machine: the numbers of one, and nothing lost when one ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax._processes import PeerError, peers
from tests import processes
from tests.train.on_a_mesh import STOPPED
from tests.train.test_mesh import gap, run

MESH = "data=2,model=2"
KILLED = "was ended from outside"


def together(
    tmp_path: Path, *options: str, code: int = 0, count: int = 2
) -> list[dict[str, Any]]:
    """A run of several processes of two devices each; what each of them told."""
    results = [tmp_path / f"told_{index}.json" for index in range(count)]
    lines = [
        [str(tmp_path / "run"), str(result), "--devices", "2", *options]
        for result in results
    ]
    for got, _, err in processes.ended(processes.start("tests.train.on_a_mesh", lines)):
        assert got == code, err
        assert "Traceback" not in err
        assert KILLED not in err
        assert ("the state is saved in" in err) == (code == 1)
    return [json.loads(path.read_text()) for path in results if path.exists()]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("one"), "run", 1, None)


def test_two_processes_train_as_one(tmp_path: Path, one: dict[str, Any]) -> None:
    """Also after SIGTERM to the second process: to the bit, and on one device."""
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    first, second = together(whole, "--mesh", MESH)
    assert first["devices"] == second["devices"] == 4
    assert any("model" in spec for spec in first["over"])
    assert gap(first, second) == 0.0
    assert gap(first, one) < 1e-5
    together(cut, "--mesh", MESH, "--raise-signal", "20", "--pause", "0.1", code=1)
    again, other = together(cut, "--mesh", MESH)
    assert 20 <= again["resumed_from"] < 50
    assert gap(again, first) == gap(other, first) == 0.0
    # A finished run is read by both.
    for told in together(cut, "--mesh", MESH):
        assert gap(told, first) == 0.0
    # Only the first process writes rows.
    rows = (cut / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 10, 20, 30, 40, 50]


@pytest.mark.slow  # What differs from a small model is its size.
def test_a_predictor_trains_on_eight_devices_as_on_one(tmp_path: Path) -> None:
    """All of its fifty losses; and as two processes of two devices."""
    one = run(tmp_path, "one", 1, None, predictor=True)
    assert len(one["losses"]) == 50
    assert one["losses"][-1] < one["losses"][0] / 2
    for got in (
        run(tmp_path, "eight", 8, "data=-1", predictor=True),
        *together(tmp_path, "--mesh", "data=-1", "--predictor"),
    ):
        assert gap(got, one) < 1e-5


def test_each_process_reads_its_own_records(tmp_path: Path) -> None:
    """Two processes, then one, then two again: a stream in pieces, or whole."""
    want = run(tmp_path, "want", 1, None, stream=True)
    options = ("--mesh", "data=-1", "--stream")
    together(tmp_path, *options, "--stop", "12", code=STOPPED)
    run(tmp_path, "run", 2, "data=-1", stop=31, stream=True)
    got, _ = together(tmp_path, *options)
    assert got["resumed_from"] >= 20
    assert gap(got, want) < 1e-5


def test_when_one_is_killed_the_other_ends(tmp_path: Path, one: dict[str, Any]) -> None:
    options = ["--mesh", "data=-1", "--pause", "0.3", "--heartbeat", "10"]
    lines = [
        [str(tmp_path / "run"), str(tmp_path / f"{index}.json"), *options]
        for index in range(2)
    ]
    survivor, victim = processes.start("tests.train.on_a_mesh", lines)
    assert victim.stdout is not None
    next(line for line in victim.stdout if line.startswith("step 20"))
    victim.kill()
    (code, out, err), (_, _, last) = processes.ended([survivor, victim], seconds=60)
    assert code not in (0, None)
    assert "If one ends, the others do within 10 s: start all again" in out
    assert "Start all of them again with the same command" in err
    assert f"process 1 of 2 {KILLED}" in last
    # What was saved is whole, and goes on.
    got = run(tmp_path, "run", 1, None)
    assert got["resumed_from"]
    assert gap(got, one) < 1e-5


def test_when_one_fails_alone_all_end(tmp_path: Path) -> None:
    """It does not wait for the others, nor they for minutes."""
    options = ["--mesh", "data=-1", "--fail", "20", "--heartbeat", "10"]
    lines = [
        [str(tmp_path / "run"), str(tmp_path / f"{index}.json"), *options]
        for index in range(2)
    ]
    started = processes.start("tests.train.on_a_mesh", lines)
    (code, _, err), (own, _, said) = processes.ended(started, seconds=60)
    assert own == 1
    assert said.rstrip().endswith("ArithmeticError: of this process alone")
    assert KILLED not in said
    assert code not in (0, None, -9)
    assert "Start all of them again with the same command" in err


def test_what_processes_tell_each_other() -> None:
    two = "--xla_force_host_platform_device_count=2"
    started = processes.start("tests.train.together", [[], []], XLA_FLAGS=two)
    found = []
    for code, out, err in processes.ended(started):
        assert code == 0, err
        lines = [line for line in out.splitlines() if line.startswith("{")]
        found.append(json.loads(lines[-1]))
    for me, got in enumerate(found):
        assert got["processes"] == 2
        assert got["devices"] == {"data": 4, "model": 1}
        # Five networks on four devices: the batch is filled up, and cut again.
        assert got["mapped"] == [2.0, 10.0, 18.0, 26.0, 34.0]
        assert got["is_first"] == (me == 0)
        assert got["agreed"] == [[0, 2**40], [1, 2**40 + 1]]
        assert got["json"] == [{"of": "é"}, {"of": "éé"}]
        assert got["first"] == "of 0"
        assert got["rows"] == {
            "x": [0.0, *np.arange(10.0, 14.0).tolist()],
            "y": [True, False, False, False, False],
        }
    assert found[0]["caught"] == "OSError: the disk is full"
    assert found[1]["caught"] == (
        "PeerError: process 1: expected process 0 to go on, got an error there: "
        "OSError: the disk is full"
    )


def test_a_full_disk_of_the_first_ends_all(tmp_path: Path) -> None:
    """Nobody waits for it, what there was stays, and with room all go on."""
    out = tmp_path / "run"
    started = processes.start("tests.train.no_room", [[str(out)], [str(out)]])
    found = []
    for code, text, err in processes.ended(started, seconds=90):
        assert code == 0, err
        assert "Traceback" not in text
        found.append(json.loads(text.splitlines()[-1]))
    first, second = (told.pop("caught") for told in found)
    assert first.startswith(f"DiskFullError: {out}: expected room on the disk")
    assert "Make room and run the same command again" in first
    assert second == (
        f"PeerError: process 1: expected process 0 to go on, got an error there: "
        f"{first}"
    )
    assert found == 2 * [{"before": [1], "same": True, "step": 2}]


@pytest.mark.parametrize("kind", [jax.errors.JaxRuntimeError, ValueError])
def test_what_fails_because_a_process_is_gone_says_so(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX raises either, by where a collective fails."""

    def fail(error: Exception) -> None:
        with peers():
            raise error

    with pytest.raises(kind, match=r"^UNKNOWN: Gloo"):
        fail(kind("UNKNOWN: Gloo AllGather failed"))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    match = "expected the others to take part, got 'UNKNOWN: Gloo AllGather failed'"
    with pytest.raises(PeerError, match=match):
        fail(kind("UNKNOWN: Gloo AllGather failed\nand more"))
    with pytest.raises(ValueError, match=r"^of the user$"):
        fail(ValueError("of the user"))


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os.kill(os.getpid(), 9)", True),
        ("os.abort()", True),
        ("raise ValueError", False),
        ("qejax.train.leave(3)", False),
        ("qejax.train._last_word.say_nothing(); os.kill(os.getpid(), 9)", False),
        ("sys.exit(3)", False),
        ("", False),
    ],
)
def test_the_last_word_is_of_those_who_are_killed(end: str, said: bool) -> None:
    code = (
        "import os, sys, qejax.train; "
        "qejax.train._last_word.say_if_killed('my last word'); "
        f"{end}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ("my last word" in done.stderr) == said
    assert (done.returncode == 0) == (not end)
