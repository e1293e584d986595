"""Do two specs of the same weights have the same group, or one inside of the other?

Connected parts are compared by the spans of their directions at generic weights;
discrete parts by what their generators do to the entries of the weights. Names and
orders of unit spaces do not matter, nor how leaves view the arrays.
"""

from dataclasses import dataclass

import numpy as np

from qejax import _trees, spaces
from qejax._typing import Theta
from qejax.spaces import UnitSpace, WeightSpec
from qejax.testing._moves import (
    Move,
    flips,
    generators,
    permuted,
    touched,
    turns,
)
from qejax.testing._tangents import check_double, span, tangents


@dataclass(frozen=True)
class GroupComparison:
    """How the groups of two specs lie to one another.

    Attributes:
        a_in_b: whether all that the first group does, the second does too.
        b_in_a: the other way round.
        dimensions: of the tangent space of the first, of the second, and of both
            together.
        difference: the first thing that one of them does and the other does not, in
            words; empty if there is none.
    """

    a_in_b: bool
    b_in_a: bool
    dimensions: tuple[int, int, int]
    difference: str

    @property
    def equal(self) -> bool:
        """Whether the groups are the same."""
        return self.a_in_b and self.b_in_a

    def message(self) -> str:
        """The comparison in words."""
        first, second, both = self.dimensions
        if self.equal:
            return f"the groups are the same, of dimension {first}"
        kind = {
            (True, False): "the first group lies inside of the second",
            (False, True): "the second group lies inside of the first",
            (False, False): "neither group lies inside of the other",
        }[self.a_in_b, self.b_in_a]
        return (
            f"{kind} (dimensions {first} and {second}, {both} together): "
            f"{self.difference}"
        )


def same_group(spec_a: WeightSpec, spec_b: WeightSpec, theta: Theta) -> GroupComparison:
    """Compares the groups of two specs, by what they do to weights.

    Two groups whose connected parts have the same orbits count as the same there.

    Args:
        spec_a: of `theta`.
        spec_b: of `theta`, too.
        theta: generic weights of one network, of float64.

    Returns:
        The comparison; `found.equal`, `found.message()`.

    Raises:
        ValueError: if `theta` does not fit one of them or is not of float64, or if
            singular values leave a rank open.

    Example:
        >>> import jax
        >>> from qejax import nets
        >>> relu, tanh = (nets.mlp_spec((3, 4, 2), activation=a) for a in
        ...               ("relu", "gelu"))
        >>> draw = np.random.default_rng(0)
        >>> theta = jax.tree.map(lambda a: draw.normal(size=a.shape), relu.template())
        >>> with jax.enable_x64(True):
        ...     found = same_group(relu, tanh, theta)
        >>> found.equal, found.b_in_a, found.dimensions
        (False, True, (4, 0, 4))
    """
    for spec in (spec_a, spec_b):
        spaces.check_theta(spec, theta)
    check_double(theta, "same_group")
    first, second = (
        span(
            np.concatenate(
                [np.zeros((spec.num_parameters, 0)), *tangents(spec, theta).values()], 1
            ),
            f"same_group: directions of the {which} group",
        )
        for spec, which in ((spec_a, "first"), (spec_b, "second"))
    )
    both = span(
        np.concatenate([first, second], 1), "same_group: directions of both groups"
    )
    dimensions = (first.shape[1], second.shape[1], both.shape[1])
    a_lacks = _lacks("second", spec_a, spec_b, theta, dimensions[2] - dimensions[1])
    b_lacks = _lacks("first", spec_b, spec_a, theta, dimensions[2] - dimensions[0])
    return GroupComparison(not a_lacks, not b_lacks, dimensions, a_lacks or b_lacks)


def _lacks(
    other: str, spec: WeightSpec, within: WeightSpec, theta: Theta, beyond: int
) -> str:
    """The first thing that a group does and the other does not, or nothing."""
    if beyond:
        return f"{beyond} directions are not in the {other} group"
    target = _Target(within, theta)
    for words, move in generators(spec, theta).items():
        found = target.lacks(move)
        if found:
            return f"{words} is not in the {other} group: {found}"
    return ""


class _Target:
    """The discrete part of a group, to look up whether a move is in it."""

    def __init__(self, spec: WeightSpec, theta: Theta) -> None:
        self.spec, self.theta = spec, theta
        self.touched = touched(spec, theta)
        self.turns = turns(spec, theta)
        self.span = _Parities([move.flips < 0 for move in flips(spec, theta)])

    def lacks(self, move: Move) -> str:
        """Why a move is not in the group, or nothing."""
        perms = {}
        for space in self.spec.spaces:
            perm = self._perm(space, move)
            if perm is None:
                return f"units of {space.name!r} would be torn apart"
            perms[space.name] = perm
        own = permuted(self.spec, perms, self.theta)
        wrong = np.flatnonzero(own.source != move.source)
        if len(wrong):
            return f"{self._where(wrong[0])} would come from another place"
        signs, added = own.flips * move.flips < 0, move.added
        for turn in self.turns:
            times = round(float(added @ turn.added / (turn.added @ turn.added)))
            added = added - times * turn.added
            signs = signs ^ (times % 2 == 1) & (turn.flips < 0)
        wrong = np.flatnonzero(np.abs(added) > 1e-9)
        if len(wrong):
            return f"nothing adds {added[wrong[0]]:.3g} to {self._where(wrong[0])}"
        if not self.span.has(signs):
            return f"no flips give the sign of {self._where(np.flatnonzero(signs)[0])}"
        return ""

    def _perm(self, space: UnitSpace, move: Move) -> np.ndarray | None:
        """The permutations `[m, n]` of a space that move its units so, if there are."""
        rows = self.touched[space.name]
        before = np.zeros_like(rows)
        before[:, move.source] = rows
        unit_of = {row.tobytes(): unit for unit, row in reversed([*enumerate(rows)])}
        found = [
            unit if np.array_equal(rows[unit], row) else unit_of.get(row.tobytes(), -1)
            for unit, row in enumerate(before)
        ]
        perm = np.reshape(found, (-1, space.size))
        host, unit = perm // space.size, perm % space.size
        whole = np.sort(perm, None).tolist() == [*range(perm.size)]
        return unit if whole and np.all(host == host[:, :1]) else None

    def _where(self, entry: int) -> str:
        """An entry of the weights by path and place."""
        leaves = _trees.flatten(self.theta)
        ends = np.cumsum([leaf.size for leaf in leaves.values()])
        number = int(np.searchsorted(ends, entry, "right"))
        path, leaf = [*leaves.items()][number]
        place = np.unravel_index(entry - (ends[number] - leaf.size), leaf.shape)
        return f"{path}[{', '.join(map(str, place))}]"


class _Parities:
    """The span of patterns `[P]` of signs, as vectors over two numbers."""

    def __init__(self, patterns: list[np.ndarray]) -> None:
        self.rows: dict[int, int] = {}
        for pattern in patterns:
            rest = self._reduced(pattern)
            if rest:
                self.rows[rest.bit_length()] = rest

    def has(self, pattern: np.ndarray) -> bool:
        """Whether a pattern is a sum of those."""
        return not self._reduced(pattern)

    def _reduced(self, pattern: np.ndarray) -> int:
        rest = int.from_bytes(np.packbits(pattern).tobytes())
        while rest and rest.bit_length() in self.rows:
            rest ^= self.rows[rest.bit_length()]
        return rest
