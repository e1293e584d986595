"""How a process finds out that it is one of many, and that it was told half of it."""

import os
import signal
import subprocess
import sys
import time

import jax
import pytest

from qejax import train
from tests import processes

EXPLICIT = {
    "JAX_COORDINATOR_ADDRESS": "host:1234",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}
SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


def test_ways_to_be_started() -> None:
    assert train.find_launch({}, on_tpu=False) is None
    assert train.find_launch({}, on_tpu=True) == train.Launch("TPU", {})
    assert train.find_launch(SLURM, on_tpu=False) == train.Launch("SLURM", {})
    got = train.find_launch(SLURM | EXPLICIT, on_tpu=True)
    assert got is not None
    assert got.name == "explicit"
    assert got.arguments == {
        "coordinator_address": "host:1234",
        "num_processes": 4,
        "process_id": 3,
    }


def test_one_process_is_alone() -> None:
    alone = {"JAX_NUM_PROCESSES": "1"}
    assert train.find_launch(SLURM | alone, on_tpu=True) is None
    assert train.find_launch({"SLURM_NTASKS": "1"}, on_tpu=False) is None


@pytest.mark.parametrize("missing", EXPLICIT)
def test_half_of_what_is_explicit_is_named(missing: str) -> None:
    half = {name: value for name, value in EXPLICIT.items() if name != missing}
    text = rf"started by explicit: expected the variables .* without \['{missing}'\]"
    with pytest.raises(ValueError, match=text):
        train.find_launch(half, on_tpu=True)


def test_a_job_of_many_tasks_without_srun_is_named() -> None:
    batch = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
    with pytest.raises(ValueError, match=r"without .*Start it with `srun`"):
        train.find_launch(batch, on_tpu=False)


@pytest.mark.parametrize("index", ["4", "-1", "first"])
def test_numbers_that_are_none_are_named(index: str) -> None:
    with pytest.raises(ValueError, match="expected numbers in"):
        train.find_launch(EXPLICIT | {"JAX_PROCESS_ID": index}, on_tpu=False)


def test_an_address_without_a_port_is_named() -> None:
    told = {**EXPLICIT, "JAX_COORDINATOR_ADDRESS": "localhost"}
    with pytest.raises(ValueError, match="expected HOST:PORT in JAX_COORDINATOR_ADDR"):
        train.find_launch(told, on_tpu=False)


def test_signals_end_the_wait_for_others() -> None:
    """It is a wait outside of Python; a line says what it is for."""
    told = {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{processes.free_port()}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
    }
    where = told["JAX_COORDINATOR_ADDRESS"]
    code = "from experiments.command import start; start()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=processes.ROOT,
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as one:
        assert one.stdout is not None
        assert one.stderr is not None
        said = next(text for text in one.stdout if "waits for the others" in text)
        time.sleep(1)
        one.send_signal(signal.SIGTERM)
        rest = one.stderr.read()
    assert f"process 1 of 2 waits for the others at {where}, for 300 s" in said
    assert one.returncode == -signal.SIGTERM
    assert "or could not be reached. Start all of them again" in rest


def test_others_that_cannot_be_reached_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jax.devices()  # from now on it is too late to join others
    for name, value in EXPLICIT.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(train.PeerError, match="expected to reach the others with"):
        train.start_processes()


def test_a_process_alone_says_so() -> None:
    assert train.start_processes().startswith("process 0 of 1, alone: 1 of 1 cpu")
