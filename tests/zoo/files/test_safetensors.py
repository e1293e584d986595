"""Safetensors: files by the package, round trips, and files that are not whole."""

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from qejax.zoo import files

FIXTURES = Path(__file__).parent / "fixtures"


def write_raw(path: Path, header: Any, numbers: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    return path


def row(shape: Any = (2,), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_files_by_the_package_are_read() -> None:
    stored = files.read_safetensors(FIXTURES / "mlp.safetensors")
    assert stored.fields == {"made": "by torch"}
    assert stored.tensors["0.weight"].shape == (3, 2)
    assert stored.tensors["22.bias"].dtype == np.float32
    # The package sorts by text: the trap that natural order is for.
    names = list(stored.tensors)
    assert names.index("10.bias") < names.index("2.bias")
    ordered = files.in_natural_order(names)
    assert ordered.index("10.bias") > ordered.index("2.bias")


def test_small_floats_are_read() -> None:
    stored = files.read_safetensors(FIXTURES / "floats.safetensors")
    kinds = {name: tensor.dtype for name, tensor in stored.tensors.items()}
    assert kinds == {
        "half": np.float16,
        "brain": ml_dtypes.bfloat16,
        "eight": ml_dtypes.float8_e4m3fn,
    }
    for tensor in stored.tensors.values():
        np.testing.assert_array_equal(
            tensor.astype("float32"), np.arange(6, dtype="float32").reshape(2, 3)
        )


@pytest.mark.parametrize(
    "dtype",
    ["f8", ">f4", "f2", "c8", "i8", "u2", "i1", "bool", "bfloat16", "float8_e5m2"],
)
def test_tensors_come_back(tmp_path: Path, dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    drawn = np.random.default_rng(0).integers(0, 2, (3, 4)).astype(kind)
    tensors = {"z": drawn.T, "a.b": drawn, "none": drawn[:0], "one": drawn[0, 0]}
    path, again = tmp_path / "deep" / "a.safetensors", tmp_path / "b.safetensors"
    for place in (path, again):
        files.write_safetensors(place, tensors, {"by": "us"})
    assert path.read_bytes() == again.read_bytes()
    stored = files.read_safetensors(path)
    assert list(stored.tensors) == list(tensors)
    assert stored.fields == {"by": "us"}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(stored.tensors[name], tensor)
        assert stored.tensors[name].dtype == kind.newbyteorder("<")
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    ("header", "numbers", "message"),
    [
        ({"a": row()}, b"1234", "expected 8 bytes|expected .* bytes, as the header"),
        ({"a": row()}, b"1" * 9, "bytes, as the header says, got"),
        ({"a": row(), "b": row(offsets=(4, 12))}, b"1" * 12, "start at byte 8"),
        ({"a": row(offsets=(0, 4))}, b"1234", "data_offsets of .* 8 bytes apart"),
        ({"a": row(offsets=(False, 8))}, b"1" * 9, "bytes, as the header says"),
        ({"a": row(offsets="ab")}, b"", "data_offsets of .* bytes apart"),
        ({"a": row(dtype="F3")}, b"", "dtype of tensor 'a' should be one of"),
        ({"a": row(dtype=["F32"])}, b"", "dtype of tensor 'a' should be one of"),
        ({"a": row((2**40, 2**40))}, b"", "an array that fits into memory"),
        ({"a": row((-1,))}, b"", "shape should be at most 32 sizes"),
        ({"a": row((1,) * 99)}, b"", "shape should be at most 32 sizes"),
        ({"a": {"dtype": "F32"}}, b"", r"should have the entries \['dtype'"),
        ({"": row()}, b"", "names should have from 1 to 1000 characters"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__ should be texts by name"),
        (b"[]", b"", "a JSON object of entries by name, got list"),
        (b'{"a":1,"a":2}', b"", "got text that is none .a key is there twice"),
        (b"{", b"", "expected a JSON object, got text that is none"),
        (b"[" * 100_000, b"", "expected a JSON object, got text that is none"),
        (b"\xff", b"", "expected a JSON object, got text that is none"),
    ],
)
def test_bad_files_are_named(
    tmp_path: Path, header: Any, numbers: bytes, message: str
) -> None:
    path = write_raw(tmp_path / "bad.safetensors", header, numbers)
    with pytest.raises(ValueError, match=message) as error:
        files.read_safetensors(path)
    assert str(path) in str(error.value)


def test_lengths_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    for raw in (b"", b"1234", struct.pack("<Q", 2**62) + b"{}"):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="with a header of at most"):
            files.read_safetensors(path)
    many = {str(n): row((0,), (0, 0)) for n in range(100_001)}
    write_raw(path, many)
    with pytest.raises(ValueError, match="expected at most 100000 tensors, got 100001"):
        files.read_safetensors(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="safetensors file that can be opened, got"):
        files.read_safetensors(tmp_path / "nothing")
    with pytest.raises(ValueError, match="got something that is no ordinary file"):
        files.read_safetensors(tmp_path)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for name, array in {"a": np.zeros(2, "U3"), "__metadata__": np.zeros(2)}.items():
        with pytest.raises(
            ValueError, match=r"tensors should have a type of .* called"
        ):
            files.write_safetensors(path, {name: array})
    with pytest.raises(ValueError, match="__metadata__ should be texts by name"):
        files.write_safetensors(path, {}, {"step": 3})
    assert not list(tmp_path.iterdir())


def test_shards_are_one_model() -> None:
    stored = files.read_sharded_safetensors(FIXTURES / "llama")
    index = json.loads((FIXTURES / "llama/model.safetensors.index.json").read_text())
    assert list(stored.tensors) == list(index["weight_map"])
    assert sum(t.size for t in stored.tensors.values()) == 1176
    assert stored.fields == {"total_parameters": 1176, "total_size": 4704}


def test_shards_stay_in_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret.safetensors"
    files.write_safetensors(secret, {"a": np.ones(2)})
    files.write_safetensors(folder / "1.safetensors", {"b": np.ones(2)})
    (folder / "link.safetensors").symlink_to(secret)
    index = folder / "model.safetensors.index.json"

    def names(places: Any, message: str) -> None:
        index.write_text(json.dumps(places))
        with pytest.raises(ValueError, match=message):
            files.read_sharded_safetensors(folder)

    for place in ("../secret.safetensors", str(secret), "link.safetensors", ".."):
        names({"weight_map": {"a": place}}, "'a' should be in a file of the folder")
    names({"weight_map": {"a": "1.safetensors"}}, "'a' should be in 1.safetensors, got")
    names({"weight_map": []}, "expected files by tensor under 'weight_map', got")
    with pytest.raises(ValueError, match=r"expected one .*index.json, got \[\]"):
        files.read_sharded_safetensors(tmp_path)
