"""Experiments on a mesh and in many processes: the numbers of one, one report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import devices
from qejax import spaces, zoo
from tests import processes

FOUR = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


def together(module: str, line: list[str]) -> list[tuple[int, str, str]]:
    return processes.ended(processes.start(module, [line, line], **FOUR), 600)


def test_two_processes_make_one_zoo(tmp_path: Path) -> None:
    line = ["inr_smoke", "--out", str(tmp_path)]
    (code, out, err), (other, said, problems) = together("experiments.make_zoo", line)
    assert (code, other) == (0, 0), err + problems
    assert "process 0 of 2, started by explicit: 2 of 4 cpu devices" in out
    assert "process 1 of 2, started by explicit: 2 of 4 cpu devices" in said
    # Only the first one reports.
    assert "fits.png" in os.listdir(tmp_path)
    assert f"the zoo is {tmp_path / 'zoo'}" in out.replace("\n", "")
    assert "the zoo is" not in said
    assert len(zoo.read(tmp_path / "zoo")) > 0


def test_a_wrong_mesh_ends_all_processes(tmp_path: Path) -> None:
    line = ["inr_smoke", "--out", str(tmp_path / "run"), "--mesh", "data=3"]
    for code, out, _ in together("experiments.make_zoo", line):
        assert code == 2
        assert "--mesh: mesh 'data=3': expected sizes whose" in " ".join(out.split())
    assert not (tmp_path / "run" / "zoo").exists()


def test_sigterm_before_training_stops_all(tmp_path: Path) -> None:
    """JAX would take it, and say it to nobody."""
    line = ["inr_smoke", "--out", str(tmp_path / "run")]
    started = processes.start("experiments.make_zoo", [line, line], **FOUR)
    for process in started:
        assert process.stdout is not None
        next(text for text in process.stdout if "started by explicit" in text)
        process.send_signal(signal.SIGTERM)
    for code, out, err in processes.ended(started, 60):
        assert code == 130, err
        assert "the same command goes on from here" in " ".join(out.split())
        assert "Traceback" not in err


def test_half_of_a_start_is_an_error_before_anything(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "experiments.make_zoo", "inr_smoke"]
    got = subprocess.run(
        [*line, "--out", str(tmp_path / "run")],
        cwd=processes.ROOT,
        env={**os.environ, "JAX_PROCESS_ID": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert got.returncode == 2
    assert "processes started by explicit: expected the variables" in got.stdout
    assert "Traceback" not in got.stderr
    assert not (tmp_path / "run").exists()


SMALL = ["smoke", "--baseline-quasi", "--widths", "4", "--probes", "2", "--trees", "1"]
PREDICT = "experiments.predict_accuracy"


def alone(line: list[str], **environ: str) -> None:
    ((code, _, err),) = processes.ended(
        processes.start(PREDICT, [line], **environ), 900
    )
    assert code == 0, err


def metrics(out: Path) -> Any:
    found = json.loads((out / "metrics.json").read_text())
    del found["seconds"]
    return found


@pytest.mark.slow
def test_two_processes_predict_what_one_does(tmp_path: Path) -> None:
    """And score other networks so."""
    line = [*SMALL, "--activations", "relu"]
    places = [["--zoos", str(tmp_path / f"zoos{n}")] for n in range(2)]
    outs = [tmp_path / f"out{n}" for n in range(2)]
    alone([*line, *places[0], "--out", str(outs[0])])
    for code, _, err in together(PREDICT, [*line, *places[1], "--out", str(outs[1])]):
        assert code == 0, err
    close(metrics(outs[0]), metrics(outs[1]))
    row = outs[0] / "predictors" / "without_probes"
    (root,) = (path.parent for path in (tmp_path / "zoos0").rglob("manifest.json"))
    line = ["score", str(row), str(root), "--out"]
    alone([*line, str(tmp_path / "one.csv")])
    for code, _, err in together(PREDICT, [*line, str(tmp_path / "two.csv")]):
        assert code == 0, err
    one, two = (
        [row.split(",") for row in (tmp_path / name).read_text().splitlines()]
        for name in ("one.csv", "two.csv")
    )
    assert [row[:3] for row in one] == [row[:3] for row in two]
    want, got = (np.array([row[3] for row in rows[1:]], float) for rows in (one, two))
    assert np.ptp(want) > 1e-2
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-2 * np.ptp(want))


@pytest.mark.slow
def test_a_killed_run_goes_on_elsewhere(tmp_path: Path) -> None:
    """One device, killed while it trains; then eight; then two processes of two."""
    zoos = ["--zoos", str(tmp_path / "zoos")]
    line = [*SMALL, "--activations", "relu", "tanh", *zoos, "--out"]
    alone([*line, str(tmp_path / "whole")])
    line.append(str(tmp_path / "cut"))
    kill_after(1, line, tmp_path / "cut")
    eight = "--xla_force_host_platform_device_count=8"
    kill_after(2, [*line, "--mesh", "data=-1"], tmp_path / "cut", XLA_FLAGS=eight)
    for code, _, err in together(PREDICT, line):
        assert code == 0, err
    close(metrics(tmp_path / "whole"), metrics(tmp_path / "cut"))


def kill_after(runs: int, line: list[str], out: Path, **environ: str) -> None:
    """Kills a process once so many trainings have saved."""
    (process,) = processes.start(PREDICT, [line], **environ)

    def saved() -> list[Path]:
        return [path for path in out.rglob("ckpt/*") if path.name.isdigit()]

    until = time.monotonic() + 900
    while len({path.parent for path in saved()}) < runs:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.communicate()


def close(one: Any, two: Any) -> None:
    """Raises unless two trees of JSON are the same up to rounding."""
    want, tree = jax.tree.flatten(one)
    got, other = jax.tree.flatten(two)
    assert tree == other
    for a, b in zip(want, got, strict=True):
        if isinstance(a, float):
            assert a == pytest.approx(b, abs=2e-3)
        else:
            assert a == b


def test_no_mesh_is_one_device() -> None:
    assert devices.mesh_of(devices.OnDevices()) is None
    mesh = devices.mesh_of(devices.OnDevices(mesh="data=1"))
    assert mesh is not None
    assert dict(mesh.shape) == {"data": 1, "model": 1}
    with pytest.raises(ValueError, match="--mesh: mesh 'data': expected AXIS=SIZE"):
        devices.mesh_of(devices.OnDevices(mesh="data"))


def test_parts_on_a_mesh() -> None:
    one = devices.mesh_of(devices.OnDevices(mesh="data=1"))
    batch = {"x": jnp.arange(12.0).reshape(6, 2), "none": jnp.zeros((6, 0))}
    for found in (devices.apart(batch, 3, None), devices.apart(batch, 3, one)):
        np.testing.assert_array_equal(found["x"], batch["x"].reshape(3, 2, 2))
        assert found["none"].shape == (3, 2, 0)


def test_networks_are_mapped_on_a_mesh() -> None:
    """Any number of networks, whatever the mesh cuts evenly."""
    mesh = devices.mesh_of(devices.OnDevices(mesh="data=1"))
    thetas = {"w": np.arange(10.0).reshape(5, 2)}
    shift = np.array([1.0, 2.0])

    def sums(theta: Any, shift: Any) -> Any:
        return jnp.sum(theta["w"] * shift)

    want = spaces.map_networks(sums, thetas, shift)
    for size in (1, 2, 64):
        got = spaces.map_networks(sums, thetas, shift, batch_size=size, mesh=mesh)
        np.testing.assert_array_equal(got, want)
