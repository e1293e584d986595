"""What is known so far: which sets of units are one, and what may act on each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from qejax.derive._forms import Equations, Form
from qejax.derive._units import (
    FIXED,
    LINEAR,
    MONOMIAL,
    Atom,
    Axis,
    Reason,
    Segment,
    Units,
    atoms_of,
    fixed,
    merged,
    root,
    size_of,
)

MOST_SEGMENTS = 1024
"""Terms of a sum of units that are told apart."""


@dataclass(frozen=True)
class Turn:
    """A sine whose argument has a bias of its own.

    Attributes:
        unknown: whose sign is that of an odd number of half periods.
        leaf: path of the bias.
        step: what half a period adds to it.
    """

    unknown: int
    leaf: str
    step: float


class Node(NamedTuple):
    """An operation that was read.

    Attributes:
        name: of the primitive; "loop" where nothing more is known of it.
        primitive: itself, `None` of a loop.
        params: of it.
        inputs: values of the operands.
        outputs: values of the results.
        dtypes: of the operands.
    """

    name: str
    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    dtypes: tuple[Any, ...] = ()


@dataclass
class Sets:
    """Sets of units and what may act on them: the state of one derivation.

    Attributes:
        equations: of all unknown factors.
        reason: the operation that is being read.
        contexts: axes that stood beside each other, for what may differ along what.
        roles: by tag, -1 of leaf axes along which units are read, 1 of others.
        turns: sines.
        nodes: all operations, in order.
        read: how often each leaf is read, by path.
        unsupported: operations without a rule, and where they are.
    """

    equations: Equations = field(default_factory=Equations)
    reason: Reason = field(default_factory=lambda: Reason("", ""))
    contexts: list[tuple[Axis, ...]] = field(default_factory=list)
    roles: dict[int, int] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    unsupported: dict[Reason, int] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)
    created: int = 0
    tags: int = 0

    def new_units(self, size: int, like: Units | None = None) -> Units:
        """Returns a new set of units, with the limits of another one."""
        self.created += 1
        units = Units(size, self.created)
        if like is not None:
            units.kind, units.ones = like.kind, like.ones
            units.reasons = dict(like.reasons)
        return units

    def new_axis(self, size: int, *, tagged: bool = False) -> Axis:
        """Returns an axis on which anything may act; tagged if it is one of a leaf."""
        if size == 1:
            return fixed(1)
        self.tags += tagged
        unknown, tag = self.equations.unknown(), self.tags if tagged else 0
        return ((Atom(size, self.new_units(size), unknown, tag=tag),),)

    def normal(self, axis: Axis) -> Axis:
        """Returns the axis in terms of sets that are neither sums nor products."""
        segments: list[Segment] = []
        for segment in axis:
            segments += self.product([self._expanded(atom) for atom in segment])
        return merged(self.cleaned(segments))

    def cleaned(self, segments: Sequence[Segment]) -> list[Segment]:
        """Segments without single units beside others: their factor is nobody's."""
        for segment in segments:
            for atom in segment:
                if atom.size == 1 < len(segment) and atom.units is not None:
                    self._lower(root(atom.units), FIXED)
                    self.one(atom.form, root(atom.units))
        return [
            tuple(a for a in segment if a.size > 1 or len(segment) == 1)
            or (Atom(1, constant=True),)
            for segment in segments
        ]

    def _expanded(self, atom: Atom) -> list[Segment]:
        if atom.units is None:
            return [(atom,)]
        units, form = root(atom.units), self.equations.reduced(atom.form)
        if units.parts is None:
            if units.kind == FIXED:
                self.one(form, units)
                return [(Atom(units.size),)]
            return [(Atom(units.size, units, form, tag=atom.tag),)]
        parts = [
            self._expanded(
                Atom(part.size, part, self._part_of(form, units, n), tag=atom.tag)
            )
            for n, part in enumerate(units.parts)
        ]
        if units.stacked:
            return [segment for part in parts for segment in part]
        return self.product(parts)

    def product(self, parts: Sequence[Sequence[Segment]]) -> list[Segment]:
        """The product of sums, row-major.

        A sum behind other factors has its terms once for each index of those if nothing
        moves them; it is fixed if something does. Axes in front of one of which nothing
        is known yet (sides of a kernel) are fixed in its place.
        """
        segments: list[Segment] = [()]
        for part in parts:
            if len(part) == 1:
                segments = [(*segment, *part[0]) for segment in segments]
                continue
            moved = atoms_of([tuple(segments)])
            if all(root(atom.units).fresh for atom in moved):
                for atom in moved:
                    self.fix(atom)
                segments = list(self.normal(tuple(segments)))
                moved = []
            still = not moved
            times = sum(map(size_of, segments))
            if still and times * len(part) <= MOST_SEGMENTS:
                segments = list(part) * times
                continue
            for atom in atoms_of([tuple(part)]):
                self.fix(atom)
            rest = Atom(sum(size_of(segment) for segment in part))
            segments = [(*segment, rest) for segment in segments]
        return segments

    def _part_of(self, form: Form, units: Units, number: int) -> Form:
        """The form on one of the parts of its units."""
        found: dict[int, int] = {}
        for v in form.unknowns:
            if v not in units.splits:
                made = tuple(self.equations.fresh() for _ in units.parts or ())
                units.splits[v] = made
            found[v] = units.splits[v][number]
        size = tuple(sorted((found[v], k) for v, k in form.size))
        part = Form(size, frozenset(found[v] for v in form.sign))
        # Half a turn of a set is not one of its parts.
        for v in form.sign & self.equations.last:
            self.equations.one(Form((), frozenset([v, found[v]])))
            self.equations.one(Form((), frozenset([v])))
        return self.equations.reduced(part)

    def one(
        self, form: Form, units: Units | None, *, size: bool = True, sign: bool = True
    ) -> None:
        """Nothing but one is allowed for the factors in the form."""
        before = self.equations.reduced(form)
        self.equations.one(before, size=size, sign=sign)
        if units is not None:
            for lost, gone in (
                ("sizes", size and before.size),
                ("signs", sign and before.sign),
            ):
                if gone:
                    self._because(units, lost)

    def same(self, first: Form, second: Form, units: Units | None = None) -> None:
        """Both forms are equal: a loss only where nothing else is left to be so."""
        difference = self.equations.reduced(first + -second)
        alone = max(len(difference.size), len(difference.sign)) == 1
        self.one(difference, units if alone else None)

    def _because(self, units: Units, lost: str) -> None:
        units.reasons.setdefault(lost, self.reason)

    def lower(self, atom: Atom, kind: int) -> None:
        """At most this kind of action is left on the units of an atom."""
        if atom.units is None:
            return
        for segment in self.normal(((atom,),)):
            for part in segment:
                if part.units is not None:
                    self._lower(root(part.units), kind)
        self.normal(((atom,),))

    def _lower(self, units: Units, kind: int) -> None:
        kind = FIXED if kind == MONOMIAL and units.rotary else kind
        if kind < units.kind:
            units.kind = kind
            self._because(units, {MONOMIAL: "matrices", FIXED: "all"}[kind])

    def fix(self, atom: Atom) -> None:
        """Nothing acts on the units of an atom any more."""
        self.lower(atom, FIXED)

    def keep_ones(self, atom: Atom) -> None:
        """The vector of ones stays, on the units of an atom."""
        for segment in self.normal(((atom,),)):
            for part in segment:
                if part.units is None:
                    continue
                units = root(part.units)
                self.one(part.form, units)
                if not units.ones:
                    units.ones = True
                    self._because(units, "ones")
                if units.rotary or units.size == 1:
                    self._lower(units, FIXED)
        self.normal(((atom,),))

    def keep_rotary(self, atom: Atom) -> None:
        """What acts on the units commutes with rotary embedding."""
        for segment in self.normal(((atom,),)):
            for part in segment:
                if part.units is None:
                    continue
                units = root(part.units)
                units.rotary = True
                self._because(units, "rotary")
                if units.kind != LINEAR or units.ones or len(segment) > 1:
                    self._lower(units, FIXED)

    def unite(self, first: Atom, second: Atom) -> None:
        """The units of both atoms are the same set; their forms are not compared."""
        if first.units is None or second.units is None:
            for atom in (first, second):
                self.fix(atom)
            return
        a, b = sorted((root(first.units), root(second.units)), key=lambda u: u.number)
        if a is b:
            return
        assert a.size == b.size
        assert a.parts is None
        assert b.parts is None
        b.parent = a
        a.ones |= b.ones
        rotary = a.rotary != b.rotary or a.rotary
        for lost, reason in b.reasons.items():
            a.reasons.setdefault(lost, reason)
        a.kind = min(a.kind, b.kind)
        a.rotary = rotary
        if rotary and (a.kind != LINEAR or a.ones):
            self._lower(a, FIXED)

    def divide(self, units: Units, first: int, *, stacked: bool) -> None:
        """Makes a set a product `first x rest`, or a sum `first + rest`."""
        units = root(units)
        assert units.parts is None
        rest = units.size - first if stacked else units.size // first
        if units.rotary:
            self._lower(units, FIXED)
        units.parts = [self.new_units(size, units) for size in (first, rest)]
        units.stacked = stacked
        for part in units.parts:
            self._because(part, "split")
