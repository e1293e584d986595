"""Sine units: sign flips and half-period shifts, the infinite dihedral group per unit.

A unit `y = sin(w0 (w . x + b))` has two symmetries besides its place.
`w, b -> -w, -b` flips `y`; `b -> b + pi / w0`, one *turn*, flips `y` as well; whoever
reads `y` flips back. Two turns change nothing but the bias. Per unit `(s, k)`, a sign
and a whole number of turns: `b -> s b + k pi / w0`, `w -> s w`, readers times
`s (-1)^k`. How much a turn adds is a matter of the leaf (`qejax.spaces.Axis.turn`), not
of the group.

Source: our own; the sign alone is in Tran et al. 2024, arXiv:2409.11697, section 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax._typing import Array, Float, Int, PRNGKeyArray
from qejax.groups._group import Group
from qejax.groups._monomial import Monomial, check_element, matrix_with, move_with

MOST_TURNS = 4
"""Samples have at most as many turns either way."""


class Dihedral(NamedTuple):
    """A permutation of `n` units, then a sign and a number of half periods per unit.

    Attributes:
        perm: `[n]`, a permutation of `0..n-1`; `perm[i]` is the old index now at `i`.
        scale: `[n]`, 1 or -1, indexed by the new position.
        turns: `[n]`, half periods that are added behind the sign; whole numbers.
    """

    perm: Int[Array, " n"]
    scale: Float[Array, " n"]
    turns: Int[Array, " n"]


def _identity(size: int, dtype: DTypeLike) -> Dihedral:
    return Dihedral(jnp.arange(size), jnp.ones(size, dtype), jnp.zeros(size, jnp.int32))


def _mul(h: Dihedral, g: Dihedral) -> Dihedral:
    turned = h.scale.astype(h.turns.dtype) * g.turns[h.perm] + h.turns
    return Dihedral(g.perm[h.perm], h.scale * g.scale[h.perm], turned)


def _inv(g: Dihedral) -> Dihedral:
    back = jnp.argsort(g.perm)
    scale = g.scale[back]
    return Dihedral(back, scale, -scale.astype(g.turns.dtype) * g.turns[back])


def _factor(g: Dihedral, power: int) -> Array | None:
    """What is written gets the sign, what reads also one for every turn."""
    if power == 0:
        return None
    flips = 1 - 2 * (g.turns % 2).astype(g.scale.dtype) if power < 0 else 1
    return (g.scale * flips) ** abs(power)


def _monomial(g: Dihedral, power: int) -> tuple[Array, Array | None]:
    return g.perm, _factor(g, power)


def _sample(key: PRNGKeyArray, size: int, spread: float, dtype: DTypeLike) -> Dihedral:
    del spread
    key_perm, key_sign, key_turns = jax.random.split(key, 3)
    return Dihedral(
        jax.random.permutation(key_perm, size),
        jax.random.rademacher(key_sign, (size,), dtype),
        jax.random.randint(key_turns, (size,), -MOST_TURNS, MOST_TURNS + 1, jnp.int32),
    )


def _check(g: Dihedral, size: int) -> None:
    one = Monomial(g.perm, g.scale)
    check_element(one, size, lambda scale: np.abs(scale) == 1, "+1 or -1")
    turns = np.asarray(g.turns)
    if turns.shape != (size,) or not np.issubdtype(turns.dtype, np.integer):
        raise ValueError(
            f"group element on {size} units: `turns` should be integers of shape "
            f"({size},), got {turns.dtype} of shape {turns.shape}. Sample it with the "
            f"spec it acts on."
        )


dihedral = Group(
    name="dihedral",
    identity=_identity,
    mul=_mul,
    inv=_inv,
    sample=_sample,
    move=move_with(_monomial),
    monomial=_monomial,
    balanced=lambda total: total == 0,
    matrix=matrix_with(_monomial),
    check=_check,
    turns=lambda g: g.turns,
)
"""Signs, turns and permutations. `spread` is not used; up to four turns either way."""
