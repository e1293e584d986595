"""Dotted names: nested dictionaries flat, and flat ones nested."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from qejax.zoo.files._bounds import MAX_ENTRIES, check_name


def flatten(where: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what nested dictionaries hold, by dotted name, in their order.

    Raises:
        ValueError: if there are too many entries, a key is no text, or a name is too
            long or there twice; empty dictionaries are left out.
    """
    found: dict[str, Any] = {}
    waiting, entries = [("", tree)], 0
    while waiting:
        name, value = waiting.pop()  # with a dot in front, but for the outermost
        if not isinstance(value, Mapping):
            check_name(where, name[1:])
            if name[1:] in found:
                raise ValueError(
                    f"{where}: expected one entry of a name, got {name[1:]!r} twice, "
                    f"from nested dictionaries. Save them in different files."
                )
            found[name[1:]] = value
            continue
        entries += len(value)
        if entries > MAX_ENTRIES or len(name) > 2 * MAX_ENTRIES:
            raise ValueError(
                f"{where}: expected at most {MAX_ENTRIES} entries, got more. Save less "
                f"of it."
            )
        if name:
            check_name(where, name[1:])
        for key in value:
            if type(key) not in (str, int):
                raise ValueError(
                    f"{where}: keys should be text, got {str(key)[:40]!r} in "
                    f"{name[1:]!r}. Save a dictionary of arrays."
                )
        inner = [(f"{name}.{key}", item) for key, item in value.items()]
        waiting.extend(reversed(inner))
    return found


def nest(where: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dictionaries whose `flatten` is `flat`.

    Raises:
        ValueError: if one name is the beginning of another one.
    """
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *outer, last = name.split(".")
        inside = tree
        for key in outer:
            inside = inside.setdefault(key, {}) if isinstance(inside, dict) else inside
        if not isinstance(inside, dict) or last in inside:
            raise ValueError(
                f"{where}: names should not be the beginning of other names, got "
                f"{name!r} beside one. Rename it."
            )
        inside[last] = value
    return tree


def natural(name: str) -> list[tuple[int, int, str]]:
    """Returns a key by which `Dense_2` sorts before `Dense_10`.

    Example:
        >>> sorted(["net.10.bias", "net.2.bias"], key=natural)
        ['net.2.bias', 'net.10.bias']
    """
    parts = re.split("([0-9]{1,18})", name)
    return [(1, int(p), p) if n % 2 else (0, 0, p) for n, p in enumerate(parts)]


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Returns names sorted by `natural`."""
    return sorted(names, key=natural)
