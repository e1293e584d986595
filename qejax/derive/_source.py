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


def reason_of(eqn: Any, caller: Reason | None = None) -> Reason:
    """Returns the name of what an equation belongs to, and the line that calls it.

    The name is that of the outermost public function of `jax.nn` or `jax.numpy` that
    the line goes through, of the primitive if there is none; the line is the innermost
    one outside of JAX and Flax. Functions of JAX are traced once, whoever calls them:
    their operations are where the caller is.

    Args:
        eqn: the equation.
        caller: the reason of the call that it is inside of.
    """
    traceback = eqn.source_info.traceback
    name, where = "", ""
    for frame in traceback.frames if traceback is not None else ():
        file, function = frame.file_name, frame.function_name.split(".")[-1]
        if not file.startswith(_LIBRARIES):
            where = f"{os.path.basename(file)}:{frame.line_num}"
            break
        if any(part in file for part in _NAMED) and _public(function):
            name = _CALLED.get(function, function)
    if caller is not None and not where:
        where = caller.where
        name = caller.operation if caller.named else name
    return Reason(name or eqn.primitive.name, where, bool(name))


def _public(function: str) -> bool:
    if function in _CALLED:
        return True
    return not function.startswith(("_", "<")) and function not in _PLUMBING


_PLUMBING = (
    *("wrapper", "fn", "wrapped", "deferring_binary_op", "op", "meth", "prop"),
    *("astype", "body_fun", "rewriting_take", "reraise_with_filtered_traceback"),
)
"""Functions of `jax.numpy` that stand between a line and what it calls."""

_CALLED = {"_getitem": "x[...]"}
"""What users write for functions that they do not call by name."""
