"""Running out of room on a disk, said so that one knows where and what to do.

What writes says it in many ways: Python without the name of the file, others as
another kind of error, and some much later, from a thread in the background.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WORDS = ("no space left on device", "disk quota exceeded", "file too large")
"""What the system calls these numbers, as C++ passes it on."""


class DiskFullError(OSError):
    """There is no room to write; the message says where, and what to do.

    Attributes:
        place: what was being written: a file or a folder.
    """

    def __init__(self, place: Path, message: str) -> None:
        self.place = place
        super().__init__(message)


@contextmanager
def room(place: Path) -> Iterator[None]:
    """What fails inside because the disk is full is a `DiskFullError`.

    Args:
        place: what is written inside, for the message.

    Raises:
        DiskFullError: in place of an error of any kind that says so.

    Example:
        >>> with room(Path("/dev/full")):
        ...     _ = Path("/dev/full").write_text("a")
        Traceback (most recent call last):
        qejax._disk.DiskFullError: /dev/full: expected room on the disk, ...
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise _full(place.resolve(), reason) from error


def _full(place: Path, reason: str) -> DiskFullError:
    there = next(one for one in (place, *place.parents) if one.exists())
    free = shutil.disk_usage(there).free
    return DiskFullError(
        place,
        f"{place}: expected room on the disk, got {reason!r} with {free / 1e6:.1f} MB "
        f"free now. Make room and run the same command again: what was finished "
        f"before stays, and it goes on from there.",
    )


def _reason(error: BaseException | None) -> str | None:
    """Returns what an error, or one behind it, says about room; None if nothing."""
    seen = list[BaseException]()
    while error is not None and error not in seen:
        seen.append(error)
        text = str(error).lower()
        said = [words for words in _WORDS if words in text]
        if said or (isinstance(error, OSError) and error.errno in _NUMBERS):
            return said[0] if said else text
        error = error.__cause__ or error.__context__
    return None
