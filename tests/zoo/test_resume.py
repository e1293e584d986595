"""What `generate` is given and finds on disk: checked before it trains, then used."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import _generate

CONFIG = zoo.ZooConfig(
    {"relu": nets.MLPConfig((6, 4, 3)), "wide": nets.MLPConfig((6, 5, 4))},
    count=10,
    steps=(1, 5),
    batch=8,
    chunk=4,
)


def _data() -> zoo.Data:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 30)
    return zoo.Data(rng.normal(size=(30, 3, 2)), y, rng.normal(size=(30, 6)), y)


def _with(array: np.ndarray, value: float) -> np.ndarray:
    changed = np.array(array)
    changed.flat[-1] = value
    return changed


class Stop(Exception):
    """Stands for Ctrl-C."""


def _start(out: Path) -> Path:
    """Trains one chunk; returns the folder of the unfinished zoo."""

    def stop(at: zoo.Progress) -> None:
        raise Stop

    with pytest.raises(Stop):
        zoo.generate(CONFIG, _data(), out, stop)
    return out.with_name(f"{out.name}.partial")


def _goes_on(out: Path) -> list[bool]:
    """Returns which chunks were found on disk."""
    seen: list[zoo.Progress] = []
    zoo.generate(CONFIG, _data(), out, seen.append)
    return [at.resumed for at in seen]


GOOD = _data()
BAD_DATA: list[tuple[dict[str, Any], str]] = [
    ({"train_y": GOOD.train_y[:-1]}, "data.train_y: expected one integer label for"),
    ({"train_y": GOOD.train_y.astype(float)}, "data.train_y: expected one integer"),
    ({"train_y": GOOD.train_y[:, None]}, "data.train_y: expected one integer label"),
    ({"train_y": _with(GOOD.train_y, -1)}, "train_y: .*0 to 2, .* got -1 in row 29"),
    # The other bucket has an output for it.
    ({"test_y": _with(GOOD.test_y, 3)}, "test_y: .*outputs of bucket 'relu', got 3"),
    ({"train_x": _with(GOOD.train_x, np.nan)}, r"train_x: .*finite.* row 29 \(1 such"),
    ({"test_x": _with(GOOD.test_x, 1e300)}, "data.test_x: expected inputs that are"),
    (
        {"train_x": GOOD.train_x[:, :2]},
        r"data.train_x, 'relu': the inputs of shape \(30, 2, 2\) do not fit",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD_DATA)
def test_bad_data_is_named_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.generate(CONFIG, _data()._replace(**change), tmp_path / "zoo")
    assert list(tmp_path.iterdir()) == []


def _saved(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as part:
        return {name: part[name] for name in part.files}


@pytest.mark.parametrize("damage", ["key", "more", "rows", "width", "dtype", "array"])
def test_a_chunk_of_another_form_is_trained_again(tmp_path: Path, damage: str) -> None:
    path = _start(tmp_path / "zoo") / "relu-00000.npz"
    good = _saved(path)
    part: Any = dict(good)
    if damage == "key":
        del part["theta"]
    elif damage == "more":
        part["speed"] = part["test_loss"]
    elif damage == "rows":
        part = {name: array[:-1] for name, array in part.items()}
    elif damage == "width":
        part["theta"] = part["theta"][:, 1:]
    elif damage == "dtype":
        part["theta"] = part["theta"].astype(str)
    with path.open("wb") as file:
        if damage == "array":
            np.save(file, good["theta"])
        else:
            np.savez(file, **part)
    assert _goes_on(tmp_path / "zoo") == [False] * 6


def test_a_chunk_as_it_was_written_is_kept(tmp_path: Path) -> None:
    """A control for the test above."""
    _start(tmp_path / "zoo")
    assert _goes_on(tmp_path / "zoo") == [True] + [False] * 5


def test_a_torn_recipe_is_named(tmp_path: Path) -> None:
    partial = _start(tmp_path / "zoo")
    path = partial / "recipe.json"
    for text in (path.read_text()[:-9], "[" * 100_000):
        path.write_text(text)
        with pytest.raises(
            ValueError, match=r"recipe.json: expected JSON that tells .* to start again"
        ):
            _goes_on(tmp_path / "zoo")
    path.write_text(json.dumps([]))
    with pytest.raises(ValueError, match="holds another zoo: zoo should be"):
        _goes_on(tmp_path / "zoo")
    path.unlink()
    with pytest.raises(
        ValueError, match=r"expected recipe.json beside .*, found none and relu-00000"
    ):
        _goes_on(tmp_path / "zoo")


def test_drafts_of_two_processes_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    real = os.replace

    def replaced(source: Path, target: Path) -> None:
        moved.append(source.name)
        real(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    _start(tmp_path / "zoo")
    assert moved == [
        f"{name}.draft-{os.getpid()}" for name in ("recipe.json", "relu-00000.npz")
    ]


@pytest.mark.parametrize("dropout", [(0.0, 0.5), (0.0, 0.0)])
def test_one_compilation_serves_all_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropout: tuple[float, float]
) -> None:
    """Chunks differ in their number of steps, and the last one is not full."""
    calls: list[Any] = []
    make = _generate.make_program

    def recorded(net: nets.Network, with_dropout: bool) -> Any:
        # Unwrapped: a program of its own, with an empty cache.
        program: Any = make.__wrapped__(net, with_dropout)

        def call(*args: Any) -> Any:
            calls.append(program)
            return program(*args)

        return call

    monkeypatch.setattr(_generate, "make_program", recorded)
    zoo.generate(replace(CONFIG, dropout=dropout), _data(), tmp_path / "zoo")
    assert len(calls) == 6
    assert [program._cache_size() for program in calls] == [1] * 6
    assert len({id(program) for program in calls}) == 2
