"""What a file may make its reader do: sizes are compared before it is unpacked."""

import math
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

FREE = 64 * 2**20
"""Bytes that any file may hold, however small it is."""

RATIO = 200
"""How many times its size a larger file may hold: zeros pack well, weights do not."""

MAX_ENTRIES = 100_000
MAX_AXES = 32
MAX_NAME = 1000
"""Characters of a dotted name; it bounds the nesting as well."""

MAX_TEXT = 2**20
"""Bytes of a file of settings, in JSON."""


def open_file(path: Path, what: str) -> BinaryIO:
    """Returns an ordinary file, opened for reading.

    Raises:
        ValueError: if it cannot be opened, or is a folder, a pipe or a device.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(
                f"{path}: expected {what}, got something that is no ordinary file. "
                f"Check the path."
            )
        return path.open("rb")
    except OSError as error:
        raise ValueError(
            f"{path}: expected {what} that can be opened, got {error}. Check the path."
        ) from error


def check_unpacked(where: str, unpacked: int, packed: int) -> None:
    """Raises unless a file may hold so much.

    Args:
        where: the file, and what is in it.
        unpacked: bytes that it says it holds.
        packed: bytes that there are.

    Raises:
        ValueError: if `unpacked` is beyond `FREE` and `RATIO` times `packed`.
    """
    limit = max(FREE, RATIO * packed)
    if unpacked > limit:
        raise ValueError(
            f"{where}: expected at most {limit} bytes from {packed} that are packed, "
            f"got a claim of {unpacked}. Do not use the file, or save it unpacked."
        )


def bytes_of(where: str, shape: object, dtype: np.dtype) -> int:
    """Returns how many bytes an array of this shape takes.

    Raises:
        ValueError: if `shape` is no list of at most `MAX_AXES` sizes; sizes beside a 0
            must be possible as well.
    """
    sizes = shape if isinstance(shape, Sequence) and len(shape) <= MAX_AXES else None
    if sizes is None or any(type(n) is not int or not 0 <= n < 2**48 for n in sizes):
        raise ValueError(
            f"{where}: shape should be at most {MAX_AXES} sizes, got "
            f"{str(shape)[:80]!r}. Fetch the file again."
        )
    product = math.prod(max(n, 1) for n in sizes) * dtype.itemsize
    if product >= 2**62:
        raise ValueError(
            f"{where}: shape should be of an array that fits into memory, got "
            f"{str(shape)[:80]}. Fetch the file again."
        )
    return 0 if 0 in sizes else product


def check_name(where: str, name: str) -> None:
    """Raises a `ValueError` unless a dotted name is short enough to be one."""
    if not 0 < len(name) <= MAX_NAME:
        raise ValueError(
            f"{where}: names should have from 1 to {MAX_NAME} characters, got "
            f"{len(name)}: {name[:40]!r}. Fetch the file again."
        )
