"""PyTorch checkpoints written opcode by opcode, so that each can be spoilt."""

import pickle
import zipfile
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np

# Parts of a pickle: a global, a global applied to arguments, a persistent id.
Name = namedtuple("Name", "module name")
Call = namedtuple("Call", "called arguments")
Stored = namedtuple("Stored", "key")

REBUILD = Name("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Name("torch._utils", "_rebuild_parameter")
FLOATS = Name("torch", "FloatStorage")
EMPTY = Call(Name("collections", "OrderedDict"), ())
ONES = np.ones(6, np.float32)


def code(value: Any) -> bytes:
    """The opcodes of a value, in protocol 2 without a memo."""
    match value:
        case Name(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(called, arguments):
            return code(called) + code(arguments) + b"R"
        case Stored(key):
            return code(key) + b"Q"
        case OrderedDict():
            return code(EMPTY) + code(dict(value))[1:]
        case dict():
            items = [code(key) + code(item) for key, item in value.items()]
            return b"}(" + b"".join(items) + b"u"
        case list() | tuple():
            start, end = (b"](", b"e") if isinstance(value, list) else (b"(", b"t")
            return start + b"".join(map(code, value)) + end
        case bytes():
            return value  # opcodes already
        case _:
            return pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"")


def storage(key: str = "0", kind: str = "Float", count: int = 6) -> Stored:
    return Stored(("storage", Name("torch", f"{kind}Storage"), key, "cpu", count))


def tensor(size: Any = (6,), stride: Any = (1,), offset: Any = 0, of: Any = ()) -> Call:
    return Call(REBUILD, (of or storage(), offset, size, stride, False, EMPTY))


def write(path: Path, state: Any, *data: np.ndarray, **records: bytes) -> Path:
    """Writes a checkpoint as `torch.save` does, in a folder `net` of an archive."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", b"\x80\x02" + code(state) + b".")
        for name, content in records.items():
            file.writestr(f"net/{name}", content)
        for key, numbers in enumerate(data):
            file.writestr(f"net/data/{key}", numbers.tobytes())
    return path
