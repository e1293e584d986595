"""A Small CNN Zoo directory of several activations: read once, split apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax import zoo
from tests.zoo.formats.small_cnn_directory import (
    ROWS,
    metrics_table,
    some_weights,
    with_cell,
    write_directory,
)


def load(root: Path, **options: Any) -> dict[str, zoo.Zoo]:
    return zoo.formats.load(f"small_cnn_zoo:{root}", **options)


def _assert_equal(got: zoo.Zoo, want: zoo.Zoo) -> None:
    np.testing.assert_array_equal(got.vectors(), want.vectors())
    for name in ("split", "ids"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
    for name in ("labels", "hyper"):
        have, expected = getattr(got, name), getattr(want, name)
        assert list(have) == list(expected)
        for key, column in expected.items():
            np.testing.assert_array_equal(have[key], column)
    assert (got.network, got.source) == (want.network, want.source)


def test_a_mixed_directory_is_a_zoo_per_activation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, reads = write_directory(tmp_path / "zoo"), []
    numpy_load = np.load
    monkeypatch.setattr(
        np, "load", lambda *a, **kw: reads.append(a) or numpy_load(*a, **kw)
    )
    found = zoo.formats.load(f"small_cnn_zoo:{root}", split_seed=3)
    assert len(reads) == 1
    assert list(found) == ["relu", "tanh"]
    for name, one in found.items():
        _assert_equal(one, zoo.formats.load_small_cnn_zoo(root, name, split_seed=3))
        assert set(one.hyper["activation"].tolist()) == {name}
    assert [len(one) for one in found.values()] == [3, 1]
    groups = [{s.group for s in one.network.spec.spaces} for one in found.values()]
    assert groups == [{"positive_scale"}, {"sign"}]


def test_every_activation_is_split_for_itself(tmp_path: Path) -> None:
    """Its split is the one that it has in a directory of its own."""
    kept = [row for row in range(ROWS) if row // 2 != 1]
    mixed = load(write_directory(tmp_path / "mixed"))
    alone = load(
        write_directory(
            tmp_path / "alone",
            weights=some_weights()[kept],
            metrics=[metrics_table()[row] for row in kept],
        )
    )
    assert list(alone) == ["relu"]
    np.testing.assert_array_equal(mixed["relu"].split, alone["relu"].split)
    np.testing.assert_array_equal(mixed["relu"].ids, alone["relu"].ids)
    for one in mixed.values():
        np.testing.assert_array_equal(one.split, zoo.split_networks(len(one)))


def test_steps_of_a_mixed_directory(tmp_path: Path) -> None:
    metrics = metrics_table()
    metrics[3]["step"] = 90
    root = write_directory(tmp_path / "zoo", metrics=metrics)
    assert {name: one.hyper["step"].tolist() for name, one in load(root).items()} == {
        "relu": [86] * 3,
        "tanh": [90],
    }
    assert list(load(root, checkpoint=86)) == ["relu"]
    message = r"no network has activation 'any' and step 9; there are .*\[3, 86, 90\]"
    with pytest.raises(ValueError, match=message):
        load(root, checkpoint=9)


@pytest.mark.parametrize("row", [3, 5])
def test_damage_in_any_activation_is_named(tmp_path: Path, row: int) -> None:
    metrics = with_cell(metrics_table, row, test_accuracy=7.0)
    root = write_directory(tmp_path / "zoo", metrics=metrics)
    message = rf"row {row}: test_accuracy should be in \[0, 1\], got 7.0"
    with pytest.raises(ValueError, match=message):
        load(root)
