"""Sets of units, and the axes of arrays as sums of products of them.

What acts on an axis is found by unification, as types are. Every leaf axis starts as a
set of units of its own on which any matrix may act; an operation that couples two axes
makes one set of both, an operation that an action does not commute with lowers what may
act, a reshape makes a set a product of two, a slice a sum. All of these only ever take
away, so that their order does not matter and loops need no second pass.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from qejax.derive._forms import ONE, Form

LINEAR, MONOMIAL, FIXED = 2, 1, 0
"""What may act: matrices, permutations with factors, nothing."""


class Reason(NamedTuple):
    """An operation of the user's function, and where it is called.

    Attributes:
        operation: what the user calls, or the primitive.
        where: file and line of the user.
        named: whether it is a function that users call.
    """

    operation: str
    where: str
    named: bool = True

    def __str__(self) -> str:
        """Returns `gelu at block.py:41`."""
        return f"{self.operation} at {self.where}" if self.where else self.operation


@dataclass(eq=False)
class Units:
    """A set of units; a node of a union-find forest.

    Attributes:
        size: how many.
        number: in order of creation.
        kind: `LINEAR`, `MONOMIAL` or `FIXED`.
        ones: whether the vector of ones stays.
        rotary: whether what acts has to commute with rotary embedding.
        parent: the set that it was made one with.
        parts: what it is a product or a sum of; `None` of what is neither.
        stacked: whether the parts are those of a sum.
        splits: for each unknown, the unknowns of the parts that stand for it.
        reasons: what lowered it, by what was lost.
    """

    size: int
    number: int
    kind: int = LINEAR
    ones: bool = False
    rotary: bool = False
    parent: "Units | None" = None
    parts: "list[Units] | None" = None
    stacked: bool = False
    splits: dict[int, tuple[int, ...]] = field(default_factory=dict)
    reasons: dict[str, Reason] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        """Whether nothing has lowered it yet."""
        return self.kind == LINEAR and not self.reasons


class Atom(NamedTuple):
    """One factor of an axis.

    Attributes:
        size: number of indices.
        units: which set of units they are; `None` of indices that nothing moves.
        form: the factors that the units are multiplied by.
        constant: whether all entries along it are the same, so that it may be taken for
            any set of units where that has no consequence.
        tag: number of the leaf axis that it is (a part of), 0 of what was computed.
    """

    size: int
    units: Units | None = None
    form: Form = ONE
    constant: bool = False
    tag: int = 0


Segment = tuple[Atom, ...]
"""A product of atoms, the last one fastest."""

Axis = tuple[Segment, ...]
"""A sum of products: segments one behind the other."""


def fixed(size: int) -> Axis:
    """Returns an axis that nothing moves."""
    return ((Atom(size, constant=size == 1),),)


def constant(size: int) -> Axis:
    """Returns an axis along which all entries are the same."""
    return ((Atom(size, constant=True),),)


def size_of(segment: Iterable[Atom]) -> int:
    """Returns the number of indices of a product."""
    total = 1
    for atom in segment:
        total *= atom.size
    return total


def length(axis: Axis) -> int:
    """Returns the number of indices of an axis."""
    return sum(size_of(segment) for segment in axis)


def is_constant(axis: Axis) -> bool:
    """Whether all entries along the axis are the same."""
    return len(axis) == 1 and all(atom.constant for atom in axis[0])


def is_still(axis: Axis) -> bool:
    """Whether no units are on the axis."""
    return all(atom.units is None for segment in axis for atom in segment)


def atoms_of(axes: Iterable[Axis]) -> list[Any]:
    """Returns all atoms of axes that units are on."""
    return [
        atom
        for axis in axes
        for segment in axis
        for atom in segment
        if atom.units is not None
    ]


def root(units: Units) -> Units:
    """Returns the set that stands for all that were made one with it."""
    top = units
    while top.parent is not None:
        top = top.parent
    while units.parent is not None:
        units.parent, units = top, units.parent
    return top


def merged(segments: Sequence[Segment]) -> Axis:
    """Returns segments with neighbours joined where nothing tells them apart.

    Indices that nothing moves are one atom; the same units several times over, as in
    patches of an image, are a product.
    """
    tidy: list[Segment] = []
    for segment in segments:
        tidy.append(_joined(segment))
        if len(tidy) > 1:
            both = _repeated(*tidy[-2:])
            if both is not None:
                tidy[-2:] = [both]
    return tuple(tidy)


def _joined(segment: Segment) -> Segment:
    joined: list[Atom] = []
    for atom in segment:
        if atom.size == 1 and atom.units is None:
            continue
        last = joined[-1] if joined else None
        if last is not None and _alike(last, atom):
            joined[-1] = Atom(last.size * atom.size, constant=last.constant)
        else:
            joined.append(atom)
    return tuple(joined) or (Atom(1, constant=True),)


def _repeated(first: Segment, second: Segment) -> Segment | None:
    """Both segments as one; `None` if they are not terms of the same kind."""
    if len(first) == len(second) == 1 and _still(first[0]) and _still(second[0]):
        return (Atom(first[0].size + second[0].size),)
    (times, own), (again, other) = _times(first), _times(second)
    if not own or len(own) != len(other):
        return None
    same = all(
        a.units is not None
        and b.units is not None
        and root(a.units) is root(b.units)
        and a.form == b.form
        for a, b in zip(own, other, strict=True)
    )
    return (Atom(times + again), *own) if same else None


def _times(segment: Segment) -> tuple[int, Segment]:
    """How often a product of units is repeated, and the product."""
    if _still(segment[0]):
        return segment[0].size, segment[1:]
    return 1, segment


def _still(atom: Atom) -> bool:
    return atom.units is None and not atom.constant


def _alike(a: Atom, b: Atom) -> bool:
    return a.units is None and b.units is None and a.constant == b.constant
