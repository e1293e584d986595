"""The bytes of a file in order. Asked for more than there are, it allocates none."""

import io
from typing import BinaryIO

MAX_LINE = 1000  # of the opcodes that name a global by lines of text


class Stream:
    """A binary file whose reads are never larger than what is left of it."""

    def __init__(self, source: BinaryIO | bytes) -> None:
        self._file = io.BytesIO(source) if isinstance(source, bytes) else source
        self.size = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)

    def read(self, count: int) -> bytes:
        """Returns the next bytes, fewer where the file ends."""
        return self._file.read(max(0, min(count, self.size - self._file.tell())))

    def readline(self) -> bytes:
        """Returns the next bytes up to a line feed, without one if it is too far."""
        return self._file.readline(MAX_LINE)

    def tell(self) -> int:
        """Returns how many bytes are in front."""
        return self._file.tell()

    def skip(self, count: int) -> None:
        """Goes on after these bytes, none of them read."""
        self._file.seek(count, io.SEEK_CUR)

    def at(self, place: int, count: int) -> bytes:
        """Returns the bytes at a place, fewer where the file ends, and stays here."""
        here = self._file.tell()
        self._file.seek(place)
        found = self.read(count)
        self._file.seek(here)
        return found
