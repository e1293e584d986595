"""Ctrl-C and SIGTERM as a request to save and leave, and nothing left behind."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What asks a run to stop: Ctrl-C, and the polite end of a job."""


class Interrupted(SystemExit):
    """A run was asked to stop, saved its state and leaves.

    A `SystemExit`: not caught by `except Exception`, and when nothing catches it
    Python writes the message (where the state is, how to go on) to standard error
    and exits with status 1, without a traceback.

    Attributes:
        signal_name: "SIGINT" or "SIGTERM".
    """

    def __init__(self, message: str, signal_name: str) -> None:
        super().__init__(message)
        self.signal_name = signal_name


class StopRequest:
    """Whether a signal has asked to stop; read by the loop between dispatches.

    Attributes:
        name: the signal's name, or None while none has arrived.
    """

    def __init__(self) -> None:
        self.name: str | None = None

    def __bool__(self) -> bool:
        return self.name is not None


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Inside the block the first SIGINT or SIGTERM is noted instead of obeyed.

    With the first signal, and at the end of the block however it ends, the handlers
    from before are back: a second signal therefore aborts at once. A signal that was
    ignored before (a job under `nohup`) stays ignored. Outside the main thread, where
    Python allows no handlers, nothing is changed and nothing is noted.

    Yields:
        The request, true once a signal has arrived.

    Example:
        >>> with catch_signals() as stop:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     stop.name
        'SIGTERM'
    """
    request = StopRequest()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            # None: a handler that was not set from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        request.name = signal.Signals(number).name
        restore()

    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
