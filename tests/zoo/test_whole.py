"""Prepared zoos of which some files are damaged: what is whole is listed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import _parts, _shards
from qejax.zoo._listing import listed
from tests.zoo.random_zoo import random_zoo

NET = nets.mlp((3, 4, 2))
COUNT = 40


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_shards, "SHARD_NETWORKS", 5)
    zoos = {"a": random_zoo(NET, COUNT, 0), "b": random_zoo(NET, COUNT, 1)}
    return zoo.store(tmp_path / "zoo", zoos)


def place(root: Path, bucket: str, name: str) -> Path:
    (found,) = (root / "qejax_zoo" / bucket).rglob(f"*{name}*")
    return found


def damage(path: Path) -> str:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    return path.name


def by_name(one: zoo.Listing) -> dict[str, np.ndarray]:
    vectors = one.read(np.arange(len(one))).vectors
    return dict(zip(one.ids.tolist(), vectors, strict=True))


def test_a_whole_zoo_is_listed_whole(root: Path) -> None:
    wrong = zoo.wrong_files(root)
    assert wrong == {}
    found = zoo.list_whole(root, wrong)
    for name, one in zoo.list_prepared(root).listings.items():
        got, want = by_name(found.listings[name]), by_name(one)
        assert set(got) == set(want)
        for network in want:
            np.testing.assert_array_equal(got[network], want[network])


def test_networks_of_whole_shards_are_listed(root: Path) -> None:
    whole = by_name(zoo.list_prepared(root).listings["a"])
    labels = zoo.read(root, "a")
    test = zoo.notes(root, "a")["splits"]["test"]
    first = damage(place(root, "a", "train.array_record-00001"))
    second = place(root, "a", "test.array_record-00000")
    second.unlink()
    third = place(root, "a", "val.array_record-00000")
    third.write_bytes(third.read_bytes()[:-9])
    wrong = zoo.wrong_files(root)
    assert [Path(name).name for name in wrong["a"]] == [second.name, first, third.name]
    assert list(wrong) == ["a"]
    why = list(wrong["a"].values())
    assert "not on disk" in why[0]
    assert "is damaged: expected SHA-256" in why[1]
    found = zoo.list_whole(root, wrong)
    assert (found.problems, len(found.listings["b"])) == ((), COUNT)
    one = found.listings["a"]
    assert len(one) == COUNT - 5 - 5 - len(zoo.notes(root, "a")["splits"]["val"])
    assert not set(one.ids) & set(test[:5])
    assert set(one.ids[one.split == zoo.SPLITS["test"]]) == set(test[5:])
    for network, vector in by_name(one).items():
        np.testing.assert_array_equal(vector, whole[network])
    rows = [labels.ids.tolist().index(name) for name in one.ids.tolist()]
    np.testing.assert_array_equal(
        one.labels["test_accuracy"], labels.labels["test_accuracy"][rows]
    )


def test_a_bucket_that_nothing_can_be_read_of(root: Path) -> None:
    damage(place(root, "a", "features.json"))
    damage(place(root, "b", "test.array_record-00000"))
    found = zoo.list_whole(root, zoo.wrong_files(root))
    assert list(found.listings) == ["b"]
    ((name, why),) = found.problems
    assert (name, "without features.json" in why) == ("a", True)
    # Of a file that is not said to be wrong, what cannot be read is a problem.
    place(root, "b", "test.array_record-00001").write_bytes(b"")
    found = zoo.list_whole(root, {"a": list(zoo.wrong_files(root)["a"])})
    assert [name for name, _ in found.problems] == ["a", "b"]
    assert "expected records as they were written" in found.problems[1].why


def test_mixed_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shards, "SHARD_NETWORKS", 2)
    other = nets.mlp((3, 2, 2))
    one = listed(random_zoo(NET, 12))
    which = np.arange(12) % 2
    sizes = np.array([NET.spec.num_parameters, other.spec.num_parameters])[which]

    def read(rows: np.ndarray) -> zoo.Weights:
        vectors = one.read(rows).vectors.copy()
        for vector, size in zip(vectors, sizes[rows], strict=True):
            vector[size:] = 0
        return zoo.Weights(vectors, {})

    mixed = replace(one, others=(other,), which=which, read=read)
    found = zoo.Found({"mixed": mixed}, (), "clean", "remove them")
    root = zoo.import_zoo(found, tmp_path / "zoo", {"import": {}})
    damage(place(root, "mixed", "train.array_record-00000"))
    (got,) = zoo.list_whole(root, zoo.wrong_files(root)).listings.values()
    assert len(got) == 10
    assert got.mixed
    assert got.mixed_normal is not None
    assert len(got.mixed_normal(np.arange(10)).vectors) == 10
    rows = [one.ids.tolist().index(name) for name in got.ids.tolist()]
    np.testing.assert_array_equal(got.places, which[rows])
    np.testing.assert_array_equal(
        got.read(np.arange(10)).vectors, read(np.array(rows)).vectors
    )


def test_zoos_are_not_made_in_others_or_below_files(root: Path) -> None:
    with pytest.raises(FileExistsError, match="a folder outside of other zoos, got"):
        _parts.found_before(root / "x" / "new", {})
    file = root.parent / "file"
    file.write_text("")
    for out in (file, file / "new", file / "a" / "new"):
        with pytest.raises(NotADirectoryError, match="a zoo, got a place where"):
            _parts.found_before(out, {})
    # Others have files of this name as well.
    for text in ("{}", "{", "[]"):
        (root.parent / "manifest.json").write_text(text)
        assert not _parts.found_before(root.parent / "x" / "new", {})
