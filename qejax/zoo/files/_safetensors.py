"""Files of the safetensors format, one or several shards of a model.

Eight bytes say how long the header is, the header is JSON: `{name: {dtype, shape,
data_offsets}}` and texts under `__metadata__`; numbers follow, little-endian. A page of
code instead of the package, whose reader for NumPy has no 8-bit floats and whose writer
orders tensors by size of their numbers: the order of the model is lost there.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from qejax.zoo.files._bounds import MAX_ENTRIES, bytes_of, check_name, open_file
from qejax.zoo.files._draft import replace_file
from qejax.zoo.files._stored import Stored

MAX_HEADER = 32 * 2**20
INDEX = ".safetensors.index.json"
METADATA = "__metadata__"

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "C64": np.dtype("<c8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype(bool),
}
"""NumPy's types by the format's names."""


def read_safetensors(path: Path) -> Stored:
    """Returns the tensors of a file in the order of their numbers.

    The package writes them by the size of their numbers and then by name, `net.10`
    before `net.2`: only of files by `write_safetensors` is it the order of the model.

    Args:
        path: of a `.safetensors` file.

    Returns:
        Tensors, and the texts of `__metadata__` as fields.

    Raises:
        ValueError: if the file cannot be opened or is not whole; says what was
            expected, what was found and what to do.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "net.safetensors")
        ...     write_safetensors(path, {"bias": np.ones(2, "float32")}, {"by": "me"})
        ...     read_safetensors(path)
        Stored(tensors={'bias': array([1., 1.], dtype=float32)}, fields={'by': 'me'})
    """
    with open_file(path, "a safetensors file") as file:
        size = file.seek(0, 2)
        header, start = _header(path, file, size)
        fields = _texts(path, header.pop(METADATA, {}))
        rows = [_row(path, name, entry) for name, entry in header.items()]
        rows.sort(key=lambda row: row[1])
        tensors: dict[str, np.ndarray] = {}
        behind = 0
        for name, begin, end, shape, dtype in rows:
            if begin != behind:
                raise ValueError(
                    f"{path}: the numbers of tensor {name!r} should start at byte "
                    f"{behind}, where those before it end, got {begin}. Fetch the file "
                    f"again."
                )
            behind = end
            if start + end > size:
                break
            file.seek(start + begin)
            numbers = np.frombuffer(bytearray(file.read(end - begin)), dtype)
            tensors[name] = numbers.reshape(shape)
        if start + behind != size:
            raise ValueError(
                f"{path}: expected {start + behind} bytes, as the header says, got "
                f"{size}. Fetch the file again."
            )
    return Stored(tensors, fields)


def _header(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The header, and where the numbers start."""
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
    if length > min(size - 8, MAX_HEADER):
        raise ValueError(
            f"{path}: expected a safetensors file with a header of at most "
            f"{min(max(size - 8, 0), MAX_HEADER)} bytes, got {length}. Fetch the file "
            f"again."
        )
    text = file.read(length)
    header = parse_json(path, text)
    if len(header) > MAX_ENTRIES:
        raise ValueError(
            f"{path}: expected at most {MAX_ENTRIES} tensors, got {len(header)}. Save "
            f"less of it."
        )
    return header, 8 + length


def parse_json(path: Path, text: bytes) -> dict[str, Any]:
    """Returns a JSON object; no key may be there twice.

    Raises:
        ValueError: if it is none.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key is there twice")
        return dict(pairs)

    try:
        found = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected a JSON object, got text that is none ({error}). Fetch "
            f"the file again."
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"{path}: expected a JSON object of entries by name, got "
            f"{type(found).__name__}. Fetch the file again."
        )
    return found


def _texts(path: Path, fields: Any) -> dict[str, Any]:
    if not isinstance(fields, dict) or not all(
        isinstance(value, str) for value in fields.values()
    ):
        raise ValueError(
            f"{path}: {METADATA} should be texts by name, got {str(fields)[:80]!r}. "
            f"Fetch the file again."
        )
    return fields


def _row(path: Path, name: str, entry: Any) -> tuple[str, int, int, Any, np.dtype]:
    """One tensor: name, first byte, byte behind the last, shape and type."""
    check_name(str(path), name)
    keys = ("dtype", "shape", "data_offsets")
    if not isinstance(entry, dict) or set(entry) != set(keys):
        raise ValueError(
            f"{path}: tensor {name!r} should have the entries {list(keys)}, got "
            f"{str(entry)[:80]!r}. Fetch the file again."
        )
    kind, shape, offsets = (entry[key] for key in keys)
    if not isinstance(kind, str) or kind not in DTYPES:
        raise ValueError(
            f"{path}: dtype of tensor {name!r} should be one of {list(DTYPES)}, got "
            f"{str(kind)[:80]!r}. Save it in another precision."
        )
    size = bytes_of(f"{path}: tensor {name!r}", shape, DTYPES[kind])
    match offsets:
        case [int(begin), int(end)] if 0 <= begin and begin + size == end:
            return name, begin, end, tuple(shape), DTYPES[kind]
    raise ValueError(
        f"{path}: data_offsets of tensor {name!r} should be {size} bytes apart, for "
        f"{kind} of shape {shape}, got {str(offsets)[:80]}. Fetch the file again."
    )


def write_safetensors(
    path: Path, tensors: Mapping[str, np.ndarray], fields: Mapping[str, Any] = {}
) -> None:
    """Writes a file that `read_safetensors` and the package read.

    Numbers are in the order of `tensors`; equal arguments give equal bytes.

    Args:
        path: of the file; one that is there is replaced when the new one is whole.
        tensors: by name.
        fields: texts, by name.

    Raises:
        ValueError: if the format has no such type, a field is no text, or a tensor is
            called `__metadata__`.
    """
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    header: dict[str, Any] = {METADATA: _texts(path, dict(fields))} if fields else {}
    arrays: list[np.ndarray] = []
    start = 0
    for name, tensor in tensors.items():
        array = np.asarray(tensor)
        array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        if array.dtype not in kinds or name == METADATA:
            raise ValueError(
                f"{path}: tensors should have a type of {list(DTYPES)} and be called "
                f"anything but {METADATA}, got {name!r} of {array.dtype}. Convert it."
            )
        header[name] = {
            "dtype": kinds[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        arrays.append(array)
        start += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers start at a multiple of eight

    def write(file: BinaryIO) -> None:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays:
            file.write(array.tobytes())

    replace_file(path, write)


def read_sharded_safetensors(folder: Path) -> Stored:
    """Returns the tensors of a model in shards, in the order of its index.

    Args:
        folder: holds one `*.safetensors.index.json`, as Hugging Face writes it, and
            beside it the files that it names.

    Returns:
        Tensors, and the `metadata` of the index as fields.

    Raises:
        ValueError: if there is not one index, it names a file that is elsewhere, or the
            shards do not hold the tensors that it lists; and as `read_safetensors`.
    """
    found = sorted(folder.glob(f"*{INDEX}"))
    if len(found) != 1:
        raise ValueError(
            f"{folder}: expected one *{INDEX}, got {[path.name for path in found]}. "
            f"Name a folder of one model."
        )
    path = found[0]
    with open_file(path, "the index of a model") as file:
        index = parse_json(path, file.read(MAX_HEADER))
    places, fields = index.get("weight_map"), index.get("metadata", {})
    if not isinstance(places, dict) or not isinstance(fields, dict):
        raise ValueError(
            f"{path}: expected files by tensor under 'weight_map', got entries "
            f"{list(index)[:5]}. Fetch the file again."
        )
    shards: dict[str, dict[str, np.ndarray]] = {}
    for name, place in places.items():
        shard = folder / str(place)
        # Nothing but a file beside the index, and no link to one elsewhere.
        inside = str(place) == shard.name and shard.suffix == ".safetensors"
        if not inside or shard.is_symlink():
            raise ValueError(
                f"{path}: tensor {name!r} should be in a file of the folder, got "
                f"{str(place)[:80]!r}. Do not use the model."
            )
        if shard.name not in shards:
            shards[shard.name] = read_safetensors(shard).tensors
        if name not in shards[shard.name]:
            raise ValueError(
                f"{path}: tensor {name!r} should be in {shard.name}, got a file "
                f"without it. Fetch the files again."
            )
    plain = (bool, int, float, str, type(None))
    return Stored(
        {name: shards[place][name] for name, place in places.items()},
        {name: value for name, value in fields.items() if isinstance(value, plain)},
    )
