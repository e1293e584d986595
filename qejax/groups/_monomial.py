"""Permutations with a scale per unit: the symmetries of elementwise activations.

`permutation` serves any activation, `positive_scale` the positively homogeneous
ones (ReLU), `sign` the odd ones (tanh). All three share one element, one product
and one action; they differ in the scales that are allowed, and so in `sample` and
`balanced`.

Source: Tran et al. 2024, arXiv:2409.11697, section 3 (monomial matrices).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax._typing import Array, Float, Int, PRNGKeyArray
from qejax.groups._group import Group


class Monomial(NamedTuple):
    """A permutation of `n` units followed by a scale per unit.

    Acts on units as `(g x)[i] = scale[i] * x[perm[i]]`.

    Attributes:
        perm: `[n]`, a permutation of `0..n-1`; `perm[i]` is the old index now at `i`.
        scale: `[n]`, indexed by the new position; no unit, never zero.
    """

    perm: Int[Array, " n"]
    scale: Float[Array, " n"]


def _identity(size: int, dtype: DTypeLike) -> Monomial:
    return Monomial(jnp.arange(size), jnp.ones(size, dtype))


def _mul(h: Monomial, g: Monomial) -> Monomial:
    return Monomial(g.perm[h.perm], h.scale * g.scale[h.perm])


def _inv(g: Monomial) -> Monomial:
    back = jnp.argsort(g.perm)
    return Monomial(back, 1 / g.scale[back])


def _factor(g: Monomial, power: int) -> Array | None:
    return None if power == 0 else g.scale**power


def _monomial(g: Monomial, power: int) -> tuple[Array, Array | None]:
    return g.perm, _factor(g, power)


def _permutation_only(g: Monomial, power: int) -> tuple[Array, Array | None]:
    del power
    return g.perm, None


Action = Callable[[Any, int], tuple[Array, Array | None]]
"""What an element does: `(g, power) -> (perm, factor)`, see `Group.monomial`."""


def move_with(monomial: Action) -> Callable[[Any, Array, int, int], Array]:
    """Returns `Group.move` of a permutation with a factor per unit."""

    def move(g: Any, x: Array, axis: int, power: int) -> Array:
        perm, factor = monomial(g, power)
        moved = jnp.take(x, perm, axis=axis)
        if factor is None:
            return moved
        shape = [1] * x.ndim
        shape[axis] = -1
        return moved * factor.reshape(shape)

    return move


def matrix_with(monomial: Action) -> Callable[[Any, int], Array]:
    """Returns `Group.matrix` of a permutation with a factor per unit."""

    def matrix(g: Any, power: int) -> Array:
        perm, factor = monomial(g, power)
        rows = jax.nn.one_hot(perm, perm.shape[0], dtype=g.scale.dtype)
        return rows if factor is None else factor[:, None] * rows

    return matrix


def check_element(
    g: Monomial, size: int, allowed: Callable[[np.ndarray], np.ndarray], scales: str
) -> None:
    """Raises unless `g` is a permutation of `size` units with allowed scales.

    Looks at values, so it is for loaders and tests, not for traced code.

    Args:
        g: the element.
        size: number of units.
        allowed: `scale [n] -> bool [n]`, which scales the group has.
        scales: the allowed scales in words, for the message.

    Raises:
        ValueError: names the field, what was expected and what was found.
    """
    perm, scale = np.asarray(g.perm), np.asarray(g.scale)
    for name, array in (("perm", perm), ("scale", scale)):
        if array.shape != (size,):
            raise ValueError(
                f"group element on {size} units: `{name}` should have shape "
                f"({size},), got {array.shape}. Sample it with the spec it acts on."
            )
    if not np.array_equal(np.sort(perm), np.arange(size)):
        raise ValueError(
            f"group element on {size} units: `perm` should hold each of 0..{size - 1} "
            f"once, got {perm.tolist()}."
        )
    if not np.all(allowed(scale)):
        raise ValueError(
            f"group element on {size} units: `scale` should be {scales}, got "
            f"{scale[~allowed(scale)].tolist()} at {np.flatnonzero(~allowed(scale))}."
        )


def _checker(
    allowed: Callable[[np.ndarray], np.ndarray], scales: str
) -> Callable[[Monomial, int], None]:
    return lambda g, size: check_element(g, size, allowed, scales)


def _sample_permutation(
    key: PRNGKeyArray, size: int, spread: float, dtype: DTypeLike
) -> Monomial:
    del spread
    return Monomial(jax.random.permutation(key, size), jnp.ones(size, dtype))


def _sample_positive(
    key: PRNGKeyArray, size: int, spread: float, dtype: DTypeLike
) -> Monomial:
    key_perm, key_scale = jax.random.split(key)
    exponent = jax.random.uniform(key_scale, (size,), dtype, -1.0, 1.0)
    scale = jnp.exp(exponent * jnp.log(jnp.asarray(spread, dtype)))
    return Monomial(jax.random.permutation(key_perm, size), scale)


def _sample_sign(
    key: PRNGKeyArray, size: int, spread: float, dtype: DTypeLike
) -> Monomial:
    del spread
    key_perm, key_sign = jax.random.split(key)
    signs = jax.random.rademacher(key_sign, (size,), dtype)
    return Monomial(jax.random.permutation(key_perm, size), signs)


permutation = Group(
    name="permutation",
    identity=_identity,
    mul=_mul,
    inv=_inv,
    sample=_sample_permutation,
    move=move_with(_permutation_only),
    monomial=_permutation_only,
    balanced=lambda total: True,
    matrix=matrix_with(_permutation_only),
    check=_checker(lambda scale: scale == 1, "1"),
)
"""Permutations of the units. `spread` is not used; scales are one."""

positive_scale = Group(
    name="positive_scale",
    identity=_identity,
    mul=_mul,
    inv=_inv,
    sample=_sample_positive,
    move=move_with(_monomial),
    monomial=_monomial,
    balanced=lambda total: total == 0,
    matrix=matrix_with(_monomial),
    check=_checker(
        lambda scale: np.isfinite(scale) & (scale > 0), "positive and finite"
    ),
)
"""Positive scales and permutations; scales are log-uniform in `[1/spread, spread]`."""

sign = Group(
    name="sign",
    identity=_identity,
    mul=_mul,
    inv=_inv,
    sample=_sample_sign,
    move=move_with(_monomial),
    monomial=_monomial,
    balanced=lambda total: total % 2 == 0,
    matrix=matrix_with(_monomial),
    check=_checker(lambda scale: np.abs(scale) == 1, "+1 or -1"),
)
"""Sign flips and permutations. `spread` is not used."""
