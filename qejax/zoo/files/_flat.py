"""Nested values of a pickle as tensors and fields by dotted name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qejax.zoo.files._budget import MAX_STEPS, Budget, Unfit
from qejax.zoo.files._pickle_program import ADVICE, SHORT, Built, Unknown
from qejax.zoo.files._stored import Stored
from qejax.zoo.files._torch_tensors import Tensor, copied

MAX_ENTRIES = 100_000
MAX_NAME = 1000  # dotted, so it bounds the nesting as well: every level adds a dot

MAX_STATES = 4  # of an object: one may be the whole state of another, or of itself

PLAIN_TYPES = (bool, int, float, str, type(None))


def flat(path: Path, outer: Any, ignore: Sequence[str], budget: Budget) -> Stored:
    """Returns the values in nested dictionaries and lists by dotted name.

    Bounded, for a dictionary may hold another one twice, or itself. Lists and tuples of
    plain values are one field; those of anything else are named by position. What is
    neither a tensor nor plain (bytes, names of classes) is left out.

    Args:
        path: of the file, for errors.
        outer: the outermost of them.
        ignore: dotted names of parts that are left out, whatever they hold.
        budget: what the tensors may cost.

    Raises:
        ValueError: if there are too many entries, a name is too long or there twice,
            or a tensor does not fit; says which.
    """
    value = _settled(outer)
    if not isinstance(value, dict):
        raise ValueError(
            f"{path}: expected a dictionary of tensors, got {type(outer).__name__}. "
            f"Save `model.state_dict()`."
        )
    stored = Stored({}, {})
    dropped = {f".{name}" for name in ignore}
    waiting, entries, listed = [("", value)], 0, 0
    while waiting:
        name, value = waiting.pop()  # with a dot in front, but for the outermost
        if name in dropped:
            continue
        value = _settled(value)
        longest = len(name)
        if isinstance(value, dict):
            items = list(value.items())
            longest += max((len(str(key)) for key, _ in items), default=0)
        elif isinstance(value, list):
            items = list(enumerate(value))
        else:
            items = []
            listed += len(value) if type(value) is tuple else 0
            _put(path, stored, name[1:], value, budget)
        entries += len(items)
        if entries > MAX_ENTRIES or listed > MAX_STEPS or longest > MAX_NAME:
            raise ValueError(
                f"{path}: expected at most {MAX_ENTRIES} entries and dotted names of "
                f"at most {MAX_NAME} characters, got more. Save less of it."
            )
        waiting.extend((f"{name}.{key}", item) for key, item in reversed(items))
    return stored


def _settled(value: Any) -> Any:
    """What a value stands for: a list of plain values is a tuple, others are lists."""
    for _ in range(MAX_STATES):
        if not isinstance(value, Built):
            break
        value = value.value
    if type(value) not in (list, tuple):
        return value
    items = [item.value if isinstance(item, Built) else item for item in value]
    plain = all(type(item) in PLAIN_TYPES for item in items)
    return tuple(items) if plain else items


def _put(path: Path, stored: Stored, name: str, value: Any, budget: Budget) -> None:
    """Adds a value that has no parts, if it is a tensor or plain."""
    if isinstance(value, Unknown):
        raise ValueError(
            f"{path}: {name} is made by {value.name.replace(' ', '.')[:80]!r}, which "
            f"was neither imported nor run: expected that only in parts to ignore. "
            f"Read the file without {name}."
        )
    if name in stored.tensors or name in stored.fields:
        raise ValueError(
            f"{path}: expected one tensor or value of a name, got {name!r} twice, from "
            f"nested dictionaries. Save them in different files."
        )
    if isinstance(value, Tensor):
        try:
            stored.tensors[name] = copied(value, budget)
        except Unfit as error:
            raise ValueError(
                f"{path}: tensor {name!r} should take {error.expected}, got "
                f"{SHORT.repr(error.found)[:200]}. {ADVICE}"
            ) from error
    elif isinstance(value, np.ndarray):
        stored.tensors[name] = value
    elif type(value) is tuple:
        stored.fields[name] = list(value)
    elif type(value) in PLAIN_TYPES:
        stored.fields[name] = value
