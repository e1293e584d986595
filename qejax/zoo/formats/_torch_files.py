"""Tensors of a PyTorch checkpoint, read without PyTorch and without running anything.

Since PyTorch 1.6 a `.pt` or `.pth` file is a zip archive: `<root>/data.pkl` says what
the tensors are, `<root>/data/<key>` holds their numbers, `<root>/byteorder` how.

A pickle is a program, and `pickle` would run it. Here `pickletools` takes it apart into
opcodes, which runs nothing, and the few that `torch.save` needs for dictionaries of
tensors are followed. Functions and classes in it stay names: those of a fixed table
stand for what is written here, and no other is known.

Sizes are checked before anything is read or allocated.
"""

import math
import pickletools
import re
import reprlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAX_PICKLE = 4 * 2**20  # bytes; a tensor takes about 130 of them
MAX_ENTRIES = 100_000
MAX_NAME = 1000  # dotted, so it bounds the nesting as well: every level adds a dot
MAX_COPIES = 4  # of the file, in all tensors together: views of a storage are copied

DICTIONARY = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"
PARAMETER = "torch._utils _rebuild_parameter"
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
GLOBALS = (DICTIONARY, TENSOR, PARAMETER, *STORAGES)

_SHORT = reprlib.Repr()  # never the whole of a value: it may be endless
_SHORT.maxlevel = 3


def read_state(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a checkpoint by dotted name, in the order of the file.

    Nested dictionaries are flattened, `{"net": {"bias": b}}` to `{"net.bias": b}`;
    what is neither a tensor nor a dictionary (numbers, strings, lists) is left out.
    Arrays are contiguous and of the type in the file; bfloat16 is read as float32,
    without loss. Nothing in the file is imported or run, whatever it holds.

    Args:
        path: of a file by `torch.save(model.state_dict(), path)`, PyTorch 1.6 or later.

    Raises:
        ValueError: if the file cannot be read, is in the old format, is damaged, or
            holds more than dictionaries of tensors and plain values; says what was
            expected, what was found and what to do.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "net.pt")
        ...     with zipfile.ZipFile(path, "w") as file:
        ...         file.writestr("net/data.pkl", "}.")  # an empty dictionary
        ...     read_state(path)
        {}
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ValueError(
            f"{path}: expected a PyTorch checkpoint that can be opened, got {error}. "
            f"Check the path."
        ) from error
    with file:
        head = file.read(4)
        if head != b"PK\x03\x04":
            raise ValueError(
                f"{path}: expected a zip archive, which torch.save writes since "
                f"PyTorch 1.6, got a file that starts with {head!r}. The old format is "
                f"not supported: load the file with PyTorch, if you trust it, and save "
                f"`model.state_dict()` with torch.save again."
            )
        size = file.seek(0, 2)
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # more than `zipfile` documents
            raise ValueError(
                f"{path}: expected a whole zip archive, got one that cannot be read "
                f"({error}). Fetch the file again."
            ) from error
        with archive:
            records = _Records(path, archive, size)
            program = records.read("data.pkl", limit=MAX_PICKLE)
            return _flat(path, _Program(records).run(program))


def _flat(path: Path, value: Any) -> dict[str, np.ndarray]:
    """The arrays in nested dictionaries by dotted name.

    Bounded, for a dictionary may hold another one twice, or itself.
    """
    if not isinstance(value, dict):
        raise ValueError(
            f"{path}: expected a dictionary of tensors, got {type(value).__name__}. "
            f"Save `model.state_dict()`."
        )
    arrays: dict[str, np.ndarray] = {}
    waiting, entries = [("", value)], 0
    while waiting:
        name, value = waiting.pop()  # with a dot in front, but for the outermost
        if isinstance(value, dict):
            entries += len(value)
            longest = len(name) + max((len(str(key)) for key in value), default=0)
            if entries > MAX_ENTRIES or longest > MAX_NAME:
                raise ValueError(
                    f"{path}: expected at most {MAX_ENTRIES} entries and dotted names "
                    f"of at most {MAX_NAME} characters, got more. Save less of it."
                )
            inner = [(f"{name}.{key}", item) for key, item in value.items()]
            waiting.extend(reversed(inner))
        elif isinstance(value, np.ndarray):
            if name[1:] in arrays:
                raise ValueError(
                    f"{path}: expected one tensor of a name, got {name[1:]!r} twice, "
                    f"from nested dictionaries. Save them in different files."
                )
            arrays[name[1:]] = value
    return arrays


class _Records:
    """The files in an archive. They are looked up by name and never extracted."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, size: int) -> None:
        self.path, self.size, self._archive = path, size, archive
        infos = [info for info in archive.infolist() if not info.is_dir()]
        names = [info.filename for info in infos]
        self._sizes = {info.filename: info.file_size for info in infos}
        self._root = "".join(names[:1]).partition("/")[0]
        for name in names:
            parts = name.split("/")
            if parts[0] != self._root or {"", ".", ".."}.intersection(parts):
                raise ValueError(
                    f"{path}: expected all records in one folder, as torch.save writes "
                    f"them, got {name!r} beside {names[0]!r}. Do not use the file."
                )
        if len(self._sizes) != len(names):
            raise ValueError(
                f"{path}: expected records of different names, got {len(names)} with "
                f"{len(self._sizes)} names. Do not use the file."
            )
        packed = [n.filename for n in infos if n.compress_type != zipfile.ZIP_STORED]
        total = sum(self._sizes.values())
        if packed or total > size:
            raise ValueError(
                f"{path}: expected records that are not compressed and fit into the "
                f"file of {size} bytes, as torch.save writes them, got {total} bytes, "
                f"compressed: {_SHORT.repr(packed)}. Use the file that was saved."
            )
        self.order = self._order()

    def _order(self) -> str:
        if f"{self._root}/byteorder" not in self._sizes:
            return "<"  # before PyTorch 2.1; PyTorch assumes the same
        found = self.read("byteorder", limit=16)
        if found not in (b"little", b"big"):
            raise ValueError(
                f"{self.path}: record byteorder should be 'little' or 'big', got "
                f"{found!r}. Fetch the file again."
            )
        return "<" if found == b"little" else ">"

    def read(self, name: str, size: int | None = None, limit: int = 2**63) -> bytes:
        """Returns a record that should have `size` bytes, or at most `limit`."""
        full = f"{self._root}/{name}"
        if full not in self._sizes:
            raise ValueError(
                f"{self.path}: expected a record {full}, got an archive without it. "
                f"Fetch the file again."
            )
        found = self._sizes[full]
        if found > limit or size not in (None, found):
            expected = f"at most {limit}" if size is None else size
            raise ValueError(
                f"{self.path}: record {full} should have {expected} bytes, got {found}."
                f" Save the tensors alone, or fetch the file again."
            )
        try:
            return self._archive.read(full)
        except Exception as error:  # more than `zipfile` documents
            raise ValueError(
                f"{self.path}: record {full} is damaged ({error}). Fetch it again."
            ) from error


class _Global(NamedTuple):
    """A function or class that a pickle names: its name and nothing more."""

    name: str


class _Storage(NamedTuple):
    numbers: np.ndarray


class _Program:
    """What a pickle describes, built by following its opcodes."""

    def __init__(self, records: _Records) -> None:
        self._records, self._position = records, 0
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # the stacks below the marks
        self._memo: dict[int, Any] = {}
        self._storages: dict[tuple[str, str], _Storage] = {}
        self._left = MAX_COPIES * records.size

    def run(self, program: bytes) -> Any:
        for name, argument, position in self._opcodes(program):
            self._position = position
            try:
                self._step(name, argument)
            except (IndexError, KeyError) as error:
                raise self._error(f"what opcode {name} takes", str(error)) from error
        if len(self._stack) != 1 or self._outer:
            raise self._error("one value at the end of the pickle", self._stack)
        return self._stack[0]

    def _error(self, expected: str, found: object) -> ValueError:
        return ValueError(
            f"{self._records.path}: data.pkl, byte {self._position}: expected "
            f"{expected}, got {_SHORT.repr(found)[:200]}. Save `model.state_dict()` "
            f"with torch.save again, or fetch the file again."
        )

    def _opcodes(self, program: bytes) -> Iterator[tuple[str, Any, int]]:
        try:
            for opcode, argument, position in pickletools.genops(program):
                yield opcode.name, argument, position or 0
        except ValueError as error:
            raise self._error("a whole pickle", str(error)) from error

    def _step(self, name: str, argument: Any) -> None:
        """Follows one opcode; the names are those of `pickletools`."""
        stack = self._stack
        match name:
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NEWTRUE": True, "NEWFALSE": False}.get(name))
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                kinds = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
                stack.append(kinds[name]())
            case "MARK":
                self._outer.append(stack)
                self._stack = []
            case "TUPLE":
                items = tuple(self._above_mark())
                self._stack.append(items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(name[-1]))]
                stack.append(tuple(reversed(items)))
            case "APPEND":
                self._extend([stack.pop()])
            case "APPENDS":
                self._extend(self._above_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._update([key, value])
            case "SETITEMS":
                self._update(self._above_mark())
            case "GLOBAL":
                stack.append(self._global(argument))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                both = type(attribute) is type(module) is str
                stack.append(self._global(f"{module} {attribute}" if both else ""))
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "REDUCE":
                arguments, called = stack.pop(), stack.pop()
                stack.append(self._call(called, arguments))
            case "BUILD":
                # An attribute of a dictionary: `_metadata`, the versions of modules.
                state = stack.pop()
                if not isinstance(stack[-1], dict) or not isinstance(state, dict):
                    raise self._error("attributes of a dictionary only", stack[-1])
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                raise self._error("an opcode of plain values and tensors", name)

    def _above_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise self._error("a list to append to", self._stack[-1])
        self._stack[-1].extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise self._error("a dictionary with keys and values", target)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Nothing else is hashed: tuples in tuples could be too deep for it.
            if type(key) not in (str, int):
                raise self._error("strings or integers as keys", key)
            target[key] = value

    def _global(self, name: str) -> _Global:
        if name not in GLOBALS:
            raise ValueError(
                f"{self._records.path}: data.pkl, byte {self._position}, names "
                f"{name.replace(' ', '.')[:80]!r}, which was neither imported nor run: "
                f"expected one of {', '.join(GLOBALS).replace(' ', '.')}. If you trust "
                f"the file, load it with PyTorch and save `model.state_dict()`."
            )
        return _Global(name)

    def _call(self, called: Any, arguments: Any) -> Any:
        match called, arguments:
            case _Global(name), () if name == DICTIONARY:
                return {}
            case _Global(name), (np.ndarray() as array, _, _) if name == PARAMETER:
                return array
            case _Global(name), (_Storage(numbers), offset, size, stride, _, _) if (
                name == TENSOR
            ):
                return self._tensor(numbers, offset, size, stride)
        raise self._error("arguments that fit what they build", (called, arguments))

    def _storage(self, key: Any) -> _Storage:
        """The numbers that a persistent id stands for, read once."""
        match key:
            case (str(word), _Global(kind), str(record), str(), int(count)) if (
                word == "storage"
                and kind in STORAGES
                and re.fullmatch("[0-9]{1,20}", record)  # nothing but a key of data/
            ):
                pass
            case _:
                raise self._error("('storage', type, key, device, count)", key)
        if (kind, record) not in self._storages:
            dtype = np.dtype(self._records.order + STORAGES[kind])
            data = self._records.read(f"data/{record}", count * dtype.itemsize)
            numbers = np.frombuffer(data, dtype)
            if kind == BFLOAT16:
                numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
            elif kind == BOOL:
                numbers = numbers != 0
            native = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
            self._storages[kind, record] = _Storage(native)
        return self._storages[kind, record]

    def _tensor(self, numbers: np.ndarray, offset: Any, size: Any, stride: Any) -> Any:
        """Returns a copy of a strided view that was checked to be inside `numbers`."""
        found = (offset, size, stride)
        for axes in ((offset,), size, stride):
            if type(axes) is not tuple or any(type(n) is not int for n in axes):
                raise self._error("integers as offset, size and stride", found)
            if min(axes, default=0) < 0:
                raise self._error("no negative offset, size or stride", found)
        if len(size) != len(stride) or len(size) > 32:
            raise self._error("at most 32 sizes, each with a stride", found)
        # A size of 0 hides others that would be too large for numpy as well.
        needed = numbers.itemsize * math.prod(max(n, 1) for n in size)
        if needed > self._left:
            limit = f"{MAX_COPIES} times the bytes of the file in all tensors together"
            raise self._error(f"at most {limit}, clone() of what was expanded", found)
        self._left -= needed
        if 0 in size:
            return np.zeros(size, numbers.dtype)
        # A stride along a single element is never taken, and may be anything.
        steps = [s * (n > 1) for n, s in zip(size, stride, strict=True)]
        last = offset + sum((n - 1) * s for n, s in zip(size, steps, strict=True))
        if last >= len(numbers):
            raise self._error(f"a view inside its {len(numbers)} numbers", found)
        strides = [s * numbers.itemsize for s in steps]
        view = np.lib.stride_tricks.as_strided(numbers[offset:], size, strides)
        return np.array(view, order="C")
