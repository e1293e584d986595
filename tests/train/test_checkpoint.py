"""Checkpoints come back to the bit, and damage is named instead of read."""

import gc
import hashlib
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qejax.train import (
    Checkpoint,
    Checkpointer,
    CheckpointError,
    CheckpointWarning,
    _checkpoint,
)


def tree(seed: float = 0.0) -> dict[str, Any]:
    params = {
        "block_00": {"kernel": jnp.full((3, 2), float(seed)), "bias": jnp.arange(2.0)}
    }
    return {
        "params": params,
        "opt_state": optax.adamw(1e-3).init(params),
        "half": jnp.full((2,), 1.5, jnp.bfloat16),
        "empty": jnp.zeros((0, 3)),
        "count": jnp.int32(7),
        "key": jax.random.key(5),
    }


def assert_same(got: Any, want: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def restore(directory: Path, **templates: Any) -> Checkpoint:
    with Checkpointer(directory) as store:
        found = store.restore(templates)
    assert found is not None
    return found


def save(directory: Path, *steps: int, keep: int = 2) -> None:
    with Checkpointer(directory, keep=keep) as store:
        for step in steps:
            store.save(step, {"state": tree(step)}, {"note": [step, None]})


def test_trees_and_metadata_come_back(tmp_path: Path) -> None:
    with Checkpointer(tmp_path) as store:
        assert store.restore({"state": tree()}) is None
        store.save(
            3, {"state": tree(3.0), "best": {"a": jnp.ones(2)}}, {"x": [1, None]}
        )
        store.wait()
        assert store.steps() == [3]
    found = restore(tmp_path, state=tree(), best={"a": jnp.zeros(2)})
    assert found.step == 3
    assert found.metadata == {"x": [1, None]}
    assert_same(found.trees["state"], tree(3.0))
    assert_same(found.trees["best"], {"a": jnp.ones(2)})


def test_shapes_are_template_enough_and_trees_can_be_left_out(tmp_path: Path) -> None:
    save(tmp_path, 1)
    found = restore(tmp_path, state=jax.eval_shape(lambda: tree()))
    assert_same(found.trees["state"], tree(1.0))
    assert restore(tmp_path).trees == {}


def test_stored_trees_are_nested_dicts_with_string_keys(tmp_path: Path) -> None:
    save(tmp_path, 1)
    meta = json.loads((tmp_path / "1" / "meta" / "metadata").read_text())
    paths = meta["trees"]["state"]
    assert "params/block_00/kernel" in paths
    assert "opt_state/0/mu/block_00/kernel" in paths
    assert "empty" not in paths


def test_the_newest_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 10, 20, 30, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["30", "40"]
    save(tmp_path, 50, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["50"]
    with pytest.raises(ValueError, match=r"keep=.*expected >= 1, got 0"):
        Checkpointer(tmp_path, keep=0)


def test_arrays_may_be_donated_after_save(tmp_path: Path) -> None:
    bump = jax.jit(lambda a: a + 1, donate_argnums=0)
    value = jnp.zeros(1000)
    with Checkpointer(tmp_path) as store:
        store.save(1, {"state": {"a": value}}, {})
        for _ in range(5):
            value = bump(value)
    found = restore(tmp_path, state={"a": value})
    assert_same(found.trees["state"]["a"], np.zeros(1000))


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    with Checkpointer(tmp_path) as store:
        store.save(1, {"state": {"a": jnp.zeros(2)}}, {"first": True})
        store.save(1, {"state": {"a": jnp.ones(2)}}, {"first": False})
    assert restore(tmp_path).metadata == {"first": True}


def test_empty_and_stray_directories_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "9998").mkdir()
    (tmp_path / "9999").mkdir()
    (tmp_path / "9999" / "notes.txt").write_text("mine")
    (tmp_path / "8.orbax-checkpoint-tmp-1").mkdir()
    save(tmp_path, 7, 8, 9)
    found = restore(tmp_path, state=tree())
    assert found.step == 9
    assert_same(found.trees["state"], tree(9.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["8", "9", "9999"]
    assert (tmp_path / "9999" / "notes.txt").read_text() == "mine"


def test_a_stray_directory_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "notes.txt").write_text("mine")
    with (
        Checkpointer(tmp_path) as store,
        pytest.raises(
            ValueError, match=r"/5: expected no such directory before step 5"
        ),
    ):
        store.save(5, {"state": tree()}, {})
    assert (tmp_path / "5" / "notes.txt").read_text() == "mine"


def test_the_name_of_the_metadata_is_taken(tmp_path: Path) -> None:
    with (
        Checkpointer(tmp_path) as store,
        pytest.raises(ValueError, match="expected trees under other names than 'meta'"),
    ):
        store.save(5, {"meta": tree()}, {})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"count": jnp.zeros(2)},
            r"'state' of step 1 do not fit the model: at 'count': expected",
        ),
        ({"more": jnp.zeros(2)}, r"missing leaves \['more'\]"),
        ({"count": jnp.float32(0)}, r"'count': expected float32, got int32"),
        ({"key": jax.random.key(0, impl="rbg")}, r"'key': expected shape \(4,\), got"),
    ],
)
def test_a_tree_must_fit_its_template(tmp_path: Path, change: Any, match: str) -> None:
    save(tmp_path, 1)
    with Checkpointer(tmp_path) as store, pytest.raises(ValueError, match=match):
        store.restore({"state": {**tree(), **change}})


def truncate(path: Path) -> None:
    for file in (path / "state" / "d").iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(path: Path) -> None:
    for file in (path / "state" / "d").iterdir():
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))


def change_value(path: Path) -> None:
    """What a flipped byte does where orbax does not see it."""
    meta = json.loads((path / "meta" / "metadata").read_text())
    meta["checksums"]["state"] = "00000000"
    (path / "meta" / "metadata").write_text(json.dumps(meta))


def change_note(path: Path) -> None:
    """Of the best so far, say."""
    meta = json.loads((path / "meta" / "metadata").read_text())
    meta["metadata"]["note"] = [21, None]
    (path / "meta" / "metadata").write_text(json.dumps(meta))


def flip_value(path: Path) -> None:
    """As if another value had been read, with metadata that are whole."""
    file = path / "meta" / "metadata"
    meta = json.loads(file.read_text())
    del meta["sha256"]
    meta["checksums"]["state"] = "00000000"
    text = json.dumps(meta, sort_keys=True)
    meta["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps(meta))


def drop_state(path: Path) -> None:
    shutil.rmtree(path / "state")


def drop_meta(path: Path) -> None:
    shutil.rmtree(path / "meta")


# orbax closes its event loop while other reads of the broken file still report to it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage", [truncate, flip, change_value, change_note, drop_state, drop_meta]
)
def test_the_newest_intact_one_is_gone_on_with(tmp_path: Path, damage: Any) -> None:
    save(tmp_path, 10, 20)
    damage(tmp_path / "20")
    message = r"/20 is damaged \(.*set aside as 20\.damaged, going on from step 10"
    with Checkpointer(tmp_path) as store:
        with pytest.warns(CheckpointWarning, match=message):
            found = store.restore({"state": tree()})
        assert found is not None
        assert_same(found.trees["state"], tree(10.0))
        assert found.metadata == {"note": [10, None]}
        # The step can be saved again.
        assert store.steps() == [10]
        store.save(20, {"state": tree(20.0)}, {})
    time.sleep(0.1)
    gc.collect()
    assert_same(restore(tmp_path, state=tree()).trees["state"], tree(20.0))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["10", "20", "20.damaged"]
    # Once more: the name is taken.
    damage(tmp_path / "20")
    with pytest.warns(CheckpointWarning, match=r"set aside as 20\.damaged1"):
        assert restore(tmp_path, state=tree()).step == 10
    time.sleep(0.1)
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_flipped_byte_restores_a_wrong_number(tmp_path: Path) -> None:
    """One byte of any file: the same values, or those of the checkpoint before."""
    save(tmp_path / "good", 10, 20)
    files = sorted(p for p in (tmp_path / "good" / "20").rglob("*") if p.is_file())
    draw, seen = np.random.default_rng(0), set()
    for number in range(2 * len(files)):
        here = tmp_path / f"run_{number}"
        shutil.copytree(tmp_path / "good", here)
        path = here / files[number % len(files)].relative_to(tmp_path / "good")
        data = bytearray(path.read_bytes())
        if data:
            data[draw.integers(len(data))] ^= 1 << int(draw.integers(8))
        path.write_bytes(bytes(data))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = restore(here, state=tree())
        assert_same(found.trees["state"], tree(float(found.step)))
        assert found.metadata == {"note": [found.step, None]}
        assert any(w.category is CheckpointWarning for w in told) == (found.step == 10)
        seen.add(found.step)
    assert seen == {10, 20}
    time.sleep(0.1)
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_note, "its metadata were changed.*No older one is whole: delete"),
        (flip_value, "the values of 'state' were changed"),
        (drop_state, "a file cannot be read, "),
    ],
)
def test_without_an_intact_one_everything_stays(
    tmp_path: Path, damage: Any, message: str
) -> None:
    save(tmp_path, 1)
    damage(tmp_path / "1")
    with Checkpointer(tmp_path) as store, pytest.raises(CheckpointError, match=message):
        store.restore({"state": tree()})
    time.sleep(0.1)
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_metadata_of_something_else_are_named(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "1" / "meta" / "metadata").write_text("{}")
    with (
        Checkpointer(tmp_path) as store,
        pytest.raises(
            CheckpointError, match=r"/1 is damaged: .*its metadata lack 'trees'"
        ),
    ):
        store.restore({"state": tree()})


def test_a_directory_that_some_do_not_see_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_checkpoint, "agree", lambda seen: np.array([[seen], [False]]))
    with pytest.raises(ValueError, match="expected a directory that every process"):
        Checkpointer(tmp_path / "run")
