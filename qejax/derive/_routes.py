"""Shifts of a spec, from addends that the function does not see."""

import string
from collections.abc import Iterator, Mapping, Sequence

from qejax.derive._delta import Letter
from qejax.derive._shifts import Free, Taken
from qejax.spaces import Leaf, Route, Shift

Label = tuple[str, int, int]
"""What an axis of a view is: the space of a factor beside units, "" of the units
themselves; the axis of the stored array, and the factor along it."""

_KEEP_ONES = ("permutation", "orthogonal_ones")


def shifts_of(
    found: Sequence[Free],
    leaves: Mapping[str, Leaf],
    labels: Mapping[str, Sequence[Label]],
    groups: Mapping[str, str],
) -> tuple[Shift, ...]:
    """Returns shifts; those that are constant along axes last.

    Args:
        found: addends that the function does not see.
        leaves: of the spec, by path.
        labels: of the axes of their views.
        groups: of the spaces.
    """
    shifts = []
    for free in found:
        leaf = leaves[free.leaf]
        along = tuple(
            n
            for n, (space, axis, factor) in enumerate(labels[free.leaf])
            if not space and (axis, factor) in free.along
        )
        allowed = all(
            leaf.axes[n].space is None or groups[str(leaf.axes[n].space)] in _KEEP_ONES
            for n in along
        )
        routes = [_route(free, taken, leaves, labels, along) for taken in free.taken]
        if allowed and None not in routes:
            name = free.leaf.replace("/", ".")
            name += "".join(f".mean_{n}" for n in along) or ".shift"
            shifts.append(
                Shift(name, leaf.path, tuple(r for r in routes if r is not None), along)
            )
    return tuple(sorted(shifts, key=lambda shift: bool(shift.along)))


def _route(
    free: Free,
    taken: Taken,
    leaves: Mapping[str, Leaf],
    labels: Mapping[str, Sequence[Label]],
    along: Sequence[int],
) -> Route | None:
    shifted = [x for n, x in enumerate(labels[free.leaf]) if n not in along]
    bias = labels[taken.leaf]
    from_bias: dict[Letter, Letter] = {}
    for own, other in zip(taken.delta.marks, taken.marks, strict=True):
        for (a, _), (b, _) in zip(own, other, strict=False):
            if a is not None and b is not None:
                from_bias[b] = a
    if taken.delta.kernel is None:
        return (
            Route(None, leaves[taken.leaf].path)
            if _spread(shifted, bias, from_bias)
            else None
        )
    path, pairs = taken.delta.kernel
    summed = dict(pairs)
    free_letters = iter(string.ascii_letters)
    letters: dict[tuple[str, Label], str] = {}
    left = _named(free.leaf, shifted, letters, free_letters)
    middle = ""
    for label in labels[path]:
        space, axis, factor = label
        letter = summed.get((path, axis, factor))
        if letter is not None:
            same = (free.leaf, (space, letter[1], letter[2]))
            letters[path, label] = letters.get(same) or next(free_letters)
        else:
            letters[path, label] = next(free_letters)
        middle += letters[path, label]
    right = ""
    for space, axis, factor in bias:
        source = from_bias.get((taken.leaf, axis, factor))
        key = None if source is None else (source[0], (space, source[1], source[2]))
        found = letters.get(key) if key is not None else None
        found = found or _by_space(space, letters)
        if found is None or found in right:
            return None
        right += found
    return Route(
        leaves[path].path, leaves[taken.leaf].path, f"{left},{middle}->{right}"
    )


def _spread(
    shifted: Sequence[Label], bias: Sequence[Label], source: Mapping[Letter, Letter]
) -> bool:
    """Whether an addend is spread over a bias as arrays are, last axes first."""
    by_place = {("", b[1], b[2]): a[1:] for b, a in source.items()}
    own = list(reversed(shifted))
    for label, other in zip(own, reversed(bias), strict=False):
        given = by_place.get(other)
        if not label[0] and given != label[1:]:
            return False
    return len(own) <= len(bias)


def _by_space(space: str, letters: Mapping[tuple[str, Label], str]) -> str | None:
    """The letter of any axis of a factor of this space."""
    if not space:
        return None
    return next((x for (_, label), x in letters.items() if label[0] == space), None)


def _named(
    path: str,
    shifted: Sequence[Label],
    letters: dict[tuple[str, Label], str],
    free: Iterator[str],
) -> str:
    text = ""
    for label in shifted:
        letters[path, label] = next(free)
        text += letters[path, label]
    return text
