"""Zoos in memory: vectors, rows, splits, and augmentation of the training split."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from qejax import nets, spaces, zoo

NET = nets.mlp((4, 5, 3))
COUNT = 20


def _zoo() -> zoo.Zoo:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(COUNT, NET.spec.num_parameters)).astype(np.float32)
    return zoo.Zoo(
        network=NET,
        thetas=zoo.from_vectors(NET.spec, vectors),
        labels={"test_accuracy": rng.random(COUNT).astype(np.float32)},
        hyper={"step": np.arange(COUNT)},
        split=zoo.split_networks(COUNT),
        source="a test",
        ids=np.array([f"net_{k}" for k in range(COUNT)]),
    )


def test_vectors_are_the_ravel_of_the_spec() -> None:
    some = _zoo()
    one = jax.tree.map(lambda leaf: leaf[3], some.thetas)
    np.testing.assert_array_equal(spaces.ravel(NET.spec, one), some.vectors()[3])
    back = zoo.from_vectors(NET.spec, some.vectors()[3])
    jax.tree.map(np.testing.assert_array_equal, back, one)
    with pytest.raises(ValueError, match=r"should have 43 entries, got shape \(2, 3\)"):
        zoo.from_vectors(NET.spec, np.zeros((2, 3)))


def test_rows_of_other_lengths_are_named() -> None:
    some = _zoo()
    with pytest.raises(ValueError, match=r"labels\['test_accuracy'\] should have one"):
        replace(some, labels={"test_accuracy": np.zeros(3)})
    with pytest.raises(ValueError, match="thetas should have the shapes"):
        replace(some, network=nets.mlp((4, 6, 3)))


@pytest.mark.parametrize("code", [7, -1])
def test_codes_of_no_split_are_named(code: int) -> None:
    some = _zoo()
    split = some.split.copy()
    split[3] = code
    with pytest.raises(ValueError, match=rf"split codes .* got {code} in row 3"):
        replace(some, split=split)


def test_the_split_is_the_documented_one() -> None:
    order = np.random.default_rng(0).permutation(800)
    codes = zoo.split_networks(800)
    np.testing.assert_array_equal(np.sort(order[:480]), np.flatnonzero(codes == 0))
    np.testing.assert_array_equal(np.sort(order[480:560]), np.flatnonzero(codes == 1))
    np.testing.assert_array_equal(np.sort(order[560:]), np.flatnonzero(codes == 2))
    assert not np.array_equal(codes, zoo.split_networks(800, seed=1))
    with pytest.raises(ValueError, match="a sum of at most 1"):
        zoo.split_networks(10, fractions=(0.8, 0.3))


def test_take_keeps_columns_together() -> None:
    some = _zoo()
    test = some.select("test")
    assert len(test) == 6
    rows = some.rows("test")
    np.testing.assert_array_equal(test.hyper["step"], rows)
    np.testing.assert_array_equal(test.vectors(), some.vectors()[rows])


def test_augmentation_touches_the_training_split_only() -> None:
    some = _zoo()
    more = zoo.augment(jax.random.key(0), some, copies=2, spread=50.0)
    rows = some.rows("train")
    assert len(more) == COUNT + 2 * len(rows)
    # What was there keeps its place and every bit.
    head = more.take(np.arange(COUNT))
    np.testing.assert_array_equal(head.vectors(), some.vectors())
    np.testing.assert_array_equal(head.split, some.split)
    for split in ("val", "test"):
        np.testing.assert_array_equal(more.select(split).ids, some.select(split).ids)
        np.testing.assert_array_equal(
            more.select(split).vectors(), some.select(split).vectors()
        )
    # What came on top computes the same functions with other weights.
    x = jax.numpy.asarray(np.random.default_rng(1).normal(size=(7, 4)), "float32")
    apply = jax.vmap(NET.apply, (0, None))
    before = np.asarray(apply(some.take(rows).thetas, x))
    for copy in range(2):
        at = COUNT + copy * len(rows) + np.arange(len(rows))
        np.testing.assert_allclose(
            apply(more.take(at).thetas, x), before, rtol=1e-3, atol=1e-4
        )
        assert np.abs(more.vectors()[at] - some.vectors()[rows]).max() > 1
        np.testing.assert_array_equal(
            more.labels["test_accuracy"][at], some.labels["test_accuracy"][rows]
        )
        assert more.ids[at[0]] == f"{some.ids[rows[0]]}~{copy + 1}"
    first, second = np.split(more.vectors()[COUNT:], 2)
    assert np.abs(first - second).max() > 1
    assert len(set(more.ids.tolist())) == len(more)


@pytest.mark.parametrize("split", ["val", "test"])
def test_augmentation_refuses_other_splits(split: str) -> None:
    some = _zoo()
    rows = np.append(some.rows("train"), some.rows(split)[:1])
    with pytest.raises(ValueError, match="only networks of the training split"):
        zoo.augment_rows(jax.random.key(0), some, rows)
    with pytest.raises(ValueError, match="expected at least 0, got -1"):
        zoo.augment(jax.random.key(0), some, copies=-1)
