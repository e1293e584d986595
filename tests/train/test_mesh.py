"""Training on a mesh of devices: the numbers of one; any mesh goes on for another."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from qejax import train
from tests.train import killed_run
from tests.train.on_a_mesh import STOPPED

ROOT = Path(__file__).parents[2]


def run(
    tmp_path: Path,
    name: str,
    devices: int,
    mesh: str | None,
    stop: int = 0,
    stream: bool = False,
    predictor: bool = False,
) -> dict[str, Any]:
    """A run in `name`, or what is left of one there; empty if it was stopped."""
    result = tmp_path / f"{name}.json"
    line = [sys.executable, "-m", "tests.train.on_a_mesh", str(tmp_path / name)]
    line += [str(result), "--devices", str(devices), "--stop", str(stop)]
    line += [] if mesh is None else ["--mesh", mesh]
    line += ["--stream"] * stream + ["--predictor"] * predictor
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == (STOPPED if stop else 0), done.stderr
    return {} if stop else json.loads(result.read_text())


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("one"), "run", 1, None)


def gap(a: dict[str, Any], b: dict[str, Any]) -> float:
    losses = np.abs(np.array(a["losses"]) - np.array(b["losses"]))
    params = [
        np.abs(np.array(x) - np.array(y)).max()
        for x, y in zip(a["params"], b["params"], strict=True)
    ]
    return float(max(losses.max(), *params))


@pytest.mark.parametrize("mesh", ["data=-1", "data=4,model=-1"])
@pytest.mark.one_in(3)
def test_eight_devices_train_as_one(
    tmp_path: Path, one: dict[str, Any], mesh: str
) -> None:
    got = run(tmp_path, "run", 8, mesh)
    assert got["devices"] == 8
    assert gap(got, one) < 1e-5
    cut = "model" in mesh
    assert any("model" in spec for spec in got["over"]) == cut
    # A control: other losses are told apart.
    assert gap(got, {**one, "losses": [x + 1e-4 for x in one["losses"]]}) > 1e-5


@pytest.mark.slow
def test_batches_are_cut_unevenly_too(tmp_path: Path, one: dict[str, Any]) -> None:
    """Sixteen examples on three devices; then one device goes on."""
    run(tmp_path, "run", 3, "data=-1", stop=31)
    got = run(tmp_path, "run", 1, None)
    assert got["resumed_from"]
    assert gap(got, one) < 1e-5


def test_a_mesh_goes_on_to_the_bit(tmp_path: Path) -> None:
    whole = run(tmp_path, "whole", 4, "data=2,model=2")
    run(tmp_path, "cut", 4, "data=2,model=2", stop=23)
    again = run(tmp_path, "cut", 4, "data=2,model=2")
    assert again["resumed_from"]
    assert gap(whole, again) == 0.0


def test_another_mesh_goes_on(tmp_path: Path, one: dict[str, Any]) -> None:
    """Eight devices, then four otherwise cut, then one."""
    run(tmp_path, "cut", 8, "data=-1", stop=12)
    run(tmp_path, "cut", 4, "data=2,model=2", stop=31)
    last = run(tmp_path, "cut", 1, None)
    assert last["resumed_from"] >= 20
    assert gap(last, one) < 1e-5


def test_streams_train_on_a_mesh(tmp_path: Path) -> None:
    one = run(tmp_path, "one", 1, None, stream=True)
    run(tmp_path, "cut", 4, "data=2,model=2", stop=12, stream=True)
    got = run(tmp_path, "cut", 4, "data=-1", stream=True)
    assert got["resumed_from"]
    assert gap(got, one) < 1e-5


def test_meshes_that_are_none_are_named() -> None:
    two = [jax.devices()[0]] * 2
    for text in ("", "data", "data=0", "batch=2", "data=2,model=x", "data=--2"):
        with pytest.raises(ValueError, match="expected AXIS=SIZE pairs of 'data' and"):
            train.make_mesh(text, two)
    for text in ("data=3", "data=-1,model=-1", "data=-1,model=3", "model=1"):
        with pytest.raises(ValueError, match="product is the number of devices, 2"):
            train.make_mesh(text, two)


def test_parameters_are_cut_inside_of_a_process() -> None:
    hosts: Any = [SimpleNamespace(process_index=at // 2) for at in range(4)]
    with pytest.raises(ValueError, match="a multiple of the 2 processes, so that each"):
        train.make_mesh("data=1,model=4", hosts)


def test_streams_that_cannot_be_cut_are_named() -> None:
    mesh: Any = jax.sharding.AbstractMesh((3, 1), ("data", "model"))
    batches = killed_run.streamed(killed_run.make_data()[0], 16, None)
    with pytest.raises(ValueError, match="expected batches of a multiple of the 3"):
        train.fit_stream(
            killed_run.loss_fn,
            killed_run.init(jax.random.key(0)),
            batches,
            train.FitConfig(steps=1, batch_size=16, eval_every=1),
            optimizer=optax.sgd(0.1),
            mesh=mesh,
        )


def test_the_longest_axis_that_is_even_is_cut() -> None:
    """Of large arrays; and small ones are whole."""
    mesh: Any = jax.sharding.AbstractMesh((1, 4), ("data", "model"))
    shapes = {
        "wide": (6, 2**18),
        "tall": (1200, 800),
        "odd": (1025, 1023),
        "small": (512, 508),
        "": (),
    }
    leaves = {name: jax.ShapeDtypeStruct(x, np.float32) for name, x in shapes.items()}
    found = train.state_shardings(mesh, leaves)
    assert {name: x.spec for name, x in found.items()} == {
        "wide": P(None, "model"),
        "tall": P("model"),
        "odd": P(),
        "small": P(),
        "": P(),
    }
