"""The opcodes of plain values and of calls, for `pickle.load` and `torch.load`.

Protocol 2 without a memo, and the bytes of protocol 3.
"""

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from qejax.zoo.files._flat import PLAIN_TYPES


class Name(NamedTuple):
    """A function or class."""

    module: str
    name: str


class Made(NamedTuple):
    """What a call makes, with what it is told later.

    Attributes:
        by: what is called.
        arguments: of the call.
        items: of a dictionary.
        state: None for none.
        new: whether a class is not called but made without `__init__`.
    """

    by: Name
    arguments: tuple[Any, ...] = ()
    items: Mapping[str, Any] = MappingProxyType({})
    state: Any = None
    new: bool = False


class Persistent(NamedTuple):
    """What only the reader can find, by a key."""

    key: tuple[Any, ...]


def opcodes(value: Any) -> Iterator[bytes]:
    """Yields the program that makes a value, without its head and end.

    Raises:
        TypeError: if it is of a type that has no opcode here.
    """
    match value:
        case Name(module, name):
            yield f"c{module}\n{name}\n".encode()
        case Made(by, arguments, items, state, new):
            yield from opcodes(by)
            yield from opcodes(arguments)
            yield b"\x81" if new else b"R"
            if items:
                yield from _items(items)
            if state is not None:
                yield from opcodes(state)
                yield b"b"
        case Persistent(key):
            yield from opcodes(key)
            yield b"Q"
        case None | bool():
            yield {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            yield _integer(value)
        case float():
            yield b"G" + struct.pack(">d", value)
        case str():
            text = value.encode("utf-8", "surrogatepass")
            yield b"X" + struct.pack("<I", len(text)) + text
        case bytes():
            yield b"\x8e" + struct.pack("<Q", len(value))
            yield value
        case tuple() | list():
            yield b"](" if isinstance(value, list) else b"("
            for item in value:
                yield from opcodes(item)
            yield b"e" if isinstance(value, list) else b"t"
        case Mapping():
            yield b"}"
            yield from _items(value)
        case _:
            raise TypeError(
                f"a pickle should be written of plain values, got "
                f"{type(value).__name__}."
            )


def _items(items: Mapping[str, Any]) -> Iterator[bytes]:
    yield b"("
    for key, item in items.items():
        yield from opcodes(key)
        yield from opcodes(item)
    yield b"u"


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    count = value.bit_length() // 8 + 1
    if count > 255:
        raise ValueError(
            f"an integer of a pickle should have at most 255 bytes, got {count}. "
            f"Write it as text."
        )
    return b"\x8a%c" % count + value.to_bytes(count, "little", signed=True)


def check_entries(
    where: str, tensors: Mapping[str, Any], fields: Mapping[str, Any]
) -> None:
    """Raises unless names are different text and fields are plain.

    Raises:
        ValueError: names the entry that is not.
    """
    for name in (*tensors, *fields):
        if type(name) is not str or (name in tensors and name in fields):
            raise ValueError(
                f"{where}: a name should be text, and of one tensor or one field, got "
                f"{name!r}. Rename it."
            )
    for name, value in fields.items():
        items = value if type(value) is list else [value]
        if any(type(item) not in PLAIN_TYPES for item in items):
            raise ValueError(
                f"{where}: field {name!r} should be None, a bool, int, float, str, or "
                f"a list of these, got {type(value).__name__}. Leave it out."
            )
