"""Flax's msgpack checkpoints, `flax.serialization.to_bytes`.

Flax's own reader believes every length, and hands out views of the file: here msgpack
is given bounds, and arrays are compared with the bytes that they have.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.serialization
import jax.numpy as jnp
import msgpack
import numpy as np

from qejax.zoo.files._bounds import MAX_ENTRIES, MAX_NAME, bytes_of, open_file
from qejax.zoo.files._draft import replace_file
from qejax.zoo.files._names import flatten, nest
from qejax.zoo.files._stored import Stored

MAX_DEPTH = 100

ARRAY, COMPLEX, SCALAR = 1, 2, 3
"""Codes of what msgpack does not have, as Flax numbers them."""

CHUNKED = "__msgpack_chunked_array__"
"""Marks a dictionary that stands for an array of more than a gigabyte."""


def read_msgpack(path: Path) -> Stored:
    """Returns the arrays of a checkpoint by Flax, in the order of the file.

    Args:
        path: of a file with what `flax.serialization.to_bytes` or `msgpack_serialize`
            returned.

    Returns:
        Arrays by dotted name, those in chunks whole; numbers, texts and lists as
        fields.

    Raises:
        ValueError: if the file cannot be opened or is not whole, or holds what is
            neither; names file and entry.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "net.msgpack")
        ...     write_msgpack(path, {"fc.bias": np.ones(2)}, {"step": 3})
        ...     read_msgpack(path)
        Stored(tensors={'fc.bias': array([1., 1.])}, fields={'step': 3})
    """
    with open_file(path, "a msgpack checkpoint") as file:
        whole = file.read()
    try:
        tree = msgpack.unpackb(
            whole,
            ext_hook=lambda code, data: _special(path, code, data),
            raw=False,
            strict_map_key=False,
            max_array_len=MAX_ENTRIES,
            max_map_len=MAX_ENTRIES,
        )
        flat = flatten(str(path), _whole(path, tree))
    except Exception as error:  # of msgpack: a dozen kinds
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(
            f"{path}: expected a whole msgpack checkpoint of Flax, got one that cannot "
            f"be read ({str(error)[:200]}). Fetch the file again."
        ) from error
    stored = Stored({}, {})
    for name, value in flat.items():
        if isinstance(value, np.ndarray):
            stored.tensors[name] = value
        else:
            stored.fields[name] = _plain(path, name, value)
    return stored


def _plain(path: Path, name: str, value: Any) -> Any:
    kinds = (bool, int, float, str, type(None))
    if isinstance(value, np.generic):
        value = value.item()
    entries = value if isinstance(value, list) else [value]
    if not all(type(entry) in kinds for entry in entries):
        raise ValueError(
            f"{path}: entry {name!r} should be an array, a number, a text or a list of "
            f"such, got {type(value).__name__}. Save arrays in dictionaries."
        )
    return value


def _special(path: Path, code: int, data: bytes) -> Any:
    """What stands for a type that msgpack does not have."""
    inner = msgpack.unpackb(data, raw=False, max_array_len=MAX_NAME)
    if code == COMPLEX:
        raise ValueError(
            f"{path}: expected arrays and real numbers, got a complex number outside "
            f"an array. Save it in one."
        )
    if code not in (ARRAY, SCALAR) or len(inner) != 3:
        raise ValueError(
            f"{path}: expected arrays as Flax writes them, got an extension {code} of "
            f"another form. Fetch the file again."
        )
    shape, kind, numbers = inner
    dtype = jnp.dtype(kind) if isinstance(kind, str) else np.dtype(object)
    if dtype.hasobject or dtype.kind in "USM" or dtype.fields:
        raise ValueError(
            f"{path}: arrays should hold numbers, got the type {str(kind)[:40]!r}. "
            f"Save numbers."
        )
    size = bytes_of(str(path), shape, dtype)
    if not isinstance(numbers, bytes) or len(numbers) != size:
        raise ValueError(
            f"{path}: an array of {dtype} and shape {shape} should have {size} bytes, "
            f"got {len(numbers)}. Fetch the file again."
        )
    array = np.frombuffer(bytearray(numbers), dtype).reshape(shape)
    return array[()] if code == SCALAR else array


def _whole(path: Path, tree: Any, depth: int = 0) -> Any:
    """The tree with arrays in place of their chunks."""
    if depth > MAX_DEPTH:
        raise ValueError(
            f"{path}: expected dictionaries in dictionaries {MAX_DEPTH} deep at "
            f"most, got deeper ones. Do not use the file."
        )
    if not isinstance(tree, dict):
        if depth == 0:
            raise ValueError(
                f"{path}: expected a dictionary of arrays, got {type(tree).__name__}. "
                f"Save the variables of a model."
            )
        return tree
    if tree.get(CHUNKED) is not True:
        return {key: _whole(path, item, depth + 1) for key, item in tree.items()}
    shape = _numbered(path, tree.get("shape"))
    chunks = _numbered(path, tree.get("chunks"))
    flat = all(isinstance(c, np.ndarray) and c.ndim == 1 for c in chunks)
    joined = np.concatenate(chunks) if flat and chunks else np.zeros(0)
    if not all(type(n) is int and n >= 0 for n in shape) or not flat:
        raise ValueError(
            f"{path}: an array in chunks should have a shape and flat chunks, got "
            f"{str(shape)[:80]}. Fetch the file again."
        )
    if math.prod(shape) != joined.size:
        raise ValueError(
            f"{path}: the chunks of an array of shape {shape} should have "
            f"{math.prod(shape)} numbers, got {joined.size}. Fetch the file again."
        )
    return joined.reshape(shape)


def _numbered(path: Path, tree: Any) -> list[Any]:
    """The entries of `{"0": ..., "1": ...}`."""
    if not isinstance(tree, dict) or set(tree) != {str(n) for n in range(len(tree))}:
        raise ValueError(
            f"{path}: an array in chunks should number its parts from '0', got "
            f"{str(tree)[:80]!r}. Fetch the file again."
        )
    return [tree[str(n)] for n in range(len(tree))]


def write_msgpack(
    path: Path, tensors: Mapping[str, np.ndarray], fields: Mapping[str, Any] = {}
) -> None:
    """Writes a file that `read_msgpack` and `flax.serialization` read.

    Dots in names make nested dictionaries. Equal arguments give equal bytes.

    Args:
        path: of the file; one that is there is replaced when the new one is whole.
        tensors: by dotted name.
        fields: numbers, texts and lists of them, by dotted name.

    Raises:
        ValueError: if one name is the beginning of another one.
    """
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    tree = nest(str(path), arrays | dict(fields))
    whole = flax.serialization.msgpack_serialize(tree)
    replace_file(path, lambda file: [file.write(whole)].clear())
