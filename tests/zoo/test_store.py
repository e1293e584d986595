"""Storing and reading: exact, whole or not at all, one order from memory and disk."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qejax import nets, zoo
from qejax.spaces import Axis, Leaf, WeightSpec
from tests.zoo.random_zoo import random_zoo

NET = nets.cnn(1, (2,), 2, head="flatten", image=(3, 3), num_outputs=3)
COUNT = 23


def _zoo(seed: int = 0) -> zoo.Zoo:
    return random_zoo(NET, COUNT, seed)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store") / "zoo"
    return zoo.store(root, {"a": _zoo(), "b": _zoo(1)}, config={"why": "test"})


def _assert_equal(got: zoo.Zoo, want: zoo.Zoo) -> None:
    np.testing.assert_array_equal(got.vectors(), want.vectors())
    for name in ("labels", "hyper"):
        have, expected = getattr(got, name), getattr(want, name)
        assert list(have) == sorted(expected)
        for key, column in expected.items():
            np.testing.assert_array_equal(have[key], column)
            assert have[key].dtype == column.dtype
    np.testing.assert_array_equal(got.split, want.split)
    np.testing.assert_array_equal(got.ids, want.ids)
    assert (got.network, got.source) == (want.network, want.source)


def test_what_is_read_is_what_was_stored(stored: Path) -> None:
    assert zoo.buckets(stored) == ("a", "b")
    read = zoo.read_all(stored)
    _assert_equal(read["a"], _zoo())
    _assert_equal(read["b"], _zoo(1))
    assert read["a"].labels["test_accuracy"].dtype == np.float32
    assert json.loads((stored / "manifest.json").read_text())["config"] == {
        "why": "test"
    }


def test_tfds_alone_reads_it(stored: Path) -> None:
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder("qejax_zoo/a", data_dir=stored)
    source = builder.as_data_source("test")
    want = _zoo().select("test")
    np.testing.assert_array_equal(source[1]["theta"], want.vectors()[1])
    assert source[1]["id"].decode() == want.ids[1]


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("split", ["train", "test"])
def test_memory_and_disk_have_one_order(
    stored: Path, split: str, seed: int | None
) -> None:
    kwargs: Any = {"seed": seed, "epochs": 2}
    memory = list(zoo.batches(zoo.read(stored, "a"), split, 4, **kwargs))
    disk = list(zoo.stream(stored, split, 4, bucket="a", **kwargs))
    assert len(memory) == len(disk) > 1
    for one, other in zip(memory, disk, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(
            zoo.to_vectors(NET.spec, one.thetas), zoo.to_vectors(NET.spec, other.thetas)
        )
        for name in one.labels:
            np.testing.assert_array_equal(one.labels[name], other.labels[name])
    ids = np.concatenate([batch.ids for batch in memory])
    want = _zoo().select(split).ids
    if seed is None:
        assert ids.tolist() == [*want, *want]
    else:
        half = len(want)
        assert sorted(ids[:half]) == sorted(ids[half:]) == sorted(want)
        assert ids[:half].tolist() != ids[half:].tolist()


def test_an_empty_split_streams_nothing(tmp_path: Path) -> None:
    only = _zoo().select("train")
    root = zoo.store(tmp_path / "zoo", {"a": only})
    assert list(zoo.stream(root, "val", 4)) == []
    assert list(zoo.batches(zoo.read(root), "val", 4)) == []


def test_nothing_half_written_stays_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qejax.zoo import _store

    written: list[str] = []
    real = _store.write_bucket

    def fail_late(root: Path, name: str, bucket: Any) -> Any:
        if written:
            raise KeyboardInterrupt
        written.append(name)
        return real(root, name, bucket)

    monkeypatch.setattr(_store, "write_bucket", fail_late)
    with pytest.raises(KeyboardInterrupt):
        zoo.store(tmp_path / "zoo", {"a": _zoo(), "b": _zoo()})
    assert written == ["a"]
    assert list(tmp_path.iterdir()) == []


def test_networks_of_other_libraries_are_not_stored(tmp_path: Path) -> None:
    """Nothing could build them again."""
    good = _zoo()
    stand_in: Any = SimpleNamespace(spec=NET.spec)
    fixed = tuple(
        Leaf(leaf.path, tuple(Axis(n) for n in leaf.stored)) for leaf in NET.spec.leaves
    )
    other_spec = replace(NET, spec=WeightSpec((), fixed))
    for network, got in (
        (stand_in, r"SimpleNamespace"),
        (other_spec, r"a spec that is not that of CNNConfig"),
    ):
        bad = replace(good, network=network, normal=None)
        with pytest.raises(
            ValueError,
            match=rf"'a': zoos on disk hold networks of `qejax.nets`, .* got .*{got}.*"
            r"keep the stacked parameters, .* `models.Predictor\(spec",
        ):
            zoo.store(tmp_path / "zoo", {"a": bad})
    assert list(tmp_path.iterdir()) == []


def test_bad_zoos_are_not_stored(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    good = _zoo()
    spoilt = good.vectors()
    spoilt[4, 2] = np.inf
    cases = [
        (
            replace(good, thetas=zoo.from_vectors(NET.spec, spoilt)),
            r"bucket 'a': weights should be finite.*'net_4' \(row 4; 1 such",
        ),
        (
            replace(good, labels={"test_accuracy": np.full(COUNT, np.nan)}),
            "label 'test_accuracy' should be finite",
        ),
        (
            replace(good, labels={"test_accuracy": np.full(COUNT, 3.5)}),
            r"bucket 'a': label 'test_accuracy' should be in \[0, 1\], got 3.5 for",
        ),
        (
            replace(good, labels={"train_accuracy": np.full(COUNT, -0.1)}),
            r"label 'train_accuracy' should be in \[0, 1\], got -0.1 .* 23 such rows",
        ),
        (
            replace(good, ids=np.array(["same"] * COUNT)),
            "ids should be unique, got 'same' 23 times",
        ),
    ]
    for bad, message in cases:
        with pytest.raises(ValueError, match=message):
            zoo.store(root, {"a": bad})
    with pytest.raises(ValueError, match="at least one bucket"):
        zoo.store(root, {})
    for name in ("re lu", "../relu", "", "relu\n", "rélu", 3):
        names: Any = {"a": good, name: good}
        with pytest.raises(ValueError, match=r"zoo, buckets: names are letters, dig"):
            zoo.store(root, names)
    assert list(tmp_path.iterdir()) == []
    root.mkdir()
    (root / "thesis.txt").write_text("")
    with pytest.raises(FileExistsError, match=r"new or empty folder.*thesis.txt"):
        zoo.store(root, {"a": good})
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]


def test_unknown_names_are_named(stored: Path) -> None:
    with pytest.raises(
        ValueError, match=r"expected one of the buckets \['a', 'b'\], got 'c'"
    ):
        zoo.read(stored, "c")
    with pytest.raises(ValueError, match=r"buckets \['a', 'b'\], got None"):
        zoo.read(stored)
    with pytest.raises(ValueError, match="split 'dev' is unknown"):
        zoo.stream(stored, "dev", 4, bucket="a")
    with pytest.raises(ValueError, match="split 'dev' is unknown"):
        _zoo().rows("dev")
