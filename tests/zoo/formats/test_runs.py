"""Checkpoints of one run are told by their names, and nothing else is joined."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import files, formats
from qejax.zoo._listing import listed as _listed
from qejax.zoo.formats._runs import runs_of
from tests.zoo.random_zoo import random_zoo

NET = nets.mlp((3, 4, 2), activation="tanh")


@pytest.mark.parametrize(
    "names",
    [
        ["net_0", "net_1", "net_2"],
        ["0", "1", "2"],
        ["train/0", "train/1", "test/0", "test/1"],
        ["seed_1/0", "seed_1/1"],
        ["run_0/1", "run_1/2"],
        ["timestep_3", "replicate_3", "deep3"],
        ["a/best", "b/best", "a/last", "model"],
        ["a/model", "b/model"],
        [f"epoch_{'9' * 19}"],
    ],
)
def test_independent_networks_stay(names: list[str]) -> None:
    assert runs_of(names, "zoo") == [(name, -1) for name in names]


@pytest.mark.parametrize(
    ("names", "runs", "steps"),
    [
        (["r/epoch_1", "r/epoch_02", "s/epoch_1"], ["r", "r", "s"], [1, 2, 1]),
        (["epoch_1", "step-2", "ckpt3", "Iter=4"], ["zoo"] * 4, [1, 2, 3, 4]),
        (["a_step-1", "a_step-2", "b_ep1", "a"], ["a", "a", "b", "a"], [1, 2, 1, -1]),
        (["r/checkpoint-5/m", "r/m", "s/m"], ["r/m", "r/m", "s/m"], [5, -1, -1]),
        (["r/epoch=3-step=9", "r/epoch=4-val_loss=0.1"], ["r", "r"], [9, 4]),
        (
            ["r/epoch_1", "r/last", "r/best_model", "r/model-best", "r/x", "last"],
            ["r", "r", "r", "r", "r/x", "last"],
            [1, -1, -1, -1, -1, -1],
        ),
        (
            ["run_0/1/m", "run_0/2/m", "run_1/1/m", "x/1/m"],
            ["run_0/m", "run_0/m", "run_1/m", "x/1/m"],
            [1, 2, 1, -1],
        ),
        (["0/1", "0/2", "1/1", "1/2"], ["0", "0", "1", "1"], [1, 2, 1, 2]),
    ],
)
def test_checkpoints_are_joined(
    names: list[str], runs: list[str], steps: list[int]
) -> None:
    assert runs_of(names, "zoo") == list(zip(runs, steps, strict=True))


def folder(root: Path, *names: str) -> Path:
    vectors = random_zoo(NET, len(names)).vectors()
    for name, vector in zip(names, vectors, strict=True):
        path = root / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_safetensors(path, formats.from_vector(NET, vector))
    return root


def listed(root: Path, **options: Any) -> zoo.Listing:
    address = f"safetensors:{root}"
    found = formats.list_networks(address, activation="tanh", **options)
    return found.listings["networks"]


def test_a_run_is_in_one_split(tmp_path: Path) -> None:
    names = [f"run_{run}/epoch_{n}" for run in range(5) for n in (1, 2, 3)]
    root = folder(tmp_path, *names, "run_0/last")
    for seed in range(3):
        one = listed(root, split_seed=seed)
        assert set(one.runs.tolist()) == {f"run_{run}" for run in range(5)}
        for run in np.unique(one.runs):
            assert len(set(one.split[one.runs == run].tolist())) == 1
    one = listed(root)
    assert one.hyper["step"].tolist() == [1, 2, 3, -1, *([1, 2, 3] * 4)]
    second = listed(root, checkpoint="2")
    assert second.ids.tolist() == [f"run_{run}/epoch_2" for run in range(5)]


def test_the_table_knows_better(tmp_path: Path) -> None:
    root = folder(tmp_path, "epoch_1", "epoch_2")
    assert listed(root).runs.tolist() == [tmp_path.name] * 2
    lines = ["file,run,step", "epoch_1,a,10", "epoch_2,b,20"]
    (root / "labels.csv").write_text("\n".join(lines))
    one = listed(root)
    assert one.runs.tolist() == ["a", "b"]
    assert one.hyper["step"].tolist() == [10, 20]


def test_adapters_of_one_run(tmp_path: Path) -> None:
    ids = [f"r{run}/checkpoint-{step}" for run in (0, 1) for step in (5, 10)]
    made = random_zoo(nets.lora([("q_proj", 4, 5, 2)], 0.5), 4)
    want = zoo.Found({"a": _listed(replace(made, ids=np.array(ids)))}, (), "", "")
    root = formats.export(want, f"peft:{tmp_path / 'out'}")
    (root / "labels.csv").unlink()
    (one,) = formats.list_networks(f"peft:{root}").listings.values()
    assert one.runs.tolist() == ["r0", "r0", "r1", "r1"]
