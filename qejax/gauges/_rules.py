"""Hand-made choices of a point on an orbit, unit space by unit space.

A rule is data: by group, the element that the rows of a space ask for. Whatever it is,
the function stays.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from qejax._typing import Array, PRNGKeyArray
from qejax.gauges._factors import SIZES, ratio
from qejax.gauges._rotations import ROTATED, hadamard
from qejax.groups import Dihedral, eigh, fixed_ones_basis
from qejax.spaces import Rows

Choose = Callable[[Sequence[Rows], PRNGKeyArray], Any]
"""From rows `[n, R]` of one space to an element of its group."""


class Rule(NamedTuple):
    """One way to choose.

    Attributes:
        by_group: what is chosen, by name of a group; others stay as they are.
        again: whether choices in one space change those in others, so that several
            sweeps are made.
        clears: whether shifts are taken off.
    """

    by_group: Mapping[str, Choose]
    again: bool = False
    clears: bool = False


def _top(rows: Sequence[Rows], writes: bool) -> tuple[Array, int]:
    """The largest magnitude of every unit, `[n]`, and the degree with which it counts.

    Of matrices; of all leaves if no matrix is there.
    """
    own = [row for row in rows if row.power and (row.power > 0) == writes]
    own = [row for row in own if row.multiplies] or own
    if not own:
        size = rows[0].values.shape[0]
        return jnp.zeros(size, rows[0].values.dtype), 1
    tops = jnp.stack([jnp.max(jnp.abs(row.values), -1) for row in own])
    return jnp.max(tops, 0), max(abs(row.power) for row in own)


def _equal_ranges(rows: Sequence[Rows]) -> Array:
    (write, up), (read, down) = _top(rows, True), _top(rows, False)
    return ratio(read, write) ** (1 / (up + down))


def _full_ranges(rows: Sequence[Rows]) -> Array:
    write, degree = _top(rows, True)
    return ratio(jnp.broadcast_to(jnp.max(write), write.shape), write) ** (1 / degree)


def _sizes_of(measure: Callable[[Sequence[Rows]], Array]) -> dict[str, Choose]:
    """A size for each unit, in every group that has sizes."""

    def of(build: Callable[[Array], Any]) -> Choose:
        return lambda rows, key: build(measure(rows))

    def of_pairs(rows: Sequence[Rows], key: PRNGKeyArray) -> Any:
        """One size for both units of a pair, whichever way the pair is turned."""
        del key
        size = measure([row._replace(values=_paired(row.values)) for row in rows])
        return SIZES["rotary"](jnp.tile(size, 2))

    return {name: of(build) for name, build in SIZES.items()} | {"rotary": of_pairs}


def _paired(values: Array) -> Array:
    """What two units have, as if they were one: `[n / 2, 2 R]`."""
    return jnp.concatenate(jnp.split(values, 2), -1)


def _equal_norms(rows: Sequence[Rows]) -> Array:
    """Sizes for which `sum_p p c^2p N_p = 0`: the shortest weights on the orbit."""
    squares: dict[int, Array] = {}
    for row in rows:
        if row.power and not row.turn:
            own = jnp.sum(row.values**2, -1)
            squares[row.power] = squares.get(row.power, jnp.zeros_like(own)) + own
    none = jnp.zeros_like(rows[0].values[:, 0])
    write = sum((p * x for p, x in squares.items() if p > 0), none)
    read = sum((-p * x for p, x in squares.items() if p < 0), none)
    down = max((-p for p in squares if p < 0), default=1)
    return ratio(read, write) ** (1 / (2 + 2 * down))


_FLOOR = 0.4
"""A direction of a Gram counts as `eps ** 0.4` of the strongest one, if it is weaker.

Products of two Grams then stay clear of rounding.
"""


def _grams(rows: Sequence[Rows]) -> tuple[Array, Array]:
    dtype, size = rows[0].values.dtype, rows[0].values.shape[0]
    both = []
    for writes in (True, False):
        total = jnp.zeros((size, size), dtype)
        for row in rows:
            if row.power and (row.power > 0) == writes:
                total = total + row.values @ row.values.T
        both.append(total)
    return both[0], both[1]


def _power_of(gram: Array, power: float, grams: int = 1) -> Array:
    """A power of a Gram, or of a product of so many."""
    values, vectors = eigh(gram)
    top = values[-1:]
    top = jnp.where(top > 0, top, 1)
    values = jnp.maximum(values, jnp.finfo(gram.dtype).eps ** (grams * _FLOOR) * top)
    return (vectors * (values**power)[None]) @ vectors.T


def _equal_grams(rows: Sequence[Rows], key: PRNGKeyArray) -> Array:
    """The symmetric matrix that makes the Grams of writers and readers equal."""
    del key
    write, read = _grams(rows)
    live = (jnp.trace(write) > 0) & (jnp.trace(read) > 0)
    half, back = _power_of(write, 0.5), _power_of(write, -0.5)
    mean = back @ _power_of(half @ read @ half, 0.5, grams=2) @ back
    eye = jnp.eye(mean.shape[0], dtype=mean.dtype)
    return jnp.where(live, _power_of(mean, 0.5), eye)


def _principal(side: Callable[[int], int], build: Callable[[Array], Array]) -> Choose:
    def choose(rows: Sequence[Rows], key: PRNGKeyArray) -> Array:
        del key
        size = rows[0].values.shape[0]
        gram = sum(_grams(rows), jnp.zeros((size, size), rows[0].values.dtype))
        if side(size) != size:
            basis = jnp.asarray(fixed_ones_basis(size), gram.dtype)
            gram = basis.T @ gram @ basis
        return build(eigh(gram)[1][:, ::-1].T)

    return choose


def _random(side: Callable[[int], int], build: Callable[[Array], Array]) -> Choose:
    def choose(rows: Sequence[Rows], key: PRNGKeyArray) -> Array:
        values = rows[0].values
        return build(hadamard(key, side(values.shape[0]), values.dtype))

    return choose


def _unit_scale(rows: Sequence[Rows], key: PRNGKeyArray) -> Array:
    """What a norm's scale is divided by, so that what reads it has all of it."""
    del key
    scale = next(row for row in rows if row.power > 0)
    top = jnp.max(jnp.abs(scale.values), -1)
    if scale.multiplies:  # What a gate is multiplied with: no norm.
        top = jnp.ones_like(top)
    return SIZES["absorbed"](ratio(jnp.ones_like(top), top))


def _unturned(rows: Sequence[Rows], key: PRNGKeyArray) -> Dihedral:
    del key
    (own,) = [row for row in rows if row.turn]
    turns = -jnp.round(own.values[:, 0] / own.turn).astype(jnp.int32)
    size = turns.shape[0]
    return Dihedral(jnp.arange(size), jnp.ones(size, own.values.dtype), turns)


RULES: dict[str, Rule] = {
    "cleared": Rule({"dihedral": _unturned}, clears=True),
    "balanced": Rule(
        _sizes_of(_equal_norms)
        | {"general_linear": _equal_grams, "linear_stream": _equal_grams},
        again=True,
    ),
    "equalised": Rule(_sizes_of(_equal_ranges), again=True),
    "absmax": Rule(_sizes_of(_full_ranges)),
    "absorbed": Rule({"absorbed": _unit_scale}),
    "principal": Rule({g: _principal(*how) for g, how in ROTATED.items()}),
    "hadamard": Rule({g: _random(*how) for g, how in ROTATED.items()}),
}
"""By name:

- `cleared`: shifts taken off (a key bias is zero), phases within half a period.
- `balanced`: the shortest weights on the orbit: writers and readers of every unit, head
  and adapter have equal norms (Grams, where matrices act).
- `equalised`: the largest incoming and outgoing weights of every unit are equal
  (Nagel et al. 2019, arXiv:1906.04721, equation 11).
- `absmax`: the largest incoming weight of every unit is that of its layer
  (Meller et al. 2019, arXiv:1902.01917, section 4.1).
- `absorbed`: scales of norms are 1 or -1, their readers have their sizes.
- `principal`: units rotated to the principal axes of all that touches them.
- `hadamard`: units rotated by a random Hadamard matrix (Ashkboos et al. 2024,
  arXiv:2404.00456), by a random rotation where there is none of that order.
"""
