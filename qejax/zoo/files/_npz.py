"""NumPy's archives, read without pickles and without trusting a size."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from qejax.zoo.files._bounds import (
    MAX_ENTRIES,
    MAX_TEXT,
    bytes_of,
    check_name,
    check_unpacked,
    open_file,
)
from qejax.zoo.files._draft import replace_file
from qejax.zoo.files._safetensors import parse_json
from qejax.zoo.files._stored import Stored

FIELDS = "__fields__.json"
"""The entry with what is no array, in archives by `write_npz`."""

MAX_HEADER = 10_000
_NUMBERS = "biufc"
_HEADERS = {(1, 0): 1, (2, 0): 2, (3, 0): 2}
"""Versions of the array format."""


def read_npz(path: Path) -> Stored:
    """Returns the arrays of an archive by `np.savez`, in the order of the archive.

    Args:
        path: of a `.npz` file.

    Returns:
        Arrays of numbers and truth values as tensors; single texts, and what
        `write_npz` was given as fields, as fields.

    Raises:
        ValueError: if the file cannot be opened or is not whole, an array holds
            objects, or sizes do not fit each other; names file and entry.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "net.npz")
        ...     write_npz(path, {"fc.bias": np.ones(2)}, {"epoch": 3})
        ...     read_npz(path)
        Stored(tensors={'fc.bias': array([1., 1.])}, fields={'epoch': 3})
    """
    with open_file(path, "a NumPy archive") as file:
        size = file.seek(0, 2)
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # more than `zipfile` documents
            raise ValueError(
                f"{path}: expected a whole .npz archive, got one that cannot be read "
                f"({error}). Fetch the file again."
            ) from error
        with archive:
            stored = Stored({}, {})
            for info in _entries(path, archive, size):
                _read_entry(path, archive, info, stored)
            return stored


def _entries(path: Path, archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    """The entries, after a look at all sizes that they claim."""
    infos = archive.infolist()
    names = {info.filename for info in infos}
    if len(infos) > MAX_ENTRIES or len(names) != len(infos):
        raise ValueError(
            f"{path}: expected at most {MAX_ENTRIES} entries of different names, got "
            f"{len(infos)} with {len(names)} names. Do not use the file."
        )
    packed = sum(info.compress_size for info in infos)
    kinds = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    odd = [i for i in infos if i.compress_type not in kinds or i.flag_bits & 1]
    if odd or packed > size:
        raise ValueError(
            f"{path}: expected entries of np.savez that fit into {size} bytes, got "
            f"{packed} bytes, packed otherwise or secret: "
            f"{[i.filename[:40] for i in odd[:3]]}. Do not use the file."
        )
    check_unpacked(str(path), sum(info.file_size for info in infos), packed)
    return infos


def _read_entry(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, stored: Stored
) -> None:
    name = info.filename.removesuffix(".npy")
    where = f"{path}: entry {name[:80]!r}"
    check_name(str(path), name)
    try:
        with archive.open(info) as entry:
            whole = entry.read(info.file_size)
            entry.read(1)  # compares the checksum
    except Exception as error:  # more than `zipfile` documents
        raise ValueError(
            f"{where} cannot be unpacked ({error}). Fetch the file again."
        ) from error
    if info.filename == FIELDS:
        stored.fields.update(parse_json(path, whole[:MAX_TEXT]))
        return
    array = _array(where, whole)
    if array.dtype.kind == "U":
        stored.fields[name] = str(array[()])
    else:
        stored.tensors[name] = array


def _array(where: str, whole: bytes) -> np.ndarray:
    """The array of an entry, whose header was compared with what is there."""
    file = io.BytesIO(whole)
    try:
        version = _HEADERS[np.lib.format.read_magic(file)]
        read = (
            np.lib.format.read_array_header_1_0
            if version == 1
            else np.lib.format.read_array_header_2_0
        )
        shape, columns, dtype = read(file, max_header_size=MAX_HEADER)
    except Exception as error:  # it parses Python literals
        raise ValueError(
            f"{where} should start with the header of an array, got one that cannot "
            f"be read ({error}). Fetch the file again."
        ) from error
    text = dtype.kind == "U" and shape == ()
    if dtype.kind not in _NUMBERS and not text:
        raise ValueError(
            f"{where} should hold numbers, or one text, got {dtype} of shape "
            f"{str(shape)[:80]}. Objects are never read: save numbers."
        )
    size, start = bytes_of(where, shape, dtype), file.tell()
    if len(whole) - start != size:
        raise ValueError(
            f"{where} should have {size} bytes for {dtype} of shape {shape}, got "
            f"{len(whole) - start}. Fetch the file again."
        )
    flat = np.frombuffer(bytearray(whole[start:]), dtype)
    array = flat.reshape(shape[::-1]).T if columns else flat.reshape(shape)
    native = array.dtype.newbyteorder("=")
    return np.asarray(array.astype(native, copy=False), order="C")


def write_npz(
    path: Path, tensors: Mapping[str, np.ndarray], fields: Mapping[str, Any] = {}
) -> None:
    """Writes an archive that `read_npz` and `np.load` read.

    Equal arguments give equal bytes. Nothing is packed.

    Args:
        path: of the file; one that is there is replaced when the new one is whole.
        tensors: by name.
        fields: of JSON types, by name.

    Raises:
        ValueError: if a tensor is no array of NumPy's own numbers.
    """

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, tensor in tensors.items():
                array = np.asarray(tensor)
                if array.dtype.kind not in _NUMBERS or not array.dtype.isbuiltin:
                    raise ValueError(
                        f"{path}: tensors in .npz should be of NumPy's own numbers, "
                        f"got {name!r} of {array.dtype}. Convert it to float32."
                    )
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
            if fields:
                archive.writestr(zipfile.ZipInfo(FIELDS), json.dumps(dict(fields)))

    replace_file(path, write)
