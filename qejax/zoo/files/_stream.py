"""The bytes of a file in order. Asked for more than there are, it allocates none."""

import io
import stat
from pathlib import Path
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


def open_file(path: Path, what: str) -> BinaryIO:
    """Returns an ordinary file, opened for reading.

    Raises:
        ValueError: if it cannot be opened, or is a folder, a pipe or a device.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(
                f"{path}: expected {what}, got no ordinary file. Check the path."
            )
        return path.open("rb")
    except OSError as error:
        raise ValueError(
            f"{path}: expected {what} that can be opened, got {error}. Check the path."
        ) from error
