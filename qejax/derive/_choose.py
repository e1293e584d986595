"""Which groups of the library act on a set of units, from what is left of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from qejax.derive._ledger import Ledger, Turn
from qejax.derive._parts import Place
from qejax.derive._units import FIXED, LINEAR, MONOMIAL, Units
from qejax.derive._vectors import (
    Dimensions,
    Signs,
    SignSpan,
    Span,
    Vector,
    dimensions,
    odd,
    paired,
    totals,
)


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
    whole = _oriented({n: int(power) for n, power in enumerate(powers)}, roles)
    kernels = {place.part for place in places}
    group = "general_linear" if len(kernels) <= MANY else "linear_stream"
    return Action("rotary" if units.rotary else group, whole)


MANY = 4
"""Leaves on which matrices act between two layers: two kernels and their biases."""


def _oriented(row: Mapping[int, int], roles: list[int]) -> list[int]:
    """Powers with the sign for which leaves that write have positive ones."""
    powers = dense(row, roles)
    first = next(p * r for p, r in zip(powers, roles, strict=True) if p)
    return powers if first > 0 else [-power for power in powers]


def _monomial(
    ledger: Ledger, units: Units, places: list[Place], inner: Sequence[Choice]
) -> Choice:
    roles = [place.role for place in places]
    found = dimensions([place.form for place in places], ledger.turns)
    sizes, signs = _beyond(places, inner, found)
    turn = _turn(ledger, found, places)
    both, positive, alone = paired(sizes, signs)
    extras = [Action("absorbed", _oriented(row, roles)) for row in both]
    if positive:
        row, *positive = positive
        main = Action("positive_scale", _oriented(row, roles))
    elif turn is not None:
        main = Action("dihedral", roles, turn)
        alone = [row for row in alone if len(row) < len(places)]
    elif alone:
        row, *alone = alone
        main = Action("sign", _signed(row, roles))
    else:
        main = Action("permutation", roles)
    extras += [Action("positive_scale", _oriented(row, roles)) for row in positive]
    extras += [Action("sign", dense(dict.fromkeys(row, 1), roles)) for row in alone]
    return Choice(units, places, main, extras)


def _beyond(
    places: list[Place], inner: Sequence[Choice], found: Dimensions
) -> tuple[list[Vector], list[Signs]]:
    """Factors of units that sets along them do not have already."""
    if not inner:
        return found.sizes, found.signs
    sizes, signs = Span(), SignSpan()
    for choice in inner:
        own = [_nearest(places, place) for place in choice.places]
        for action in (choice.main, *choice.extras):
            add_action(action, own, sizes, signs)
    return (
        [row for row in found.sizes if sizes.add(row)],
        [row for row in found.signs if signs.add(row)],
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


def add_action(
    action: Action, keys: Sequence[int], sizes: Span, signs: SignSpan
) -> None:
    """Adds what one factor of all units does, at places with these keys."""
    powers = {n: power for n, power in enumerate(action.powers) if power}
    if action.group in SIZED:
        sizes.add(totals(powers, keys))
    if action.group in SIGNED:
        signs.add(odd([n for n, power in powers.items() if power % 2], keys))


def _turn(ledger: Ledger, found: Dimensions, places: list[Place]) -> Turn | None:
    """The turn of sine units: readers feel it, writers do not, and all feel a sign.

    Its bias has no other reader and no other axis.
    """
    felt = frozenset(n for n, place in enumerate(places) if place.role < 0)
    if all(len(row) < len(places) for row in found.signs):
        return None
    for turn, row in found.turns:
        alone = ledger.read.get(turn.leaf) == 1
        if row == felt and alone and any(p.alone == turn.leaf for p in places):
            return turn
    return None


def _signed(row: Signs, roles: list[int]) -> list[int]:
    """Powers of signs: even where they are not felt."""
    return [role if n in row else 2 * role for n, role in enumerate(roles)]


def dense(row: Mapping[int, int], like: Sequence[object]) -> list[int]:
    """Returns the powers at every place."""
    return [row.get(n, 0) for n in range(len(like))]
