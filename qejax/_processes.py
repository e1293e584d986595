"""Processes that run one program together, and agree on what depends on one of them.

Which devices a process has, when a second is over and whether a signal came differ
between processes; what is computed must not. Every function here is called by all
processes alike, and does nothing where there is one.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

_STATUS = re.compile(
    "(ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNKNOWN): "
)


class PeerError(RuntimeError):
    """Another process of this program failed, has ended or cannot be reached."""


@contextmanager
def peers() -> Iterator[None]:
    """What fails inside because another process is gone is a `PeerError`.

    Raises:
        PeerError: says what to do.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # A collective that fails where it is called raises the status as a ValueError.
        status = _STATUS.match(str(error))
        lost = isinstance(error, jax.errors.JaxRuntimeError) or status
        if jax.process_count() == 1 or not lost:
            raise
        reason = str(error).splitlines()[0]
        raise PeerError(
            f"process {jax.process_index()} of {jax.process_count()}: expected the "
            f"others to take part, got {reason!r}: one of them has ended, see what it "
            f"printed. Start all of them again with the same command: they go on from "
            f"the newest checkpoint."
        ) from error


def is_first() -> bool:
    """Returns whether this process is the one that writes and reports."""
    return jax.process_index() == 0


def agree(*numbers: int) -> np.ndarray:
    """Returns the numbers of every process, `[P, N]` int64, `N > 0`, to all of them."""
    mine = np.array(numbers, np.int64)
    if jax.process_count() == 1:
        return mine[None]
    # As bytes: without x64 JAX has no int64.
    return _from_all(mine.view(np.uint8)).view(np.int64)


def wait_for_all() -> None:
    """Returns when every process has come here."""
    agree(0)  # of no numbers nothing is sent, and nobody waits


def _from_all(mine: np.ndarray) -> np.ndarray:
    """Returns the bytes of every process, `[P, N]`."""
    with peers():
        found = np.asarray(multihost_utils.process_allgather(mine))
    return found.reshape(jax.process_count(), -1)


LEAST_JSON = 1024
"""Bytes that are sent of a JSON value at least."""


def gather_json(value: Any) -> list[Any]:
    """Returns the JSON value of every process, in their order, to all of them."""
    if jax.process_count() == 1:
        return [value]
    mine = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = agree(mine.size)[:, 0]
    # Few lengths: a program is compiled for each.
    most = 1 << int(sizes.max() - 1).bit_length()
    padded = np.zeros(max(LEAST_JSON, most), np.uint8)
    padded[: mine.size] = mine
    rows = _from_all(padded)
    return [
        json.loads(row[:size].tobytes().decode())
        for row, size in zip(rows, sizes, strict=True)
    ]


def on_first(work: Callable[[], Any]) -> Any:
    """Returns the JSON value that `work` returns on the first process, to all.

    No other process does the work. If it raises, all processes raise: the first one
    what was raised, the others a `PeerError` with its message.

    Raises:
        PeerError: on the other processes.
    """
    value, error = None, None
    if is_first():
        try:
            value = work()
        except Exception as caught:
            error = caught
    if jax.process_count() == 1:
        if error is not None:
            raise error
        return value
    told = gather_json([value, error and f"{type(error).__name__}: {error}"])[0]
    if error is not None:
        raise error
    if told[1] is not None:
        raise PeerError(
            f"process {jax.process_index()}: expected process 0 to go on, got an error "
            f"there: {told[1]}"
        )
    return told[0]


def all_rows(tree: Any) -> Any:
    """Returns the rows of every process, one process after the other, to all of them.

    For metrics over the records that each process reads itself, such as a rank
    correlation, which no mean over processes gives.

    Args:
        tree: arrays `[B, ...]`; `B` may differ between processes, and be 0.

    Returns:
        NumPy arrays `[sum of B, ...]`.

    Example:
        >>> truth, predicted = np.array([0.1, 0.2]), np.array([0.2, 0.3])
        >>> all_rows((truth, predicted))[0].tolist()
        [0.1, 0.2]
    """
    tree = jax.tree.map(np.asarray, tree)
    if jax.process_count() == 1:
        return tree
    sizes = agree(jax.tree.leaves(tree)[0].shape[0])[:, 0]

    def one(leaf: np.ndarray) -> np.ndarray:
        # As bytes, and padded: every dtype survives, and every process sends as much.
        padded = np.zeros((int(sizes.max()), *leaf.shape[1:]), leaf.dtype)
        padded[: len(leaf)] = leaf
        sent = np.frombuffer(padded.tobytes(), np.uint8)
        rows = np.frombuffer(_from_all(sent).tobytes(), leaf.dtype)
        rows = rows.reshape(len(sizes), *padded.shape)
        return np.concatenate([part[:n] for part, n in zip(rows, sizes, strict=True)])

    return jax.tree.map(one, tree)
