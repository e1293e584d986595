"""The weights of a saved model: one file in the safetensors format.

Eight bytes say how long the header is, the header is JSON, numbers follow. A model says
itself which arrays it has: a file is read only if its header is the one that these
arrays have, so nothing in it decides how much memory is taken. Files of others are
read by `qejax.zoo.files`.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "BOOL": np.dtype(bool),
}
"""NumPy's types by the format's names."""

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and type, a key of `DTYPES`, of every array by name, in the order of a file."""


def shapes_of(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[Any, str]]:
    """Returns shape and type of every array.

    Raises:
        ValueError: if an array has a type that a file does not.
    """
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    for name, array in arrays.items():
        if array.dtype not in kinds:
            raise ValueError(
                f"array {name!r}: a file of weights has the types {list(DTYPES)}, got "
                f"{array.dtype}. Convert it."
            )
    return {name: (a.shape, kinds[a.dtype]) for name, a in arrays.items()}


def to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the content of a file; equal arrays give equal bytes."""
    numbers = [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    return b"".join([_start(shapes_of(arrays)), *numbers])


def from_bytes(where: str, content: bytes, shapes: Shapes) -> dict[str, np.ndarray]:
    """Returns the arrays of a file.

    Args:
        where: of the file, for messages.
        content: of the file.
        shapes: that it has to have.

    Raises:
        ValueError: if it has another header or length.
    """
    start = _start(shapes)
    sizes = [_size(shape, DTYPES[kind]) for shape, kind in shapes.values()]
    if content[: len(start)] != start or len(content) != len(start) + sum(sizes):
        raise ValueError(
            f"{where}: expected {len(shapes)} arrays in {len(start) + sum(sizes)} "
            f"bytes, with the header of these, got other ones in {len(content)}. "
            f"Restore the file, or save the model again."
        )
    found, at = {}, len(start)
    for (name, (shape, kind)), size in zip(shapes.items(), sizes, strict=True):
        numbers = np.frombuffer(bytearray(content[at : at + size]), DTYPES[kind])
        found[name] = numbers.reshape(shape)
        at += size
    return found


def _start(shapes: Shapes) -> bytes:
    """Everything before the numbers."""
    header, at = {}, 0
    for name, (shape, kind) in shapes.items():
        end = at + _size(shape, DTYPES[kind])
        header[name] = {
            "dtype": kind,
            "shape": list(shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers start at a multiple of eight
    return struct.pack("<Q", len(text)) + text


def _size(shape: tuple[int, ...], dtype: np.dtype) -> int:
    size = dtype.itemsize
    for side in shape:
        size *= side  # of integers of Python, which do not overflow
    return size
