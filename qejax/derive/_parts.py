"""The leaves after the whole function was read: which units are on which axis."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from qejax.derive._forms import Form
from qejax.derive._ledger import Ledger
from qejax.derive._units import Atom, Axis, Segment, Units, atoms_of, root, size_of
from qejax.derive._value import Value


@dataclass(frozen=True)
class Part:
    """A leaf, or a part of one along every axis of which is one product of units.

    Attributes:
        path: of the leaf.
        key: the path, with the number of a slice behind it that has units of its own.
        shape: of the leaf's array.
        starts: where the part begins along every axis.
        axes: a product of atoms for each axis.
        factor: what all of it is multiplied by.
    """

    path: str
    key: str
    shape: tuple[int, ...]
    starts: tuple[int, ...]
    axes: tuple[Segment, ...]
    factor: Form

    @property
    def whole(self) -> bool:
        """Whether it is all of the leaf."""
        return tuple(map(size_of, self.axes)) == self.shape

    @property
    def vector(self) -> bool:
        """Whether it has one axis with one factor, but for axes of one index."""
        sizes = [atom.size for segment in self.axes for atom in segment]
        return sum(size > 1 for size in sizes) == 1


class Place(NamedTuple):
    """Where a set of units is on a part.

    Attributes:
        part: number of the part.
        axis: number of the axis.
        factor: number of the factor along it.
        form: what the units are multiplied by there.
        role: 1 if the units are written along it, -1 if they are read.
        alone: key of the part if it has no other axis, "" otherwise.
    """

    part: int
    axis: int
    factor: int
    form: Form
    role: int
    alone: str = ""


def parts_of(ledger: Ledger, leaves: Mapping[str, Value]) -> list[Part]:
    """Returns the parts of all leaves, in the order in which leaves are read."""
    order = {path: number for number, path in enumerate(ledger.read)}
    paths = sorted(leaves, key=lambda path: order.get(path, len(order)))
    parts: list[Part] = []
    for path in paths:
        value = leaves[path]
        if value.pieces is None:
            parts += _parts(ledger, path, value, ())
        for number, piece in enumerate(value.pieces or ()):
            parts += _parts(ledger, path, piece, (number, len(value.pieces or ())))
    return parts


def _parts(
    ledger: Ledger, path: str, value: Value, place: tuple[int, ...]
) -> list[Part]:
    """Parts of a leaf, or of the slice `place = (number, of how many)` of one."""
    axes = [ledger.normal(axis) for axis in value.axes]
    factor = ledger.equations.reduced(value.factor)
    shape = tuple(sum(map(size_of, axis)) for axis in axes)
    starts = [_starts(axis) for axis in axes]
    lead = () if not place else ((Atom(1, constant=True),),)
    found = []
    for numbers in itertools.product(*(range(len(axis)) for axis in axes)):
        segments = [axis[n] for axis, n in zip(axes, numbers, strict=True)]
        # A factor of one unit is one of all the part.
        single = [a.form for s in segments for a in s if a.units and a.size == 1]
        found.append(
            Part(
                path,
                f"{path}[{place[0]}]" if place else path,
                (*place[1:], *shape),
                (*place[:1], *(s[n] for s, n in zip(starts, numbers, strict=True))),
                (*lead, *map(_without_single, segments)),
                ledger.equations.reduced(sum(single, factor)),
            )
        )
    return found


def _without_single(segment: Segment) -> Segment:
    return tuple(Atom(1, constant=True) if atom.size == 1 else atom for atom in segment)


def _starts(axis: Axis) -> list[int]:
    return [0, *itertools.accumulate(map(size_of, axis))][:-1]


def places_of(ledger: Ledger, parts: list[Part]) -> dict[Units, list[Place]]:
    """Returns where each set of units is, sets in the order of their first place.

    Sets that leaves write come before those that they only read.
    """
    found: dict[Units, list[Place]] = {}
    for number, part in enumerate(parts):
        for position, segment in enumerate(part.axes):
            for factor, atom in enumerate(segment):
                if atom.units is None:
                    continue
                role = ledger.roles.get(atom.tag, 1)
                alone = part.key if part.vector else ""
                place = Place(number, position, factor, atom.form, role, alone)
                found.setdefault(root(atom.units), []).append(place)
    return found


def hosts_of(
    ledger: Ledger, parts: list[Part], places: Mapping[Units, list[Place]]
) -> dict[Units, Units]:
    """Returns for a set of units the set along which its elements may differ.

    They may if wherever the set is, the other one stands beside it, index by index, and
    only permutes: an operation on one index of it sees one element.
    """
    allowed: dict[Units, set[Units]] = {}
    contexts = [tuple(((segment,)) for segment in part.axes) for part in parts]
    for context in itertools.chain(ledger.contexts, contexts):
        for units, around in _around([ledger.normal(axis) for axis in context]):
            if units in allowed:
                allowed[units] &= around
            else:
                allowed[units] = set(around)
    hosts: dict[Units, Units] = {}
    for units, own in places.items():
        able = [
            host
            for host in allowed.get(units, set())
            if host.kind == 1
            and host in places
            and host not in hosts
            and all(_before(parts[p.part], p, host) for p in own)
            and units not in hosts.values()
        ]
        if able:
            hosts[units] = max(able, key=lambda host: (host.size, -host.number))
    return hosts


def _around(axes: list[Axis]) -> list[tuple[Units, set[Units]]]:
    """For each set in an array, those that stand beside it without doubt."""
    found = []
    for number, axis in enumerate(axes):
        others = [
            root(atom.units)
            for n, other in enumerate(axes)
            if n != number
            for atom in atoms_of([other])
            if atom.units is not None
        ]
        for segment in axis:
            inside = [root(a.units) for a in segment if a.units is not None]
            for place, units in enumerate(inside):
                before = set(inside[:place])
                once = {u for u in others if others.count(u) == 1 and u not in inside}
                found.append((units, (before | once) - {units}))
    return found


def _before(part: Part, place: Place, host: Units) -> bool:
    """Whether the host is on an axis before a place, or a factor before it."""
    for position, segment in enumerate(part.axes[: place.axis + 1]):
        for factor, atom in enumerate(segment):
            if (position, factor) >= (place.axis, place.factor):
                return False
            if atom.units is not None and root(atom.units) is host:
                return True
    return False
