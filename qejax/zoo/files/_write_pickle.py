"""Pickles of arrays that `pickle.load` reads, written without `pickle`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qejax.zoo.files._draft import replace_file
from qejax.zoo.files._pickle_writer import Made, Name, check_entries, opcodes

# This module is in every NumPy: since NumPy 2 for the sake of pickles.
_BEGIN = Name("numpy.core.multiarray", "_reconstruct")
_ARRAY, _TYPE = Name("numpy", "ndarray"), Name("numpy", "dtype")

_IN_LIST = re.compile(r"(.+)\.(0|[1-9][0-9]{0,8})", re.DOTALL)


def write_pickle(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    fields: Mapping[str, Any] = {},
) -> None:
    """Writes a dictionary of arrays and plain values; `pickle.load` reads it.

    Entries "weights.0", "weights.1" and so on become a list "weights"; other names are
    keys as they are. The file appears whole or not at all, and the same arguments write
    the same bytes.

    Args:
        path: of the file.
        tensors: by name; of numbers or booleans.
        fields: None, bool, int, float, str and lists of these, by name.

    Raises:
        ValueError: if an array is of another type, a field is not plain, a name is
            there twice, or the entries of a list are not numbered in order from 0.

    Example:
        >>> import tempfile
        >>> from qejax.zoo.files import read_pickle
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "zoo.pickle")
        ...     write_pickle(path, {"weights.0": np.zeros(1)}, {"accuracy": [0.5]})
        ...     read_pickle(path)
        Stored(tensors={'weights.0': array([0.])}, fields={'accuracy': [0.5]})
    """
    check_entries(str(path), tensors, fields)
    items: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {}
    for name, value in {**tensors, **fields}.items():
        described = _array(path, name, value) if name in tensors else value
        found = _IN_LIST.fullmatch(name)
        if found is None:
            items[name] = described
            continue
        entries = lists.setdefault(found[1], [])
        if int(found[2]) != len(entries):
            raise ValueError(
                f"{path}: expected {found[1]}.{len(entries)} as the next entry of a "
                f"list, got {name!r}. Write them in order from 0."
            )
        entries.append(described)
        items[found[1]] = entries
    if both := [name for name in lists if name in tensors or name in fields]:
        raise ValueError(
            f"{path}: {both[0]!r} should be a list or one value, got both. Rename one."
        )
    program = (b"\x80\x04", *opcodes(items), b".")
    replace_file(path, lambda file: file.writelines(program))


def _array(path: Path, name: str, tensor: np.ndarray) -> Made:
    array = np.asarray(tensor)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{path}: array {name!r} should be of numbers or booleans, got "
            f"{array.dtype}. Convert it."
        )
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    order = "|" if array.itemsize == 1 else "<"
    kind = Made(
        _TYPE,
        (array.dtype.str[1:], False, True),
        state=(3, order, None, None, None, -1, -1, 0),
    )
    state = (1, array.shape, kind, False, little.tobytes())
    return Made(_BEGIN, (_ARRAY, (0,), b"b"), state=state)
