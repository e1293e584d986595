"""The weight space: unit spaces with names, leaves with axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qejax.derive._choose import Action, Choice, add_action, choose, dense
from qejax.derive._ledger import Ledger
from qejax.derive._parts import Part, Place, hosts_of, places_of
from qejax.derive._units import FIXED, Units, size_of
from qejax.derive._vectors import SignSpan, Span, dimensions, paired
from qejax.spaces import Axis, Leaf, UnitSpace, part_of

Label = tuple[str, int, int]
"""The space of a factor beside units, "" of the units; the stored axis, the factor."""

LEAD = "#"
"""In place of a space: the axis of one index that a slice has among others."""

Row = tuple[str, Choice | None, Action]
"""A space by name, the units that it acts on (whole leaves if none), and how."""


@dataclass(frozen=True)
class Found:
    """What acts on the leaves, with names.

    Attributes:
        spaces: unit spaces, those with others along them first.
        leaves: of the spec.
        choices: by name of the space.
        labels: by path of the leaf, what each axis of its view stands for.
        keys: paths of leaves that are one part, by the key of the part.
        factors: names of spaces of one factor, beside units or of whole leaves.
        moves: by name of the space, leaves and axes as `"dense/kernel[1]"`.
    """

    spaces: tuple[UnitSpace, ...]
    leaves: tuple[Leaf, ...]
    choices: dict[str, Choice]
    labels: dict[str, list[Label]]
    keys: dict[str, str]
    moves: dict[str, tuple[str, ...]]
    factors: frozenset[str]


def chosen(ledger: Ledger, parts: list[Part]) -> list[Choice]:
    """Returns what acts on every set of units, in network order."""
    places = places_of(ledger, parts)
    hosts = hosts_of(ledger, parts, places)
    found: dict[Units, Choice] = {}
    for units, own in places.items():
        if units in hosts.values():
            continue
        choice = choose(ledger, units, own)
        if choice is None:
            hosts.pop(units, None)
            continue
        # A factor beside a set that differs along another one would be two deep.
        if choice.extras:
            hosts.pop(units, None)
        choice.host = hosts.get(units)
        found[units] = choice
    for units, own in places.items():
        if units not in found and units.kind != FIXED:
            inner = [c for c in found.values() if c.host is units]
            choice = choose(ledger, units, own, inner)
            if choice is not None:
                found[units] = choice
    for choice in found.values():
        if choice.host is not None and choice.host not in found:
            choice.host = None
    return [found[units] for units in places if units in found]


def scalars(
    ledger: Ledger, parts: list[Part], choices: Sequence[Choice]
) -> list[Action]:
    """Returns factors of whole leaves that no factor of units is, powers by part."""
    sizes, signs = Span(), SignSpan()
    for choice in choices:
        keys = [place.part for place in choice.places]
        for action in (choice.main, *choice.extras):
            add_action(action, keys, sizes, signs)
    found = dimensions([ledger.equations.reduced(part.factor) for part in parts])
    both, positive, alone = paired(
        [row for row in found.sizes if sizes.add(row)],
        [row for row in found.signs if signs.add(row)],
    )
    rows = [("absorbed", row) for row in both]
    rows += [("positive_scale", row) for row in positive]
    rows += [("sign", dict.fromkeys(row, 1)) for row in alone]
    return [Action(group, dense(row, parts)) for group, row in rows]


def _turn_only_alone(
    parts: list[Part], choice: Choice, whole: Sequence[Action]
) -> None:
    """Half periods need a bias with one axis in its view; signs are left of others."""
    turn = choice.main.turn
    if turn is None:
        return
    number = next(
        place.part for place in choice.places if parts[place.part].key == turn.leaf
    )
    others = [
        action.powers[n]
        for action in choice.extras
        for n, place in enumerate(choice.places)
        if place.part == number
    ]
    others += [action.powers[number] for action in whole]
    if any(others) or parts[number].key != parts[number].path:
        choice.main = Action("sign", choice.main.powers)


def emit(ledger: Ledger, parts: list[Part], free: set[str]) -> Found:
    """Returns the unit spaces and leaves of a derivation."""
    choices = chosen(ledger, parts)
    whole = scalars(ledger, parts, choices)
    for choice in choices:
        _turn_only_alone(parts, choice, whole)
    names = _Names()
    named: dict[Units, str] = {}
    spaces: list[UnitSpace] = []
    rows: list[Row] = []
    hosts = {choice.host for choice in choices}
    for choice in sorted(choices, key=lambda c: c.host is not None):
        name = _written(parts, choice.places, choice.main)
        name = names.of(f"{name}.blocks" if choice.units in hosts else name)
        named[choice.units] = name
        host = None if choice.host is None else named[choice.host]
        spaces.append(UnitSpace(name, choice.units.size, choice.main.group, host))
        rows.append((name, choice, choice.main))
        for extra in choice.extras:
            own = names.of(f"{_written(parts, choice.places, extra)}.scale")
            spaces.append(UnitSpace(own, 1, extra.group, name))
            rows.append((own, choice, extra))
    for action in whole:
        first = next(n for n, power in enumerate(action.powers) if power)
        own = names.of(f"{_module(parts[first].path)}.factor")
        spaces.append(UnitSpace(own, 1, action.group))
        rows.append((own, None, action))
    leaves, labels = [], {}
    keys: dict[str, list[str]] = {}
    placed = _placed(parts, rows)
    named_whole = [(name, action) for name, choice, action in rows if choice is None]
    for number in range(len(parts)):
        axes, own = _axes(parts, number, named_whole, placed, free)
        leaf = _leaf(parts[number], axes)
        leaves.append(leaf)
        labels[leaf.path] = own
        keys.setdefault(parts[number].key, []).append(leaf.path)
    return Found(
        _in_order(spaces, rows),
        tuple(leaves),
        {name: choice for name, choice, _ in rows if choice is not None},
        labels,
        {key: paths[0] for key, paths in keys.items() if len(paths) == 1},
        {name: _moves(parts, choice, action) for name, choice, action in rows},
        frozenset(
            name
            for name, choice, action in rows
            if choice is None or action is not choice.main
        ),
    )


def _moves(parts: list[Part], choice: Choice | None, action: Action) -> tuple[str, ...]:
    """Where an action is felt, each leaf and axis once."""
    if choice is None:
        pairs = zip(parts, action.powers, strict=True)
        return tuple(dict.fromkeys(part.path for part, power in pairs if power))
    texts = [
        f"{parts[place.part].path}[{place.axis}]"
        for place, power in zip(choice.places, action.powers, strict=True)
        if power or action is choice.main
    ]
    return tuple(dict.fromkeys(texts))


def _axes(
    parts: list[Part],
    number: int,
    whole: Sequence[tuple[str, Action]],
    placed: Mapping[tuple[int, int, int], list[Axis]],
    free: set[str],
) -> tuple[list[Axis], list[Label]]:
    """The axes of the view of a part, and what each of them stands for."""
    part = parts[number]
    axes: list[Axis] = []
    labels: list[Label] = []
    for name, action in whole:
        if action.powers[number] and part.path not in free:
            axes.append(Axis(1, name, action.powers[number]))
            labels.append((name, -1, 0))
    lead = int(part.key != part.path)
    for position, segment in enumerate(part.axes):
        for factor, atom in enumerate(segment):
            moved = placed.get((number, position, factor), [])
            if not moved or part.path in free:
                moved = [Axis(atom.size)]
            axes += moved
            # The axis of a slice among others is none of the slice itself.
            own = position - lead
            labels.append(("" if own >= 0 else LEAD, own, factor))
            labels += [(str(axis.space), own, factor) for axis in moved[1:]]
    return axes, labels


def _leaf(part: Part, axes: list[Axis]) -> Leaf:
    if part.whole:
        view = tuple(axis.size for axis in axes)
        return Leaf(part.path, tuple(axes), None if view == part.shape else part.shape)
    stops = tuple(
        start + size_of(segment)
        for start, segment in zip(part.starts, part.axes, strict=True)
    )
    return part_of(part.path, part.shape, part.starts, stops, tuple(axes))


def _placed(
    parts: Sequence[Part], rows: Sequence[Row]
) -> dict[tuple[int, int, int], list[Axis]]:
    """The axes of a view that stand for a factor of an axis, by part, axis, factor."""
    found: dict[tuple[int, int, int], list[Axis]] = {}
    for name, choice, action in rows:
        if choice is None:
            continue
        main = action is choice.main
        size = choice.units.size if main else 1
        for place, power in zip(choice.places, action.powers, strict=True):
            turn = 0.0
            key = parts[place.part].key
            if main and action.turn is not None and action.turn.leaf == key:
                turn = action.turn.step
            if main or power:
                where = (place.part, place.axis, place.factor)
                found.setdefault(where, []).append(Axis(size, name, power, turn))
    return found


def _in_order(spaces: list[UnitSpace], rows: Sequence[Row]) -> tuple[UnitSpace, ...]:
    """Spaces in the order of the first leaf that they move, hosts before others."""
    first: dict[str, int] = {}
    for name, choice, action in rows:
        if choice is None:
            first[name] = next(n for n, power in enumerate(action.powers) if power)
        else:
            first[name] = min(place.part for place in choice.places)

    def key(place: int) -> tuple[int, bool, int]:
        space = spaces[place]
        at = first[space.name]
        host = at if space.per is None else first[space.per]
        return max(at, host), space.per is not None, place

    return tuple(spaces[n] for n in sorted(range(len(spaces)), key=key))


class _Names:
    """Names of spaces, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, name: str) -> str:
        """Returns the name, with a number behind it if it was given before."""
        own, number = name, 1
        while own in self._given:
            number += 1
            own = f"{name}_{number}"
        self._given.add(own)
        return own


def _module(path: str) -> str:
    module = path.rsplit("/", 1)[0] if "/" in path else path
    return module.replace("/", ".")


def _written(parts: list[Part], places: Sequence[Place], action: Action) -> str:
    """The name of a set or a factor: of the module that first writes it."""
    felt = [p for p, power in zip(places, action.powers, strict=True) if power]
    written = [place for place in felt if place.role > 0]
    return _module(parts[(written or felt or places)[0].part].path)
