"""Checkpoints by Flax's msgpack: round trips, chunks, and files that lie."""

from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from flax import linen as nn

from qejax.zoo import files


def packed(path: Path, tree: Any) -> Path:
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


def special(code: int, *inner: Any) -> msgpack.ExtType:
    return msgpack.ExtType(code, msgpack.packb(inner))


def test_checkpoints_by_flax_are_read(tmp_path: Path) -> None:
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for _ in range(11):
                x = nn.tanh(nn.Dense(3, param_dtype=jnp.bfloat16)(x))
            return x

    variables = Model().init(jax.random.key(0), jnp.ones((1, 2)))
    path = tmp_path / "net.msgpack"
    path.write_bytes(flax.serialization.to_bytes(variables))
    stored = files.read_msgpack(path)
    assert len(stored.tensors) == 22
    assert not stored.fields
    kernel = stored.tensors["params.Dense_10.kernel"]
    assert kernel.dtype == jnp.bfloat16
    np.testing.assert_array_equal(kernel, variables["params"]["Dense_10"]["kernel"])


def test_numbers_and_lists_are_fields(tmp_path: Path) -> None:
    tree = {"step": 3, "rate": np.float32(0.5), "by": "me", "sizes": [1, 2]}
    tree |= {"net": {"on": True, "none": None, "a": np.ones(2)}}
    stored = files.read_msgpack(packed(tmp_path / "a.msgpack", tree))
    assert list(stored.tensors) == ["net.a"]
    assert stored.fields == {
        "step": 3,
        "rate": 0.5,
        "by": "me",
        "sizes": [1, 2],
        "net.on": True,
        "net.none": None,
    }


def test_checkpoints_come_back(tmp_path: Path) -> None:
    path, again = tmp_path / "a.msgpack", tmp_path / "b.msgpack"
    tensors = {"net.b": np.ones((2, 3), jnp.bfloat16), "net.a": np.arange(3)}
    for place in (path, again):
        files.write_msgpack(place, tensors, {"net.step": 3, "by": "me"})
    assert path.read_bytes() == again.read_bytes()
    stored = files.read_msgpack(path)
    assert set(stored.tensors) == set(tensors)
    assert stored.fields == {"net.step": 3, "by": "me"}
    restored = flax.serialization.msgpack_restore(path.read_bytes())
    np.testing.assert_array_equal(restored["net"]["b"], tensors["net.b"])


def test_chunks_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 40)
    array = np.arange(24.0).reshape(2, 3, 4)
    path = packed(tmp_path / "a.msgpack", {"net": {"kernel": array}})
    assert b"__msgpack_chunked_array__" in path.read_bytes()
    stored = files.read_msgpack(path)
    np.testing.assert_array_equal(stored.tensors["net.kernel"], array)


CHUNKS = {"__msgpack_chunked_array__": True, "shape": {"0": 4}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([1], "expected a dictionary of arrays, got list"),
        ({"a": b"raw"}, "'a' should be an array, a number, a text or a list"),
        ({"a": [[1]]}, "'a' should be an array, a number, a text or a list"),
        ({"a": special(1, [2], "<f4", b"1234")}, r"shape \[2\] should have 8 bytes"),
        ({"a": special(1, [2**40] * 4, "<f4", b"")}, "array that fits into memory"),
        ({"a": special(1, [0], "object", b"")}, "should hold numbers, got the type"),
        ({"a": special(1, [0], 3, b"")}, "should hold numbers, got the type"),
        ({"a": special(1, [0])}, "an extension 1 of another form"),
        ({"a": special(9, [0], "f4", b"")}, "an extension 9 of another form"),
        ({"a": special(2, 1.0, 2.0)}, "got a complex number outside an array"),
        ({"a": {1.5: 3}}, "keys should be text, got '1.5' in 'a'"),
        ({"a": {"b": 1}, "a.b": 2}, "one entry of a name, got 'a.b' twice"),
        ({"a": CHUNKS}, "in chunks should number its parts from '0', got 'None'"),
        ({"a": CHUNKS | {"chunks": {"0": 3}}}, "should have a shape and flat chunks"),
        (
            {"a": CHUNKS | {"chunks": {"0": special(1, [1], "<f4", b"1234")}}},
            "should have 4 numbers, got 1",
        ),
        ({"a": 1, "b" * 1001: 2}, "names should have from 1 to 1000 characters"),
    ],
)
def test_bad_trees_are_named(tmp_path: Path, tree: Any, message: str) -> None:
    path = tmp_path / "bad.msgpack"
    path.write_bytes(bytes(msgpack.packb(tree) or b""))
    with pytest.raises(ValueError, match=message) as error:
        files.read_msgpack(path)
    assert str(path) in str(error.value)


def test_bad_bytes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.msgpack"
    deep = b"\x81\xa1a" * 101 + b"\x01"
    huge = b"\xdf\xff\xff\xff\xff"
    many = b"\xdd\x00\x01\x86\xa1" + b"\x01" * 100_001
    for raw in (b"", b"\xc1", huge, many, b"\x81\xa1a" * 5000 + b"\x01"):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="a whole msgpack checkpoint of Flax, got"):
            files.read_msgpack(path)
    path.write_bytes(deep)
    with pytest.raises(ValueError, match="in dictionaries 100 deep at most"):
        files.read_msgpack(path)
    wide = {str(n): {str(m): 0 for m in range(1000)} for n in range(101)}
    path.write_bytes(bytes(msgpack.packb(wide) or b""))
    with pytest.raises(ValueError, match="expected at most 100000 entries, got more"):
        files.read_msgpack(path)


def test_names_that_do_not_nest_are_named(tmp_path: Path) -> None:
    one = np.ones(1)
    for names in (("a", "a.b"), ("a.b", "a"), ("a.b.c", "a.b")):
        with pytest.raises(ValueError, match="should not be the beginning of other"):
            files.write_msgpack(tmp_path / "a", dict.fromkeys(names, one))
