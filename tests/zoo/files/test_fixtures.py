"""Files of other software: every number as it was written, whatever wrote it."""

from pathlib import Path

import numpy as np
import pytest

from qejax.zoo.files import Stored, read_pickle, read_state, read_torch, write_torch
from tests.zoo.files.make_fixtures import CONFIG, FIXTURES, SAMPLER, numbers

WEIGHTS = {
    "0.weight": numbers(29)[:18].reshape(2, 1, 3, 3),
    "0.bias": numbers(29)[18:20],
    "1.weight": numbers(29)[20:26].reshape(3, 2),
    "1.bias": numbers(29)[26:],
}
RUN = {f"config.{name}": value for name, value in CONFIG.items()} | {
    "iteration": 4,
    "last_result.test/acc": 0.75,
    "last_result.done": False,
    **{f"last_result.config.model.{name}": value for name, value in CONFIG.items()},
    "last_result.config.lr": 0.01,
    "last_result.time": 1.5,
}


def assert_stored(
    got: Stored, tensors: dict[str, np.ndarray], fields: dict[str, object]
) -> None:
    assert list(got.tensors) == list(tensors)
    for name, expected in tensors.items():
        np.testing.assert_array_equal(got.tensors[name], expected, strict=True)
        assert got.tensors[name].flags.c_contiguous
        assert got.tensors[name].flags.writeable
    assert list(got.fields.items()) == list(fields.items())
    assert [*map(type, got.fields.values())] == [*map(type, fields.values())]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_augmented_zoos(version: int, protocol: int) -> None:
    got = read_pickle(FIXTURES / f"numpy{version}_{protocol}.pickle")
    tensors = {
        "weights_augmented.0": numbers(2, 2, 1, 3, 3),
        "weights_augmented.1": numbers(2, 3, 2),
        "biases_augmented.0": numbers(2, 2),
        "biases_augmented.1": numbers(2, 3),
        "more.fortran": numbers(2, 3),
        "more.big": numbers(3, dtype=np.float64),
        "more.whole.0": numbers(4, dtype=np.int64),
        "more.whole.1": numbers(4, dtype=np.uint8),
        "more.whole.2": numbers(4, dtype=np.bool_),
        "more.empty": numbers(0, 2),
    }
    fields = {"accuracy_test_augmented": [0.25, 0.5], "more.number": 0.5}
    fields |= {"more.count": -7, "more.yes": True}
    assert_stored(got, tensors, fields)


@pytest.mark.parametrize("name", ["torch_zip.pt", "torch_old.pt"])
def test_checkpoints_in_both_formats(name: str) -> None:
    shared = numbers(12)
    tensors = {f"model.{name}": array for name, array in WEIGHTS.items()} | {
        "kinds.views.0": shared.reshape(3, 4).T,
        "kinds.views.1": shared[3:5],
        "kinds.views.2": np.zeros((2, 2), np.float32),
        "kinds.half": numbers(3, dtype=np.float16),
        "kinds.bfloat16": numbers(3),
        "kinds.double": numbers(3, dtype=np.float64),
        "kinds.long": np.arange(3),
        "kinds.bool": np.array([True, False]),
        "kinds.scalar": np.array(2.5, np.float32),
        "kinds.parameter": numbers(2),
    }
    assert_stored(read_torch(FIXTURES / name), tensors, {"kinds.epoch": 3})


def test_a_checkpoint_without_a_suffix() -> None:
    assert_stored(read_torch(FIXTURES / "checkpoints"), WEIGHTS, {})
    assert list(read_state(FIXTURES / "checkpoints")) == list(WEIGHTS)


def test_tensors_in_a_plain_pickle() -> None:
    got = read_pickle(FIXTURES / "torch_tensors.pickle")
    assert_stored(got, {"a.0": numbers(2, 3), "a.1": numbers(12)[3:5]}, {"b": 0.5})


@pytest.mark.parametrize("name", ["wild_park.pt", "wild_park_plain.pt"])
@pytest.mark.parametrize("of", ["CNNConfig", f"{SAMPLER}.CNNConfig", "a.CNNConfig"])
def test_instances_are_read_as_fields(name: str, of: str) -> None:
    got = read_torch(FIXTURES / name, fields_of=[of], ignore=["optimizer"])
    tensors = {f"model.{name}": array for name, array in WEIGHTS.items()}
    assert_stored(got, tensors, RUN)
    whole = read_torch(FIXTURES / name, fields_of=[of])
    assert whole.fields.items() >= RUN.items()
    assert whole.fields["optimizer.param_groups.0.betas"] == [0.9, 0.999]
    assert whole.fields["optimizer.param_groups.0.params"] == [0, 1, 2, 3]
    assert whole.tensors["optimizer.state.2.exp_avg"].shape == (3, 2)


def test_classes_are_read_only_if_asked_for() -> None:
    path = FIXTURES / "wild_park_plain.pt"
    named = r"names 'experiments\..*CNNConfig', which was neither imported nor run"
    for of in ([], ["Config"], ["CNNConfig.x"]):
        with pytest.raises(ValueError, match=named):
            read_torch(path, fields_of=of)
    message = r"wild_park_plain\.pt: config is made by '.*CNNConfig', which was neither"
    with pytest.raises(ValueError, match=message):
        read_torch(path, ignore=["optimizer", "last_result"])
    got = read_torch(path, ignore=["optimizer", "last_result", "config"])
    assert got.fields == {"iteration": 4}
    assert list(got.tensors) == [f"model.{name}" for name in WEIGHTS]


def test_a_run_is_written_as_it_was_read(tmp_path: Path) -> None:
    got = read_torch(FIXTURES / "wild_park_plain.pt", fields_of=["CNNConfig"])
    path = tmp_path / "checkpoint.pt"
    parts = ("model", "optimizer", "last_result")
    write_torch(path, *got, parts=parts, classes={"config": f"{SAMPLER}.CNNConfig"})
    again = read_torch(path, fields_of=["CNNConfig"])
    assert_stored(again, got.tensors, got.fields)
    with pytest.raises(ValueError, match=r"names '.*CNNConfig', which was neither"):
        read_torch(path)
