"""Several architectures as one mixed bucket: every network where it should be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo._listing import listed
from tests.zoo.random_zoo import random_zoo

ZOOS = {
    "wide": random_zoo(nets.mlp((4, 9, 2)), 7),
    "deep": random_zoo(nets.mlp((3, 4, 4, 2), activation="tanh"), 5, 1),
    "cnn": random_zoo(nets.cnn(1, (3, 4), 3, 2), 6, 2),
}


def found(**change: zoo.Listing) -> zoo.Found:
    listings = {name: listed(one) for name, one in ZOOS.items()}
    return zoo.Found({**listings, **change}, (), "clean", "remove them")


def test_every_network_is_there(tmp_path: Path) -> None:
    one = zoo.joined(found()).listings["mixed"]
    assert len(one) == 18
    assert one.networks == tuple(x.network for x in ZOOS.values())
    want = [v for x in ZOOS.values() for v in x.vectors()]
    rows = np.array([17, 0, 8, 7, 6])
    read = one.read(rows)
    for row, vector in zip(rows.tolist(), read.vectors, strict=True):
        np.testing.assert_array_equal(vector[: len(want[row])], want[row])
        assert not vector[len(want[row]) :].any()
    assert one.ids[7] == f"deep/{ZOOS['deep'].ids[0]}"
    out = zoo.import_zoo(zoo.joined(found()), tmp_path / "zoo", {})
    got, here = zoo.read_mixed(out), zoo.mixed_of(ZOOS)
    assert got.ids.tolist() == here.ids.tolist() == one.ids.tolist()
    for kind in (got.vectors, here.vectors):
        assert all(np.array_equal(a, b) for a, b in zip(kind, want, strict=True))
    for name, column in here.labels.items():
        np.testing.assert_array_equal(column, got.labels[name])
    assert got.normal is not None


def test_problems_stay_with_their_network() -> None:
    whole = listed(ZOOS["deep"])

    def read(rows: np.ndarray) -> zoo.Weights:
        bad = {at: "torn" for at, row in enumerate(rows.tolist()) if row == 2}
        return whole.read(rows)._replace(problems=bad)

    one = zoo.joined(found(deep=replace(whole, read=read))).listings["mixed"]
    assert one.read(np.array([1, 8, 9, 13])).problems == {2: "torn"}
    assert zoo.joined(found()).listings["mixed"].read(np.arange(18)).problems == {}


def test_names_that_are_unique_stay() -> None:
    named = {}
    for name, one in ZOOS.items():
        ids = np.array([f"{name}_{k}" for k in range(len(one))])
        named[name] = replace(listed(one), ids=ids)
    one = zoo.joined(found(**named)).listings["mixed"]
    assert one.ids[7] == "deep_0"
    assert one.runs[7] == ZOOS["deep"].ids[0]


def test_columns_are_those_of_all() -> None:
    other = replace(listed(ZOOS["cnn"]), labels={}, hyper={"lr": np.zeros(6)})
    one = zoo.joined(found(cnn=other)).listings["mixed"]
    assert one.labels == {}
    assert "lr" not in one.hyper


def test_what_is_no_chain_is_named() -> None:
    net = nets.transformer(4, 1, 2, 3, image=(4, 2, 1), patch=2, num_outputs=2)
    with pytest.raises(ValueError, match="padded: expected a chain of layers"):
        zoo.joined(found(more=listed(random_zoo(net, 3))))
