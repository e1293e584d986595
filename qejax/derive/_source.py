"""Where an operation stands in the user's code, and what the user calls it."""

import os
from typing import Any

import flax
import jax

from qejax.derive._units import Reason

_LIBRARIES = tuple(
    os.path.dirname(os.path.abspath(str(module.__file__))) + os.sep
    for module in (jax, flax)
)
_NAMED = (
    os.path.join("jax", "_src", "nn", "functions.py"),
    os.path.join("jax", "_src", "numpy", ""),
    os.path.join("jax", "_src", "scipy", ""),
)
"""Modules whose public functions are what a user calls."""


def reason_of(eqn: Any) -> Reason:
    """Returns the name of what an equation belongs to, and the line that calls it.

    The name is that of the outermost public function of `jax.nn` or `jax.numpy` that
    the line goes through, of the primitive if there is none; the line is the innermost
    one outside of JAX and Flax.
    """
    traceback = eqn.source_info.traceback
    name, where = eqn.primitive.name, ""
    for frame in traceback.frames if traceback is not None else ():
        file, function = frame.file_name, frame.function_name.split(".")[-1]
        if not file.startswith(_LIBRARIES):
            where = f"{os.path.basename(file)}:{frame.line_num}"
            break
        if any(part in file for part in _NAMED) and _public(function):
            name = function
    return Reason(name, where)


def _public(function: str) -> bool:
    return not function.startswith(("_", "<")) and function not in _PLUMBING


_PLUMBING = ("wrapper", "fn", "wrapped", "deferring_binary_op", "op", "meth", "astype")
"""Functions of `jax.numpy` that stand between a line and what it calls."""
