"""Folders of the CNN Wild Park and of modelzoos.cc: what is there, what is amiss."""

import json
from pathlib import Path
from typing import Any

import pytest

from qejax.zoo.formats._json import read_json
from qejax.zoo.formats._modelzoos_files import Model, find_models, read_model
from qejax.zoo.formats._wild_park_files import (
    Checkpoint,
    find_checkpoints,
    read_split,
)


def park(root: Path) -> list[Checkpoint]:
    """Two runs with two checkpoints, one without a file, and other files."""
    for run, number in [("b", 2), ("a", 10), ("a", 9), ("b", 1)]:
        folder = root / "cifar10_zooV2" / run / f"checkpoint_{number:06d}"
        folder.mkdir(parents=True)
        (folder / "checkpoint.pt").write_bytes(b"")
    (root / "cifar10_zooV2" / "c" / "checkpoint_000001").mkdir(parents=True)
    (root / "cifar10_zooV2" / "checkpoint.pt").write_bytes(b"")
    (root / "cifar10_zooV2" / "d").symlink_to(root / "cifar10_zooV2" / "a")
    return find_checkpoints(root)


def split_file(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def entries(*names: str) -> dict[str, list[Any]]:
    paths = [f"../../elsewhere/{name}/checkpoint.pt" for name in names]
    steps = [int(name[-3:]) for name in names]
    return {"path": paths, "score": [0.5] * len(names), "step": steps}


A9, A10, B1 = "a/checkpoint_000009", "a/checkpoint_000010", "b/checkpoint_000001"


def test_checkpoints_are_found_by_run_and_number(tmp_path: Path) -> None:
    found = park(tmp_path)
    assert [(entry.run, entry.number) for entry in found] == [
        *(("a", 9), ("a", 10), ("b", 1), ("b", 2)),
    ]
    assert all(entry.path.is_file() for entry in found)
    again = tmp_path / "copy" / "a" / "checkpoint_000009"
    again.mkdir(parents=True)
    (again / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="expected one checkpoint 9 of run 'a', got"):
        find_checkpoints(tmp_path)
    with pytest.raises(ValueError, match="as a CNN Wild Park has them, found none"):
        find_checkpoints(tmp_path / "cifar10_zooV2" / "c")


def test_splits_name_checkpoints_by_their_last_parts(tmp_path: Path) -> None:
    found = park(tmp_path)
    value = {"train": entries(A10, A9), "test": entries(B1)}
    members = read_split(split_file(tmp_path / "splits.json", value), found)
    assert [(m.split, m.checkpoint.run, m.step, m.score) for m in members] == [
        *(("train", "a", 10, 0.5), ("train", "a", 9, 0.5), ("test", "b", 1, 0.5)),
    ]
    assert all(member.checkpoint in found for member in members)


def bad(**columns: Any) -> dict[str, Any]:
    return {"train": entries(A9) | columns}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *(
            (bad(path=[path]), "the path of a checkpoint that is there, got")
            for path in ("/etc/passwd", "a/../../checkpoint.pt", "", "checkpoint.pt")
        ),
        ({"train": entries(A9, A9)}, "every checkpoint once and every run in one"),
        ({"train": entries(A9), "test": entries(A10)}, "run that is in 'train'"),
        *(
            (value, r"should have lists \['path', 'score', 'step'\] of one length")
            for value in ({"train": []}, bad(step=[]), bad(score="x"), {"train": {}})
        ),
        *(
            (value, r"entry 0 should be a path, a score in \[0, 1\] and a step")
            for value in (bad(path=[1]), bad(score=[2]), bad(step=[1.5]))
        ),
        ([], "expected an object in braces as JSON, got list"),
    ],
)
def test_bad_split_files_are_named(tmp_path: Path, value: Any, message: str) -> None:
    path = split_file(tmp_path / "splits.json", value)
    with pytest.raises(ValueError, match=rf"splits\.json: .*{message}"):
        read_split(path, park(tmp_path))


def test_bad_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="expected JSON that can be opened, got"):
        read_json(path, 10)
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(ValueError, match=r"at most 10 bytes of JSON, got more"):
        read_json(path, 10)
    for content in (b"[" * 100_000, b"\xff", b"{", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json: expected whole JSON, got"):
            read_json(path, 10**6)


HYPER = {"model::type": "CNN", "model::nlin": "tanh", "optim::lr": 0.1, "seed": 3}


def model(folder: Path, *lines: Any) -> Path:
    """A model with checkpoints of the epochs 0 and 5, and a folder without one."""
    for epoch in (5, 0):
        checkpoint = folder / f"checkpoint_{epoch:06d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "checkpoints").write_bytes(b"")
    (folder / "checkpoint_000007").mkdir()
    (folder / "checkpoint_000008").symlink_to(folder / "checkpoint_000005")
    (folder / "params.json").write_text(json.dumps(HYPER | {"other": [1]}))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "result.json").write_text(text)
    return folder


def line(epoch: Any, **labels: Any) -> dict[str, Any]:
    return {"training_iteration": epoch, "date": "today", **labels}


def test_models_are_read(tmp_path: Path) -> None:
    lines = [line(0, test_acc=0.5), line(5, test_acc=0, ggap=0.1), line(0, test_acc=1)]
    folder = model(tmp_path / "NN_1", *lines)
    assert find_models(tmp_path) == [folder]
    checkpoints = {n: folder / f"checkpoint_{n:06d}" / "checkpoints" for n in (0, 5)}
    labels = {0: {"test_acc": 1.0}, 5: {"test_acc": 0.0, "ggap": 0.1}}
    got = read_model(folder)
    assert got == Model("NN_1", HYPER, checkpoints, labels)
    assert list(got.checkpoints) == [0, 5]
    with pytest.raises(ValueError, match="expected a folder a model with"):
        find_models(folder)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(0)], r"every epoch that has a checkpoint, got none of \[5\]"),
        ([line("0")], r"line 1: expected an epoch training_iteration and numbers"),
        ([line(0, ggap=10**400)], "line 1: expected an epoch training_iteration"),
        ([line(0), line(5, ggap="x")], "line 2: expected an epoch training_iteration"),
        ([line(0), 5], "line 2: expected an object in braces as JSON, got int"),
    ],
)
def test_bad_results_are_named(tmp_path: Path, lines: Any, message: str) -> None:
    folder = model(tmp_path / "NN_1", *lines)
    with pytest.raises(ValueError, match=rf"result\.json.*{message}"):
        read_model(folder)
    (folder / "result.json").unlink()
    with pytest.raises(ValueError, match="results of the epochs that can be opened"):
        read_model(folder)
