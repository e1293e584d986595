"""How one of many processes ends when something is wrong: at once, not in silence.

The library that watches the processes of a program aborts those that are left where one
is gone; the system kills others. No code of Python runs then: a shell that waits for
the end of the process says it. An exception, on the other hand, ends Python, which
would wait for the other processes, which wait for this one.
"""

import atexit
import os
import shutil
import subprocess
import sys
import time
from types import TracebackType
from typing import NoReturn

from qejax._processes import is_first

GRACE = 5.0
"""Seconds in which other processes can say what went wrong before the first one ends,
which ends them."""

_shells: list[subprocess.Popen[bytes]] = []
"""Those that wait for the end of this process."""


def say_if_killed(message: str) -> None:
    """Has a message printed to standard error if Python does not come to its end.

    An exception, `sys.exit`, `leave` and the end of the program are ends of Python:
    nothing is printed then. Nor is it where there is no shell, or it is killed as well.

    Args:
        message: a line.
    """
    shell = shutil.which("sh")
    if shell is None:
        return
    # A pipe ends with the process that holds it, however that ends.
    waits = subprocess.Popen(
        [shell, "-c", 'read -r _ || echo "$1" >&2', "sh", message],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    _shells.append(waits)
    atexit.register(say_nothing)


def say_nothing() -> None:
    """Takes back what `say_if_killed` was told."""
    while _shells:
        _shells.pop().communicate(b"ended\n")


def leave(status: int) -> NoReturn:
    """Ends one of many processes at once; leaving as usual waits for the others.

    Args:
        status: of its exit.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():
        time.sleep(GRACE)
    say_nothing()
    os._exit(status)


def leave_on_errors() -> None:
    """Has an exception that nobody catches end this process at once, after it is shown.

    The others end within a heartbeat, not after minutes of waiting for this one.
    """
    before = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        before(kind, error, trace)
        leave(130 if issubclass(kind, KeyboardInterrupt) else 1)

    sys.excepthook = hook
