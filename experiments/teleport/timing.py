"""The seconds that a compiled program takes."""

import time
from collections.abc import Callable
from typing import Any

import jax

REPEATS = 5
"""Times that a program is timed; the fastest one counts."""


def seconds_of(program: Callable[..., Any], *args: Any) -> float:
    """Returns the seconds that a program takes once it is compiled."""
    jax.block_until_ready(program(*args))
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(program(*args))
        found.append(time.perf_counter() - start)
    return min(found)
