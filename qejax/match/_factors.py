"""The best factor between two units, for every pair of them, and what is left then.

Unit `j` of one network with a factor `c` stands for unit `i` of another. With `p` the
power with which leaf `l` feels units, what is left is
`sum_l ||a_l[i] - c^p b_l[j]||^2 = |a_i|^2 + sum_p (c^2p N_p[j] - 2 c^p P_p[i, j])`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from qejax._typing import Array
from qejax.groups import Dihedral, Monomial
from qejax.spaces import Rows


class Products(NamedTuple):
    """Inner products of units of two networks in the leaves of one power.

    Attributes:
        power: with which these leaves feel the units.
        pairs: `P`, `[n, n]`, of unit `i` of the first and `j` of the second.
        squares: `N`, `[n]`, of the units of the second.
    """

    power: int
    pairs: Array
    squares: Array


class Found(NamedTuple):
    """What is best for every pair: `[n, n]` each.

    Attributes:
        cost: what is left, less what no choice changes.
        scale: the factor.
        turns: of units that turn, how often; 0 of others.
    """

    cost: Array
    scale: Array
    turns: Array


def products(first: Sequence[Rows], second: Sequence[Rows]) -> list[Products]:
    """Returns inner products by power, of leaves that turns do not change."""
    found: dict[int, Products] = {}
    for a, b in zip(first, second, strict=True):
        if a.turn:
            continue
        pairs = jnp.einsum("ir,jr->ij", a.values, b.values, precision="highest")
        squares = jnp.sum(b.values**2, -1)
        if a.power in found:
            own = found[a.power]
            found[a.power] = Products(a.power, own.pairs + pairs, own.squares + squares)
        else:
            found[a.power] = Products(a.power, pairs, squares)
    return list(found.values())


def _alone(first: Sequence[Rows], second: Sequence[Rows]) -> Found:
    each = [one.pairs for one in products(first, second)]
    total = sum(each[1:], each[0])
    return Found(-2 * total, jnp.ones_like(total), jnp.zeros_like(total))


def _signs(first: Sequence[Rows], second: Sequence[Rows]) -> Found:
    parts = [jnp.zeros((first[0].values.shape[0],) * 2, first[0].values.dtype)] * 2
    for one in products(first, second):
        parts[one.power % 2] = parts[one.power % 2] + one.pairs
    even, odd = parts
    scale = jnp.where(odd < 0, -1, 1).astype(odd.dtype)
    return Found(-2 * (even + jnp.abs(odd)), scale, jnp.zeros_like(odd))


STEPS = 12
"""Of Gauss and Newton, from each of the places where one starts."""

FARTHEST = 2.0
"""Logarithm of the factor that one step changes a scale by at most."""


def best_size(first: Sequence[Rows], second: Sequence[Rows]) -> tuple[Array, Array]:
    """Returns what is left and the positive factor, for every pair, `[n, n]`.

    By steps of Gauss and Newton from one, and from ratios of norms.

    For powers 1 and -1 the best factor is a root of a quartic. Of all places where one
    ends the best is taken, and a factor of one if that is better still.
    """
    found = products(first, second)
    zero = jnp.zeros(first[0].values.shape[0], first[0].values.dtype)
    norms = {one.power: zero for one in found}
    for a in first:
        if not a.turn:
            norms[a.power] = norms[a.power] + jnp.sum(a.values**2, -1)
    starts = [jnp.zeros_like(found[0].pairs)]
    for one in found:
        if one.power:
            ratio = _log(norms[one.power])[:, None] - _log(one.squares)[None]
            starts.append(jnp.nan_to_num(ratio / (2 * one.power), posinf=0, neginf=0))
    logs = jax.vmap(lambda start: _descended(found, start))(jnp.stack(starts))
    logs = jnp.concatenate([jnp.zeros_like(logs[:1]), logs])
    costs = jax.vmap(lambda log: _left(found, log))(logs)
    best = jnp.argmin(jnp.where(jnp.isnan(costs), jnp.inf, costs), 0)[None]
    cost, log = (jnp.take_along_axis(x, best, 0)[0] for x in (costs, logs))
    return cost, jnp.exp(log)


def _sizes(first: Sequence[Rows], second: Sequence[Rows]) -> Found:
    cost, scale = best_size(first, second)
    return Found(cost, scale, jnp.zeros_like(cost))


def _log(x: Array) -> Array:
    return jnp.log(jnp.where(x > 0, x, 1))


def _left(found: Sequence[Products], log: Array) -> Array:
    """What is left at factors `exp(log)`."""
    total = jnp.zeros_like(log)
    for one in found:
        factor = jnp.exp(one.power * log)
        total = total + factor * (factor * one.squares[None] - 2 * one.pairs)
    return total


def _descended(found: Sequence[Products], log: Array) -> Array:
    def step(_: int, log: Array) -> Array:
        slope, curve = jnp.zeros_like(log), jnp.zeros_like(log)
        for one in found:
            factor = jnp.exp(one.power * log)
            square = factor**2 * one.squares[None]
            slope = slope + one.power * (square - factor * one.pairs)
            curve = curve + one.power**2 * square
        move = -slope / jnp.where(curve > 0, curve, 1)
        return log + jnp.clip(move, -FARTHEST, FARTHEST)

    return jax.lax.fori_loop(0, STEPS, step, log)


def _turns(first: Sequence[Rows], second: Sequence[Rows]) -> Found:
    """A sign and half periods: of each parity the nearest number of turns."""
    writers, readers, even = (
        sum(one.pairs for one in products(first, second) if told(one.power))
        for told in (
            lambda p: p > 0 and p % 2,
            lambda p: p < 0 and p % 2,
            lambda p: p % 2 == 0,
        )
    )
    ((a, b),) = [(x, y) for x, y in zip(first, second, strict=True) if x.turn]
    options = []
    for sign in (1.0, -1.0):
        for parity in (0, 1):
            off = (a.values - sign * b.values.T) / a.turn
            turns = 2 * jnp.round((off - parity) / 2) + parity
            flip = 1 - 2 * parity
            cost = -2 * (sign * (writers + flip * readers) + even)
            cost = cost + (a.turn * (off - turns)) ** 2
            options.append(Found(cost, jnp.full_like(cost, sign), turns))
    many = jax.tree.map(lambda *x: jnp.stack(x), *options)
    best = jnp.argmin(many.cost, 0)[None]
    return jax.tree.map(lambda x: jnp.take_along_axis(x, best, 0)[0], many)


FACTORS: dict[str, Callable[[Sequence[Rows], Sequence[Rows]], Found]] = {
    "permutation": _alone,
    "sign": _signs,
    "positive_scale": _sizes,
    "dihedral": _turns,
}
"""By group of permutations with factors."""


def element(group: str, perm: Array, found: Found) -> Monomial | Dihedral:
    """Returns the element that puts units where they are assigned."""
    scale = jnp.take_along_axis(found.scale, perm[:, None], 1)[:, 0]
    one = Monomial(perm, scale)
    if group != "dihedral":
        return one
    turns = jnp.take_along_axis(found.turns, perm[:, None], 1)[:, 0]
    return Dihedral(perm, scale, turns.astype(jnp.int32))
