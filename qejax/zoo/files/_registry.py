"""Kinds of files by name: a new kind is a new row."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from qejax.zoo.files._bounds import MAX_ENTRIES
from qejax.zoo.files._msgpack import read_msgpack, write_msgpack
from qejax.zoo.files._npz import read_npz, write_npz
from qejax.zoo.files._orbax import METADATA, STORE, read_orbax, write_orbax
from qejax.zoo.files._safetensors import (
    INDEX,
    read_safetensors,
    read_sharded_safetensors,
    write_safetensors,
)
from qejax.zoo.files._stored import Stored
from qejax.zoo.files._torch import read_torch
from qejax.zoo.files._write_torch import write_torch


class FileKind(NamedTuple):
    """How files of a kind are found, read and written.

    Attributes:
        suffixes: ends of the names of its files, in small letters or capitals.
        markers: for kinds that are folders, files in them of which one is there.
        read: `path -> Stored`.
        write: `(path, tensors, fields)`, or `None`.
        ordered: whether its files keep the order of the model; in others layers are
            told apart by their numbers alone.
    """

    suffixes: tuple[str, ...]
    markers: tuple[str, ...]
    read: Callable[[Path], Stored]
    write: Callable[..., None] | None
    ordered: bool


FILES: dict[str, FileKind] = {
    "safetensors_shards": FileKind(
        (INDEX,), (), lambda path: read_sharded_safetensors(path.parent), None, False
    ),
    "safetensors": FileKind(
        (".safetensors",), (), read_safetensors, write_safetensors, False
    ),
    "npz": FileKind((".npz",), (), read_npz, write_npz, True),
    "msgpack": FileKind((".msgpack",), (), read_msgpack, write_msgpack, False),
    "orbax": FileKind((), (METADATA, STORE), read_orbax, write_orbax, False),
    "torch": FileKind(
        (".pt", ".pth", ".bin", ".ckpt", ".pth.tar"), (), read_torch, write_torch, True
    ),
}
"""Kinds by name; the first whose suffix or marker fits is taken."""


def kind_of(path: Path) -> str | None:
    """Returns the name of the kind of a file or folder, or `None`."""
    for name, row in FILES.items():
        if path.name.lower().endswith(row.suffixes) and not path.is_dir():
            return name
        if any((path / marker).is_file() for marker in row.markers):
            return name
    return None


def read_file(path: str | Path) -> Stored:
    """Returns the tensors and fields of a file of any known kind.

    Raises:
        ValueError: if no kind fits, and as the reader.

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "net.npz")
        ...     FILES["npz"].write(path, {"bias": np.zeros(2)}, {})
        ...     read_file(path).tensors
        {'bias': array([0., 0.])}
    """
    path = Path(path)
    name = kind_of(path)
    if name is None:
        raise ValueError(
            f"{path}: expected a file or folder of a kind of {list(FILES)}, got one "
            f"whose name says none of them. Rename it, or convert it."
        )
    return FILES[name].read(path)


def find_files(folder: str | Path, limit: int = MAX_ENTRIES) -> dict[Path, str]:
    """Returns all files of known kinds under a folder with their kinds, by path.

    Paths are sorted; links are not followed. Shards that an index lists, and what is
    inside a checkpoint by orbax, are no files of their own.

    Raises:
        ValueError: if there are more than `limit`.
    """
    found: dict[Path, str] = {}
    for root, folders, names in os.walk(folder):
        folders.sort()
        inside = [*(Path(root, name) for name in sorted(names))]
        for name in [name for name in folders if kind_of(Path(root, name))]:
            folders.remove(name)
            inside.append(Path(root, name))
        sharded = any(name.lower().endswith(INDEX) for name in names)
        for path in inside:
            kind = kind_of(path)
            if kind is None or path.is_symlink():
                continue
            if not (sharded and kind == "safetensors"):
                found[path] = kind
        if len(found) > limit:
            raise ValueError(
                f"{folder}: expected at most {limit} files of networks, got more. "
                f"Choose a smaller folder."
            )
    return dict(sorted(found.items()))
