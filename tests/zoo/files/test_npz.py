"""NumPy's archives: round trips, zip bombs, and headers that lie."""

import io
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from qejax.zoo import files


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array)
    return out.getvalue()


def archive(path: Path, entries: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, raw in entries.items():
            file.writestr(name, raw)
    return path


def test_archives_by_numpy_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays: dict[str, Any] = {
        "layer.kernel": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "empty": np.zeros((0, 3)),
        "flag": np.array([True, False]),
        "one": np.array(3.0),
    }
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays, who=np.array("me"))
        stored = files.read_npz(path)
        assert stored.fields == {"who": "me"}
        assert list(stored.tensors) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(stored.tensors[name], array)
            assert stored.tensors[name].flags.c_contiguous
            assert stored.tensors[name].dtype.isnative


def test_archives_come_back(tmp_path: Path) -> None:
    path, again = tmp_path / "a.npz", tmp_path / "b.npz"
    tensors = {"z.kernel": np.ones((2, 3), "float32"), "a": np.arange(3)}
    fields = {"name": "x", "sizes": [1, 2], "rate": 0.1, "none": None}
    for place in (path, again):
        files.write_npz(place, tensors, fields)
    assert path.read_bytes() == again.read_bytes()
    stored = files.read_npz(path)
    assert list(stored.tensors) == list(tensors)
    assert stored.fields == fields
    with np.load(path) as loaded:
        np.testing.assert_array_equal(loaded["z.kernel"], tensors["z.kernel"])


def test_what_numpy_cannot_say_is_not_written(tmp_path: Path) -> None:
    for array in (np.ones(2, ml_dtypes.bfloat16), np.array([None]), np.array("a")):
        with pytest.raises(
            ValueError, match=r"in .npz should be of NumPy's own numbers"
        ):
            files.write_npz(tmp_path / "a.npz", {"a": array})
    assert not list(tmp_path.iterdir())


GOOD = npy(np.ones(3, "float32"))
OBJECTS = npy(np.array([None]))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (GOOD[:-1], r"'a' should have 12 bytes for float32 of shape \(3,\), got 11"),
        (GOOD + b"1", "'a' should have 12 bytes for .* got 13"),
        (GOOD.replace(b"(3,)", b"(9,)"), "'a' should have 36 bytes"),
        (GOOD.replace(b"(3,), ", b"(3**9)"), "header of an array, got one that cannot"),
        (GOOD.replace(b"<f4", b"|O4"), "should hold numbers, or one text, got object"),
        (OBJECTS, "should hold numbers, or one text, got object"),
        (npy(np.array(["a", "b"])), "should hold numbers, or one text, got <U1"),
        (b"", "should start with the header of an array"),
        (b"\x93NUMPY\x09\x00" + GOOD[8:], "should start with the header of an array"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, raw: bytes, message: str) -> None:
    path = archive(tmp_path / "bad.npz", {"a.npy": raw})
    with pytest.raises(ValueError, match=message) as error:
        files.read_npz(path)
    assert str(path) in str(error.value)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = npy(np.zeros(20 * 2**20))
    path = archive(
        tmp_path / "bomb.npz", {"a.npy": bomb}, compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match="that are packed, got a claim of 167772"):
        files.read_npz(path)


def test_bad_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"expected a whole .npz archive, got one"):
        files.read_npz(path)
    archive(path, {"a.npy": GOOD}, compression=zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match=r"packed otherwise or secret: \['a.npy'\]"):
        files.read_npz(path)
    raw = archive(path, {"a.npy": GOOD}).read_bytes()
    path.write_bytes(raw.replace(b"\x00\x00\x80?", b"\x00\x00\x80@"))
    with pytest.raises(ValueError, match="entry 'a' cannot be unpacked"):
        files.read_npz(path)
    with pytest.warns(UserWarning, match="Duplicate name"):
        _twice(path)
    with pytest.raises(ValueError, match="entries of different names, got 2 with 1"):
        files.read_npz(path)
    archive(path, {"__fields__.json": b"[]"})
    with pytest.raises(ValueError, match="a JSON object of entries by name"):
        files.read_npz(path)


def _twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", GOOD)
        file.writestr("a.npy", GOOD)
