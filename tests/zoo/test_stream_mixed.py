"""Streams of mixed architectures: the batches of memory, in shards, from any place."""

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax import nets, zoo
from tests.zoo.random_zoo import random_zoo
from tests.zoo.test_mixed_zoo import prepared


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("mixed"))


def opened(root: Path, batch: int = 4, **options: Any) -> zoo.Stream[Any]:
    return zoo.stream_mixed(root, "train", batch, **options)


def rows(batches: Any) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


def test_an_epoch_is_that_of_memory(root: Path) -> None:
    whole = zoo.read_mixed(root)
    ladder, train = nets.ladder_of(whole.each), whole.select("train")
    found = list(opened(root, seed=3, epochs=2))
    want = [b for e in range(2) for b in train.batches(ladder, 4, (3, e))]
    assert len(found) == len(want)
    for one, other in zip(found, want, strict=True):
        assert one.size == other.size
        got, expected = (jax.tree.leaves(b._replace(size=())) for b in (one, other))
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert rows(found[: len(found) // 2]) != rows(found[len(found) // 2 :])
    plain = list(opened(root, normal=False))
    assert plain[0].normal is None
    assert rows(plain) == rows(train.batches(ladder, 4))


@pytest.mark.parametrize("count", [2, 4])
def test_shards_together_are_the_batches_of_one(root: Path, count: int) -> None:
    whole = rows(opened(root, seed=1))
    parts = [rows(opened(root, seed=1, shard=(k, count))) for k in range(count)]
    together = [list(chain(*pieces)) for pieces in zip(*parts, strict=True)]
    assert together == whole


def test_a_stream_goes_on_from_any_place(root: Path) -> None:
    want = rows(opened(root, seed=1, epochs=3))
    for stop in (0, 1, len(want) - 1):
        first = opened(root, seed=1, epochs=3)
        head = [next(first).rows.tolist() for _ in range(stop)]
        second = opened(root, seed=1, epochs=3)
        second.set_state(json.loads(json.dumps(first.get_state())))
        assert head + rows(second) == want
    endless = opened(root, seed=1, epochs=None)
    assert [next(endless).rows.tolist() for _ in want] == want
    endless.close()
    with pytest.raises(ValueError, match="expected a place in the batches"):
        opened(root, seed=2).set_state(first.get_state())


def test_what_training_needs_is_put_on_the_device(root: Path) -> None:
    def take(batch: zoo.MixedBatch) -> dict[str, Any]:
        return {"chains": batch.chains, "y": batch.labels["test_accuracy"]}

    found = list(opened(root, seed=4, take=take, device=jax.devices()[0]))
    want = list(opened(root, seed=4))
    for one, other in zip(found, want, strict=True):
        assert isinstance(one["y"], jax.Array)
        np.testing.assert_array_equal(one["y"], other.labels["test_accuracy"])
        np.testing.assert_array_equal(one["chains"].first, other.chains.first)


def test_misfits_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected \\(index, count\\) with"):
        opened(root, shard=(0, 3))
    with pytest.raises(ValueError, match="expected batches of at least 1 network"):
        opened(root, 0)
    with pytest.raises(ValueError, match="padded"):
        opened(root, ladder=(nets.PadSize(1, 1),))
    plain = zoo.store(tmp_path / "plain", {"a": random_zoo(nets.mlp((2, 2, 2)), 5)})
    message = "expected mixed architectures with normal forms, as zoo.import_zoo"
    with pytest.raises(ValueError, match=message):
        opened(plain)


def test_a_split_without_networks(root: Path, tmp_path: Path) -> None:
    found = zoo.list_prepared(root)
    one = found.listings["cnns"]
    listing = replace(one, split=np.ones(len(one), np.int8))
    out = zoo.import_zoo(found._replace(listings={"cnns": listing}), tmp_path / "z", {})
    assert list(opened(out)) == []
