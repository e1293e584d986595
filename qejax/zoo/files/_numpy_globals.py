"""What the names of NumPy in a pickle stand for: arrays and numbers of a few types."""

import math
import re
from typing import Any

import numpy as np

from qejax.zoo.files._budget import Budget, Unfit
from qejax.zoo.files._pickle_program import Built, Global, Make

MAX_AXES = 32
ORDERS = ("<", ">", "|", "=")

_TYPE = re.compile("[<>|=]?(f[248]|i[1248]|u[1248]|b1)")


def _dtype(arguments: tuple[Any, ...]) -> Built:
    """Returns a type without its byte order, which its state says."""
    match arguments:
        case (str(name), *_) if _TYPE.fullmatch(name):
            kind = np.dtype(name)
            return Built(kind, lambda state: _ordered(kind, state))
    raise Unfit("a type of floats, integers or booleans", arguments)


def _ordered(kind: np.dtype, state: Any) -> np.dtype:
    match state:
        # No parts, no names, no subarray: an array of numbers.
        case (int(), str(order), None, None, None, *_) if order in ORDERS:
            return kind.newbyteorder(order)
    raise Unfit("a type that has a byte order and no parts", state)


def _kind(value: Any) -> np.dtype:
    if isinstance(value, Built) and isinstance(value.value, np.dtype):
        return value.value
    raise Unfit("an array that has a type", value)


class _Arrays:
    """Makes arrays of the bytes of a file, as many as its budget allows."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def array(self, content: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
        """Returns a copy that is native and contiguous."""
        dtype = _kind(kind)
        if type(content) not in (bytes, bytearray):
            raise Unfit("bytes as the content of an array", content)
        if (
            type(shape) is not tuple
            or len(shape) > MAX_AXES
            or any(type(n) is not int or n < 0 for n in shape)
        ):
            raise Unfit(f"at most {MAX_AXES} sizes as a shape", shape)
        # A size of 0 hides others that would be too large for numpy.
        if math.prod(max(n, 1) for n in shape) >= 2**48 or (
            math.prod(shape) * dtype.itemsize != len(content)
        ):
            raise Unfit(
                f"an array that fills its {len(content)} bytes", (shape, dtype.str)
            )
        self._budget.copy(len(content), shape)
        array = np.frombuffer(content, dtype).reshape(shape, order=order)  # type: ignore[call-overload]
        return np.array(array, dtype.newbyteorder("="), order="C")

    def begun(self, arguments: tuple[Any, ...]) -> Built:
        """Makes an empty array, as NumPy does, that is told its content by BUILD."""
        match arguments:
            case (Global("numpy ndarray"), (int(length),), bytes()) if length == 0:
                return Built(np.zeros(0), self._finished)
        raise Unfit("an array that is begun empty", arguments)

    def _finished(self, state: Any) -> np.ndarray:
        match state:
            case (int(), shape, kind, bool(fortran), content):
                return self.array(content, kind, shape, "F" if fortran else "C")
        raise Unfit("an array with a shape, a type, an order and bytes", state)

    def from_buffer(self, arguments: tuple[Any, ...]) -> np.ndarray:
        """Makes an array as protocol 5 does."""
        match arguments:
            case (content, kind, shape, str(order)) if order in ("C", "F"):
                return self.array(content, kind, shape, order)
        raise Unfit("an array with bytes, a type, a shape and an order", arguments)

    def scalar(self, arguments: tuple[Any, ...]) -> bool | int | float:
        """Makes a number of Python."""
        match arguments:
            case (kind, content):
                return self.array(content, kind, (), "C").item()
        raise Unfit("a number with a type and bytes", arguments)


def numpy_names(budget: Budget) -> dict[str, Make | None]:
    """Returns what is made by a call, by `module name`, before and since NumPy 2."""
    arrays = _Arrays(budget)
    names: dict[str, Make | None] = {"numpy ndarray": None, "numpy dtype": _dtype}
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray _reconstruct"] = arrays.begun
        names[f"{core}.multiarray scalar"] = arrays.scalar
        names[f"{core}.numeric _frombuffer"] = arrays.from_buffer
    return names
