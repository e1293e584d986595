"""Checkpoints that `torch.load` reads, written without PyTorch."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from qejax.zoo.files._draft import replace_file
from qejax.zoo.files._pickle_writer import (
    Made,
    Name,
    Persistent,
    check_entries,
    opcodes,
)
from qejax.zoo.files._torch_tensors import BFLOAT16, BOOL, STORAGES, TENSOR

ALIGNED = 64  # bytes: where the numbers of a tensor begin, as in PyTorch

_KINDS = {np.dtype(code): kind for kind, code in STORAGES.items() if kind != BFLOAT16}
_KINDS |= {np.dtype("u1"): "torch ByteStorage", np.dtype(bool): BOOL}
_DICTIONARY = Name("collections", "OrderedDict")


def write_torch(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    fields: Mapping[str, Any] = {},
    *,
    parts: Sequence[str] = (),
    classes: Mapping[str, str] = {},
) -> None:
    """Writes a checkpoint; `torch.load(path, weights_only=True)` reads it.

    The same arguments write the same bytes. The file appears whole or not at all.

    Args:
        path: of the file, usually `.pt`.
        tensors: by dotted name; of floats, of signed integers, uint8 or bool.
        fields: None, bool, int, float, str and lists of these, by dotted name.
        parts: dotted names that become dictionaries inside the outermost one: with
            `parts=("model",)` tensor "model.fc.bias" is "fc.bias" of dictionary
            "model". All other names keep their dots, as those of a state dict do.
        classes: parts that become instances of a class "module.Class", by its name
            alone. To load such a file PyTorch needs that class.

    Raises:
        ValueError: if a tensor is of another type, a field is not plain, or a name is
            there twice or is that of a part.

    Example:
        >>> import tempfile
        >>> from qejax.zoo.files import read_torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "net.pt")
        ...     fields = {"config.channels": [3, 4]}
        ...     write_torch(path, {}, fields, classes={"config": "cnn.CNNConfig"})
        ...     read_torch(path, fields_of=["CNNConfig"]).fields
        {'config.channels': [3, 4]}
    """
    check_entries(str(path), tensors, fields)
    arrays: list[np.ndarray] = []
    described: dict[str, Any] = {}
    for name, tensor in tensors.items():
        array = np.asarray(tensor)
        kind = _KINDS.get(array.dtype.newbyteorder("="))
        if kind is None:
            raise ValueError(
                f"{path}: tensor {name!r} should be of a type of PyTorch, one of "
                f"{sorted(str(dtype) for dtype in _KINDS)}, got {array.dtype}. "
                f"Convert it."
            )
        described[name] = _tensor(str(len(arrays)), kind, array.shape)
        arrays.append(array)
    value = _nested(
        path, {**described, **fields}, {**dict.fromkeys(parts), **classes}, None
    )
    program = b"".join((b"\x80\x02", *opcodes(value), b"."))

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            _put(archive, "data.pkl", program)
            _put(archive, "byteorder", b"little")
            for key, array in enumerate(arrays):
                little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                _put(archive, f"data/{key}", little.tobytes())
            _put(archive, "version", b"3\n")

    replace_file(path, write)


def _tensor(key: str, kind: str, shape: tuple[int, ...]) -> Made:
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    storage = ("storage", Name(*kind.split()), key, "cpu", int(np.prod(shape)))
    view = (Persistent(storage), 0, shape, tuple(strides), False, Made(_DICTIONARY))
    return Made(Name(*TENSOR.split()), view)


def _nested(
    path: Path, entries: dict[str, Any], parts: Mapping[str, str | None], of: str | None
) -> Made:
    """Returns a dictionary, or an instance of a class, in the order of its entries."""
    items: dict[str, Any] = {}
    inside: dict[str, dict[str, Any]] = {}
    for name, value in entries.items():
        # The outermost part first: an inner one is inside it.
        part = min((p for p in parts if name.startswith(f"{p}.")), key=len, default="")
        if name in parts:
            raise ValueError(
                f"{path}: {name!r} should be a part, as asked for, got a value of that "
                f"name as well. Rename it."
            )
        if part:
            items[part] = inside.setdefault(part, {})
            inside[part][name.removeprefix(f"{part}.")] = value
        else:
            items[name] = value
    for part, inner in inside.items():
        rest = {
            name.removeprefix(f"{part}."): kind
            for name, kind in parts.items()
            if name.startswith(f"{part}.")
        }
        items[part] = _nested(path, inner, rest, parts[part])
    if of is None:
        return Made(_DICTIONARY, items=items)
    module, _, name = of.rpartition(".")
    return Made(Name(module, name), state=items, new=True)


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Adds a record that begins at a multiple of `ALIGNED` and has no date."""
    info = zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0))
    info.create_system = 0
    begin = archive.fp.tell() + 30 + len(info.filename)  # type: ignore[union-attr]
    padding = -(begin + 4) % ALIGNED  # behind the four bytes that announce it
    info.extra = b"FB" + padding.to_bytes(2, "little") + bytes(padding)
    archive.writestr(info, content)
