"""What the names of PyTorch in a pickle stand for: storages, and strided views of them.

Views are checked against the number of elements that a storage is said to have, and its
bytes are read when they are asked for.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from qejax.zoo.files._budget import Budget, Unfit
from qejax.zoo.files._pickle_program import Global, Make

MAX_AXES = 32

BFLOAT16, BOOL = "torch BFloat16Storage", "torch BoolStorage"
STORAGES = {
    "torch FloatStorage": "f4",
    "torch DoubleStorage": "f8",
    "torch HalfStorage": "f2",
    BFLOAT16: "u2",  # the upper half of a float32
    "torch LongStorage": "i8",
    "torch IntStorage": "i4",
    "torch ShortStorage": "i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    BOOL: "u1",
}
TENSOR = "torch._utils _rebuild_tensor_v2"
PARAMETER = "torch._utils _rebuild_parameter"


class Storage(NamedTuple):
    """Numbers in a row.

    Attributes:
        kind: a key of `STORAGES`.
        key: which of the file.
        elements: how many.
        numbers: reads them.
    """

    kind: str
    key: str
    elements: int
    numbers: Callable[[], np.ndarray]


class Tensor(NamedTuple):
    """A strided view of a storage that is inside it."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def item_size(kind: str) -> int:
    """Returns the bytes of a number in a storage of this kind."""
    return np.dtype(STORAGES[kind]).itemsize


def decoded(data: bytes, kind: str, order: str) -> np.ndarray:
    """Returns the numbers of a storage, native; bfloat16 as float32, without loss.

    Args:
        data: its bytes.
        kind: a key of `STORAGES`.
        order: "<" or ">".
    """
    numbers = np.frombuffer(data, np.dtype(order + STORAGES[kind]))
    if kind == BFLOAT16:
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    if kind == BOOL:
        return numbers != 0
    return numbers.astype(numbers.dtype.newbyteorder("="), copy=False)


def _storage_key(key: Any) -> tuple[str, str, int]:
    """Returns kind, key and number of elements that a persistent id names.

    Raises:
        Unfit: if it is not one of a storage.
    """
    match key:
        # The old format adds a part, which could be a view of a storage.
        case (str(word), Global(kind), str(name), str(), int(count)) | (
            str(word),
            Global(kind),
            str(name),
            str(),
            int(count),
            None,
        ) if (
            word == "storage"
            and kind in STORAGES
            and re.fullmatch("[0-9]{1,20}", name)  # nothing but a key of data/
            and count >= 0
        ):
            return kind, name, count
    raise Unfit("('storage', type, key, device, count)", key)


class Storages:
    """The storages of a file by key, each read once, when it is asked for."""

    def __init__(
        self,
        check: Callable[[str, int], object],
        read: Callable[[str, int], bytes],
        order: str,
    ) -> None:
        self._check, self._read, self._order = check, read, order
        self.found: dict[str, Storage] = {}
        self._numbers: dict[str, np.ndarray] = {}

    def persistent(self, identity: Any) -> Storage:
        """Returns the storage of a persistent id.

        Raises:
            Unfit: if it is no id of a storage, or of one that is named with another
                type or number of elements as well.
        """
        kind, key, count = _storage_key(identity)
        found = self.found.get(key)
        if found is None:
            self._check(key, count * item_size(kind))
            found = Storage(kind, key, count, lambda: self._of(key))
            self.found[key] = found
        if (found.kind, found.elements) != (kind, count):
            first = f"{found.elements} of {found.kind}"
            raise Unfit(f"one size and type of storage {key}, {first}", identity)
        return found

    def _of(self, key: str) -> np.ndarray:
        if key not in self._numbers:
            kind, count = self.found[key].kind, self.found[key].elements
            data = self._read(key, count * item_size(kind))
            self._numbers[key] = decoded(data, kind, self._order)
        return self._numbers[key]


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    match arguments:
        case (Storage() as storage, offset, size, stride, _, _):
            pass
        case _:
            raise Unfit("arguments that fit what they build", arguments)
    found = (offset, size, stride)
    for axes in ((offset,), size, stride):
        if type(axes) is not tuple or any(type(n) is not int for n in axes):
            raise Unfit("integers as offset, size and stride", found)
        if min(axes, default=0) < 0:
            raise Unfit("no negative offset, size or stride", found)
    if len(size) != len(stride) or len(size) > MAX_AXES:
        raise Unfit(f"at most {MAX_AXES} sizes, each with a stride", found)
    if 0 not in size:
        last = offset + sum(
            (n - 1) * s for n, s in zip(size, _steps(size, stride), strict=True)
        )
        if last >= storage.elements:
            raise Unfit(f"a view inside its {storage.elements} numbers", found)
    return Tensor(storage, offset, size, stride)


def _steps(size: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
    """Strides without those of single elements: never taken, they may be anything."""
    return tuple(s * (n > 1) for n, s in zip(size, stride, strict=True))


def _parameter(arguments: tuple[Any, ...]) -> Tensor:
    match arguments:
        case (Tensor() as tensor, _, _):
            return tensor
    raise Unfit("arguments that fit what they build", arguments)


def copied(tensor: Tensor, budget: Budget) -> np.ndarray:
    """Returns the numbers of a tensor, contiguous and its own.

    Raises:
        Unfit: if they are more than the budget has left.
    """
    storage, offset, size, stride = tensor
    wide = 4 if storage.kind == BFLOAT16 else item_size(storage.kind)
    # A size of 0 hides others that would be too large for numpy as well.
    budget.copy(wide * math.prod(max(n, 1) for n in size), (offset, size, stride))
    numbers = storage.numbers()
    if 0 in size:
        return np.zeros(size, numbers.dtype)
    strides = [s * numbers.itemsize for s in _steps(size, stride)]
    view = np.lib.stride_tricks.as_strided(numbers[offset:], size, strides)
    return np.array(view, order="C")


TORCH: dict[str, Make | None] = {
    TENSOR: _tensor,
    PARAMETER: _parameter,
    **dict.fromkeys(STORAGES),
}
"""Made by a call, by `module name`; None where it is only named."""
