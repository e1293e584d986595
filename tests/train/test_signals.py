"""Signals are noted once, obeyed the second time, and handlers come back."""

import signal
import threading

import pytest

from qejax.train import Interrupted, catch_signals


def handlers() -> list:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_first_signal_is_noted_and_handlers_come_back(name: str) -> None:
    before = handlers()
    with catch_signals() as stop:
        assert not stop
        assert handlers() != before
        signal.raise_signal(signal.Signals[name])
        assert stop
        assert stop.name == name
        assert handlers() == before
    assert handlers() == before


def test_second_signal_aborts() -> None:
    with catch_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_come_back_after_an_error() -> None:
    before = handlers()
    with pytest.raises(RuntimeError, match="inside"), catch_signals():
        raise RuntimeError("inside")
    assert handlers() == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with catch_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_change_nothing() -> None:
    before, seen = handlers(), []

    def body() -> None:
        with catch_signals() as stop:
            seen.append((bool(stop), handlers()))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_interrupted_leaves_python_with_its_message() -> None:
    error = Interrupted("saved in X", "SIGTERM")
    assert isinstance(error, SystemExit)
    assert error.code == "saved in X"
    assert error.signal_name == "SIGTERM"
