"""Files that are written here: read by their own software, byte for byte the same."""

import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax.zoo.files import Stored, read_pickle, read_torch, write_pickle, write_torch
from qejax.zoo.files._pickle_writer import opcodes
from tests.zoo.files.make_fixtures import AUGMENTED, CONFIG, SAMPLER, numbers

TYPES = "f4 f8 f2 i8 i4 i2 i1 u1 ?".split()
TENSORS = {
    **{f"net.{kind}": numbers(2, 3, dtype=kind) for kind in TYPES},
    "net.scalar": np.array(2.5, np.float32),
    "net.empty": numbers(0, 2),
    "net.transposed": numbers(2, 3).T,
    "big": numbers(3, dtype=">f4"),
}
FIELDS = {
    "name": "a name, ünï\ud800",
    "none": None,
    "yes": True,
    "large": -(2**70),
    "run.sizes": [1, 2.5, None, "a", False],
    "run.empty": [],
}


def assert_same(got: Stored, tensors: dict[str, Any], fields: dict[str, Any]) -> None:
    assert list(got.tensors) == list(tensors)
    for name, expected in tensors.items():
        native = expected.astype(expected.dtype.newbyteorder("="))
        np.testing.assert_array_equal(got.tensors[name], native, strict=True)
    assert list(got.fields.items()) == list(fields.items())


@pytest.mark.parametrize("parts", [(), ("net", "run")])
def test_checkpoints_are_read_as_they_were_written(tmp_path: Path, parts: Any) -> None:
    path = tmp_path / "net.pt"
    write_torch(path, TENSORS, FIELDS, parts=parts)
    assert_same(read_torch(path), TENSORS, FIELDS)
    first = path.read_bytes()
    write_torch(path, TENSORS, FIELDS, parts=parts)
    assert path.read_bytes() == first
    assert os.listdir(tmp_path) == ["net.pt"]
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        for info in file.infolist():
            content = file.read(info)
            begin = info.header_offset + 30 + len(info.filename) + len(info.extra)
            assert begin % 64 == 0
            assert first[begin : begin + len(content)] == content


def test_pickles_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "zoo.pickle"
    tensors = {f"net.a.{n}": array for n, array in enumerate(TENSORS.values())}
    tensors["b"] = numbers(3, dtype=np.uint32)
    write_pickle(path, tensors, FIELDS)
    assert_same(read_pickle(path), tensors, FIELDS)
    first = path.read_bytes()
    write_pickle(path, tensors, FIELDS)
    assert path.read_bytes() == first
    loaded = pickle.loads(first)
    assert list(loaded) == ["net.a", "b", *FIELDS]
    assert {name: loaded[name] for name in FIELDS} == FIELDS
    for array, expected in zip(loaded["net.a"], TENSORS.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype.newbyteorder("<")


def test_augmented_zoos_are_loaded_by_pickle(tmp_path: Path) -> None:
    path = tmp_path / "augment_zoo_cifar_100_train.pickle"
    tensors = {
        f"{name}.{n}": array
        for name in ("weights_augmented", "biases_augmented")
        for n, array in enumerate(AUGMENTED[name])
    }
    accuracies = AUGMENTED["accuracy_test_augmented"]
    write_pickle(path, tensors, {"accuracy_test_augmented": accuracies})
    loaded = pickle.loads(path.read_bytes())
    assert list(loaded) == list(AUGMENTED)
    assert loaded["accuracy_test_augmented"] == accuracies
    for name in ("weights_augmented", "biases_augmented"):
        assert type(loaded[name]) is list
        for array, expected in zip(loaded[name], AUGMENTED[name], strict=True):
            np.testing.assert_array_equal(array, expected, strict=True)
            assert array.flags.writeable


def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_torch_loads_checkpoints(tmp_path: Path) -> None:
    load = torch().load
    path = tmp_path / "net.pt"
    tensors = {name: array for name, array in TENSORS.items() if name != "big"}
    write_torch(path, tensors)
    loaded = load(path, weights_only=True)
    assert type(loaded) is OrderedDict
    for (name, got), (expected, array) in zip(
        loaded.items(), tensors.items(), strict=True
    ):
        assert name == expected
        np.testing.assert_array_equal(got.numpy(), array, strict=True)
    fields = FIELDS | {"name": "a name, ünï"}
    write_torch(path, tensors, fields, parts=["net", "run"])
    loaded = load(path, weights_only=True)
    assert list(loaded) == ["net", "name", "none", "yes", "large", "run"]
    assert loaded["run"] == {"sizes": [1, 2.5, None, "a", False], "empty": []}
    np.testing.assert_array_equal(loaded["net"]["transposed"], numbers(2, 3).T)


def test_torch_loads_instances_of_their_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = torch().load
    own = type("CNNConfig", (), {"__module__": SAMPLER})
    module = types.ModuleType(SAMPLER)
    monkeypatch.setitem(sys.modules, SAMPLER, module)
    monkeypatch.setattr(module, "CNNConfig", own, raising=False)
    path = tmp_path / "checkpoint.pt"
    fields = {f"config.{name}": value for name, value in CONFIG.items()}
    classes = {"config": f"{SAMPLER}.CNNConfig"}
    weights = {"model.fc.bias": numbers(3)}
    write_torch(path, weights, fields, parts=["model"], classes=classes)
    with torch().serialization.safe_globals([own]):
        loaded = load(path, weights_only=True)
    assert type(loaded["config"]) is own
    assert vars(loaded["config"]) == CONFIG
    np.testing.assert_array_equal(loaded["model"]["fc.bias"], numbers(3))


ONE = {"a": numbers(1)}
BAD = [
    (write_torch, {"a": numbers(1, dtype=np.complex64)}, {}, "a type of PyTorch, one"),
    (write_torch, {"a": np.array(["x"])}, {}, "tensor 'a' should be of a type of Py"),
    (write_pickle, {"a": np.array([{}])}, {}, "array 'a' should be of numbers or bo"),
    (write_pickle, {"a.1": numbers(1)}, {}, "expected a.0 as the next entry of a li"),
    (write_pickle, {"a.0": numbers(1)}, {"a": 1}, "'a' should be a list or one value"),
    (write_pickle, ONE, {"b": 2**2040}, "should have at most 255 bytes, got 256"),
    *(
        (write, *entries, message)
        for write in (write_torch, write_pickle)
        for *entries, message in [
            (ONE, {"a": 1}, "of one tensor or one field, got 'a'. Rename"),
            (ONE, {1: 1}, "a name should be text, and of one tensor or one"),
            (ONE, {"b": [[1]]}, "field 'b' should be None, a bool, int, float, str"),
            (ONE, {"b": np.float32(1)}, "or a list of these, got float32. Leave it"),
        ]
    ),
]


@pytest.mark.parametrize(("write", "tensors", "fields", "message"), BAD)
def test_what_cannot_be_written_is_named(
    tmp_path: Path, write: Any, tensors: Any, fields: Any, message: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"as before")
    with pytest.raises(ValueError, match=message):
        write(path, tensors, fields)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"as before"


def test_parts_are_no_values(tmp_path: Path) -> None:
    message = "'a' should be a part, as asked for, got a value of that name as well"
    with pytest.raises(ValueError, match=message):
        write_torch(tmp_path / "a.pt", ONE, {"a.b": 1}, parts=["a"])


def test_only_plain_values_have_opcodes() -> None:
    with pytest.raises(TypeError, match=r"written of plain values, got complex\."):
        list(opcodes(1j))
