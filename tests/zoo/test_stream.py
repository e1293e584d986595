"""Streams: the batches of memory, in shards, from any place, and on a device."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax import nets, zoo
from tests.zoo.random_zoo import random_zoo

NET = nets.mlp((3, 4, 2))
COUNT = 50  # 30 of them train


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = random_zoo(NET, COUNT)
    place = tmp_path_factory.mktemp("stream") / "zoo"
    return zoo.store(place, {"a": made, "b": random_zoo(NET, COUNT, 1)})


def ids(batches: Any) -> list[list[str]]:
    return [batch.ids.tolist() for batch in batches]


def opened(root: Path, batch: int = 8, **options: Any) -> zoo.Stream[Any]:
    return zoo.stream(root, "train", batch, bucket="a", **options)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_shards_together_are_the_batches_of_one(root: Path, count: int) -> None:
    """Whatever the number of processes, a step sees the same networks in all."""
    options: dict[str, Any] = {"seed": 3, "epochs": 2}
    whole = ids(opened(root, **options))
    parts = [ids(opened(root, shard=(k, count), **options)) for k in range(count)]
    together = [list(chain(*pieces)) for pieces in zip(*parts, strict=True)]
    assert together == whole
    assert len(whole) == 8  # of 60 networks; the last one has 4
    everyone = [name for batch in whole for name in batch]
    assert sorted(everyone) == sorted(
        2 * zoo.read(root, "a").select("train").ids.tolist()
    )


def test_a_stream_goes_on_from_any_place(root: Path) -> None:
    want = ids(opened(root, seed=1, epochs=3))
    for stop in (0, 1, 5, len(want)):
        first = opened(root, seed=1, epochs=3)
        head = [next(first).ids.tolist() for _ in range(stop)]
        # Of JSON types: it lies in a checkpoint.
        state = json.loads(json.dumps(first.get_state()))
        second = opened(root, seed=1, epochs=3)
        second.set_state(state)
        assert head + ids(second) == want
        # And back again.
        first.set_state(state)
        assert ids(first) == want[stop:]


def test_places_in_other_batches_are_refused(root: Path) -> None:
    state = opened(root, seed=1).get_state()
    for other in (
        opened(root, seed=2),
        opened(root, batch=4, seed=1),
        zoo.stream(root, "train", 8, bucket="b", seed=1),
        zoo.stream(root, "test", 8, bucket="a", seed=1),
    ):
        with pytest.raises(ValueError, match="expected a place in the batches"):
            other.set_state(state)


def test_a_place_in_one_shard_is_a_place_in_all(root: Path) -> None:
    want = ids(opened(root, seed=1))
    first = opened(root, seed=1, shard=(0, 2))
    head = next(first).ids.tolist()
    assert head == want[0][:4]
    alone = opened(root, seed=1)
    alone.set_state(first.get_state())
    assert ids(alone) == want[1:]
    other = opened(root, seed=1, shard=(1, 2))
    other.set_state(first.get_state())
    assert next(other).ids.tolist() == want[1][4:]


def test_for_ever_and_in_whole_batches(root: Path) -> None:
    endless = opened(root, seed=0, epochs=None)
    first = [next(endless).ids.tolist() for _ in range(20)]
    assert {len(names) for names in first} == {8}
    assert first[:7] == ids(opened(root, seed=0, epochs=2))[:7]
    assert [len(names) for names in ids(opened(root, whole=True))] == [8, 8, 8]
    assert len(ids(opened(root, whole=True, epochs=2))) == 7
    with pytest.raises(ValueError, match="at least batch = 64 networks, got 30 in 1"):
        opened(root, batch=64, whole=True)


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 3)])
def test_shards_that_cannot_be_cut(root: Path, shard: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"expected \(index, count\) with index below"):
        opened(root, shard=shard)


def test_what_training_needs_is_put_on_the_device(root: Path) -> None:
    def take(batch: zoo.Batch) -> dict[str, Any]:
        return {"theta": batch.thetas, "y": batch.labels["test_accuracy"]}

    device = jax.devices()[0]
    found = list(opened(root, seed=4, take=take, normal=False, device=device))
    want = list(zoo.batches(zoo.read(root, "a"), "train", 8, seed=4))
    for one, other in zip(found, want, strict=True):
        assert isinstance(one["y"], jax.Array)
        np.testing.assert_array_equal(one["y"], other.labels["test_accuracy"])
        got = zoo.to_vectors(NET.spec, jax.device_get(one["theta"]))
        np.testing.assert_array_equal(got, zoo.to_vectors(NET.spec, other.thetas))
    place = opened(root, seed=4, take=take, device=device)
    next(place)
    rest = opened(root, seed=4, take=take, device=device)
    rest.set_state(place.get_state())
    np.testing.assert_array_equal(next(rest)["y"], next(place)["y"])


def test_reading_ahead_changes_no_batch(root: Path) -> None:
    want = ids(opened(root, seed=2))
    assert (
        ids(opened(root, seed=2, ahead=0)) == ids(opened(root, seed=2, ahead=9)) == want
    )


def test_only_what_is_asked_for_is_read(root: Path) -> None:
    assert next(opened(root, normal=False)).normal is None
    normal = next(opened(root)).normal
    want = zoo.read(root, "a").select("train").normal
    assert normal is not None
    assert want is not None
    np.testing.assert_array_equal(normal.statistics, want.statistics[:8])


def test_a_listing_of_a_prepared_zoo_is_the_zoo(root: Path) -> None:
    found = zoo.list_prepared(root)
    assert list(found.listings) == ["a", "b"]
    want, got = zoo.read(root, "b"), found.listings["b"]
    assert got.ids.tolist() == want.ids.tolist()
    assert got.split.tolist() == want.split.tolist()
    rows = np.array([1, 7, 8, 30, 49])
    np.testing.assert_array_equal(got.read(rows).vectors, want.vectors()[rows])
    assert got.normal is not None
    assert want.normal is not None
    for one, other in zip(got.normal(rows), want.normal.take(rows), strict=True):
        np.testing.assert_array_equal(one, other)
