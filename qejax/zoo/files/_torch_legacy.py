"""A checkpoint in the format before PyTorch 1.6, which pickled storages still have.

Five pickles one behind the other: a magic number, a version, facts about the machine,
the value, and the keys of its storages. Behind them the storages in that order, each a
number of elements (8 bytes, little-endian) and the elements (little-endian as well).
"""

import struct
from collections.abc import Mapping
from typing import Any

from qejax.zoo.files._budget import Budget
from qejax.zoo.files._pickle_program import SHORT, Make, Names, Program
from qejax.zoo.files._stream import Stream
from qejax.zoo.files._torch_tensors import Storages, item_size

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
HEAD = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."


class Legacy:
    """A checkpoint in the old format.

    Attributes:
        value: what was saved, with tensors whose numbers are read when asked for.

    Raises:
        ValueError: if it is damaged, or holds more than its names allow.
    """

    def __init__(
        self, where: str, stream: Stream, names: Names, budget: Budget
    ) -> None:
        self._where, self._stream = where, stream
        self._places: dict[str, int] = {}
        storages = Storages(lambda key, size: None, self._read, "<")

        def run(table: Mapping[str, Make | None], **kwargs: Any) -> Any:
            return Program(where, Names(table, **kwargs), budget).run(stream)

        head = [run({}), run({})]
        if head != [MAGIC, VERSION]:
            raise ValueError(
                f"{where}: expected the magic number of PyTorch and version {VERSION}, "
                f"got {SHORT.repr(head)}. Fetch the file again."
            )
        run({})  # little_endian is of the machine: storages always are
        parts = names._replace(persistent=storages.persistent)
        self.value = Program(where, parts, budget).run(stream)
        keys = run({})
        if type(keys) is not list or (
            [key for key in keys if type(key) is not str]
            or sorted(keys) != sorted(storages.found)
        ):
            raise ValueError(
                f"{where}: expected the keys of the {len(storages.found)} storages "
                f"that it names, got {SHORT.repr(keys)}. Fetch the file again."
            )
        for key in keys:
            storage = storages.found[key]
            count = stream.read(8)
            size = storage.elements * item_size(storage.kind)
            self._places[key] = stream.tell()
            left = stream.size - stream.tell()
            if count != struct.pack("<q", storage.elements) or size > left:
                raise ValueError(
                    f"{where}: storage {key} should have {storage.elements} elements "
                    f"in {size} bytes, got {count!r} as their number and {left} bytes. "
                    f"Fetch the file again."
                )
            stream.skip(size)

    def _read(self, key: str, size: int) -> bytes:
        return self._stream.at(self._places[key], size)
