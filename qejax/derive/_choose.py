"""Which groups of the library act on a set of units, from what is left of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm

from qejax.derive._forms import Form
from qejax.derive._ledger import Ledger, Turn
from qejax.derive._parts import Place
from qejax.derive._units import FIXED, LINEAR, MONOMIAL, Units


@dataclass
class Action:
    """A group on a set of units, or on the one factor of each of them.

    Attributes:
        group: a name in `qejax.groups.GROUPS`.
        powers: at every place of the units.
        turn: the sine whose half periods are part of it.
    """

    group: str
    powers: list[int]
    turn: Turn | None = None


@dataclass
class Choice:
    """Everything that acts on a set of units.

    Attributes:
        units: the set.
        places: where it is.
        main: what moves the units.
        extras: factors of each unit beside it.
        host: the set along which elements differ.
    """

    units: Units
    places: list[Place]
    main: Action
    extras: list[Action] = field(default_factory=list)
    host: Units | None = None


def choose(
    ledger: Ledger, units: Units, places: list[Place], inner: Sequence[Choice] = ()
) -> Choice | None:
    """Returns what acts on a set of units; `None` if nothing does.

    Args:
        ledger: of what is known; the set loses matrices that no group here has.
        units: the set.
        places: where it is.
        inner: what acts on the sets whose elements differ along it: a factor of one of
            its units that is one of all theirs is not counted again.
    """
    if units.kind == LINEAR:
        action = _matrices(units, places)
        if action is not None:
            return Choice(units, places, action)
        units.kind = FIXED if units.rotary else MONOMIAL
    if units.kind == FIXED:
        return None
    return _monomial(ledger, units, places, inner)


def _matrices(units: Units, places: list[Place]) -> Action | None:
    sizes = {v for place in places for v, _ in place.form.size}
    roles = [place.role for place in places]
    if not sizes:
        if units.rotary:
            return None
        return Action("orthogonal_ones" if units.ones else "orthogonal", roles)
    powers = [dict(place.form.size).get(min(sizes), Fraction(0)) for place in places]
    signs = [place.form.sign for place in places]
    plain = len(sizes) == 1 and all(abs(power) == 1 for power in powers)
    if not plain or units.ones or len(set(signs)) > 1 or not signs[0]:
        return None
    whole = _oriented([int(power) for power in powers], roles)
    kernels = {place.part for place in places}
    group = "general_linear" if len(kernels) <= MANY else "linear_stream"
    return Action("rotary" if units.rotary else group, whole)


MANY = 4
"""Leaves on which matrices act between two layers: two kernels and their biases."""


def _oriented(powers: list[int], roles: list[int]) -> list[int]:
    """Powers with the sign for which leaves that write have positive ones."""
    first = next(p * r for p, r in zip(powers, roles, strict=True) if p)
    return powers if first > 0 else [-power for power in powers]


class Span:
    """Vectors that are known to be combinations of others, over a field.

    Args:
        two: whether the field has two elements; the rationals otherwise.
    """

    def __init__(self, *, two: bool = False) -> None:
        self.two = two
        self._rows: dict[int, dict[int, Fraction]] = {}

    def _left(self, vector: dict[int, Fraction]) -> dict[int, Fraction]:
        left = {k: self._of(x) for k, x in vector.items() if self._of(x)}
        while True:
            pivot = next((k for k in sorted(left) if k in self._rows), None)
            if pivot is None:
                return left
            times = left[pivot]
            for k, x in self._rows[pivot].items():
                value = self._of(left.get(k, Fraction(0)) - times * x)
                if value:
                    left[k] = value
                else:
                    left.pop(k, None)

    def _of(self, x: Fraction) -> Fraction:
        return Fraction(x % 2) if self.two else Fraction(x)

    def add(self, vector: dict[int, Fraction]) -> bool:
        """Adds a vector; returns whether it is no combination of those before."""
        left = self._left(vector)
        if not left:
            return False
        pivot = min(left)
        self._rows[pivot] = {k: self._of(x / left[pivot]) for k, x in left.items()}
        return True


@dataclass
class Dimensions:
    """Independent factors, as vectors over places: sizes over Q, signs over GF(2)."""

    sizes: list[list[Fraction]]
    signs: list[list[int]]
    turns: list[tuple[Turn, list[int]]]


def dimensions(forms: Sequence[Form], turns: Sequence[Turn] = ()) -> Dimensions:
    """Returns the factors that forms are made of."""
    known = {turn.unknown: turn for turn in turns}
    of_size = sorted({v for form in forms for v, _ in form.size})
    of_sign = sorted({v for form in forms for v in form.sign})
    sizes = [[dict(f.size).get(v, Fraction(0)) for f in forms] for v in of_size]
    signs = {v: [int(v in f.sign) for f in forms] for v in of_sign}
    return Dimensions(
        sizes,
        [row for v, row in signs.items() if v not in known],
        [(known[v], row) for v, row in signs.items() if v in known],
    )


def paired(
    sizes: list[list[Fraction]], signs: list[list[int]]
) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Returns factors of either sign, positive factors, and signs.

    A sign goes with a size if the size has powers of one, and none where the sign has
    none: both together are a number that is not zero.
    """
    both, alone = [], []
    span = Span()
    candidates = list(sizes)
    for n, a in enumerate(sizes):
        for b in sizes[n + 1 :]:
            candidates += [
                [x + y for x, y in zip(a, b, strict=True)],
                [x - y for x, y in zip(a, b, strict=True)],
            ]
    for sign in signs:
        for size in candidates:
            if all(abs(x) == s for x, s in zip(size, sign, strict=True)) and span.add(
                dict(enumerate(size))
            ):
                both.append([int(x) for x in size])
                break
        else:
            alone.append(sign)
    positive = []
    for size in sizes:
        if span.add(dict(enumerate(size))):
            scale = lcm(*(x.denominator for x in size))
            positive.append([int(x * scale) for x in size])
    return both, positive, alone


def _monomial(
    ledger: Ledger, units: Units, places: list[Place], inner: Sequence[Choice]
) -> Choice:
    roles = [place.role for place in places]
    found = dimensions([place.form for place in places], ledger.turns)
    sizes, signs = _beyond(places, inner, found)
    turn = _turn(found, roles)
    both, positive, alone = paired(sizes, signs)
    extras = [Action("absorbed", _oriented(row, roles)) for row in both]
    if positive:
        row, *positive = positive
        main = Action("positive_scale", _oriented(row, roles))
    elif turn is not None:
        main = Action("dihedral", roles, turn)
        alone = [row for row in alone if not all(row)]
    elif alone:
        row, *alone = alone
        main = Action("sign", _signed(row, roles))
    else:
        main = Action("permutation", roles)
    extras += [Action("positive_scale", _oriented(row, roles)) for row in positive]
    extras += [Action("sign", row) for row in alone]
    return Choice(units, places, main, extras)


def _beyond(
    places: list[Place], inner: Sequence[Choice], found: Dimensions
) -> tuple[list[list[Fraction]], list[list[int]]]:
    """Factors of units that sets along them do not have already."""
    if not inner:
        return found.sizes, found.signs
    sizes, signs = Span(), Span(two=True)
    for choice in inner:
        own = [_nearest(places, place) for place in choice.places]
        for action in (choice.main, *choice.extras):
            add_action(action, own, sizes, signs)
    rows = range(len(places))
    return (
        [row for row in found.sizes if sizes.add(totals(row, rows))],
        [row for row in found.signs if signs.add(totals(row, rows))],
    )


def _nearest(places: list[Place], place: Place) -> int:
    """Number of the last place of a host before a place in the same part."""
    return max(
        n
        for n, host in enumerate(places)
        if host.part == place.part
        and (host.axis, host.factor) < (place.axis, place.factor)
    )


SIZED = ("general_linear", "linear_stream", "rotary", "absorbed", "positive_scale")
"""Groups that have one factor of all units, of any positive size."""

SIGNED = (
    *("general_linear", "linear_stream", "rotary", "absorbed", "sign", "dihedral"),
    "orthogonal",
)
"""Groups that have the sign of all units."""


def add_action(action: Action, keys: Sequence[int], sizes: Span, signs: Span) -> None:
    """Adds what one factor of all units does, at places with these keys."""
    if action.group in SIZED:
        sizes.add(totals(action.powers, keys))
    if action.group in SIGNED:
        signs.add(totals(action.powers, keys))


def _turn(found: Dimensions, roles: list[int]) -> Turn | None:
    """The turn of sine units: readers feel it, writers do not, and all feel a sign."""
    for turn, row in found.turns:
        felt = [role < 0 for role in roles]
        if [bool(x) for x in row] == felt and any(all(r) for r in found.signs):
            return turn
    return None


def _signed(row: list[int], roles: list[int]) -> list[int]:
    """Powers of signs: even where they are not felt."""
    return [role if sign else 2 * role for sign, role in zip(row, roles, strict=True)]


def totals(row: Sequence[Fraction | int], keys: Sequence[int]) -> dict[int, Fraction]:
    """Returns the power of one factor of all units, summed by key."""
    total: dict[int, Fraction] = {}
    for power, key in zip(row, keys, strict=True):
        total[key] = total.get(key, Fraction(0)) + power
    return {key: power for key, power in total.items() if power}
