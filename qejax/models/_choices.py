"""What an element of each group is made of, near the identity, and which way is down.

A choice is data: by group, the element of some numbers, and the derivative of a
function of weights by those numbers at zero. A new group is a new row.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from qejax._typing import Array, Float
from qejax.gauges import SIZES
from qejax.groups import Dihedral, Monomial, inverse
from qejax.spaces import Elements, Rows, WeightSpec

REACH = 1.5
"""Logarithm of the size that one choice changes a unit by at most."""

TURN = 1.0
"""Frobenius norm of the generator of a matrix, at most."""

STRETCH = 11.5
"""Logarithm of the condition number of all matrices of one path together, at most.

Rounding grows with it: `1e5` leaves float64 eleven digits of the function.
"""

FASTEST = 10.0
"""Logarithm of what a learned rate is multiplied or divided by, at most."""


class Numbers(NamedTuple):
    """What an element of `n` units is made of; zero for the identity.

    Attributes:
        one: `[n]`, a number of each unit: the logarithm of its size, or its sign.
        pairs: `[n, n]`, the generator of a matrix; `[n, 0]` of groups without.
    """

    one: Float[Array, " n"]
    pairs: Float[Array, "n k"]


class Choice(NamedTuple):
    """How to choose in one group.

    Attributes:
        element: of numbers.
        slope: from rows of the weights and of a gradient by them to the derivative of
            a function by the numbers.
        pairs: whether elements are matrices, told by `pairs`.
        stretches: whether these have condition numbers above 1.
    """

    element: Callable[[Numbers], Any]
    slope: Callable[[Sequence[Rows], Sequence[Rows]], Numbers]
    pairs: bool = False
    stretches: bool = False


def size(x: Array) -> Array:
    """Returns positive sizes, `exp` of at most `REACH`; 1 at 0."""
    return jnp.exp(REACH * jnp.tanh(x / REACH))


def sign(x: Array) -> Array:
    """Returns 1 or -1, exactly, with the gradient of `tanh`."""
    soft = jnp.abs(jnp.tanh(x))
    # What is in brackets is one, to the last bit.
    return jnp.where(x >= 0, 1, -1) * (1 + (soft - jax.lax.stop_gradient(soft)))


def cayley(generator: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Returns `(I + A / 2) (I - A / 2)^-1`, with `A` shrunk to a norm below `TURN`.

    Invertible, of a condition number below 3; orthogonal to rounding where the
    generator is skew. To first order `I + A`.
    """
    square = jnp.sum(generator * generator)
    half = generator / jnp.sqrt(1 + square / TURN**2) / 2
    eye = jnp.eye(half.shape[0], dtype=half.dtype)
    return jnp.matmul(eye + half, inverse(eye - half), precision="highest")


def _sizes(group: str) -> Choice:
    return Choice(lambda numbers: SIZES[group](size(numbers.one)), _size_slope)


def _size_slope(weights: Sequence[Rows], gradient: Sequence[Rows]) -> Numbers:
    both = zip(weights, gradient, strict=True)
    each = [w.power * jnp.sum(w.values * d.values, -1) for w, d in both if not w.turn]
    one = sum(each[1:], each[0])
    return Numbers(one, one[:, None][:, :0])


def _no_slope(weights: Sequence[Rows], gradient: Sequence[Rows]) -> Numbers:
    del gradient
    one = jnp.zeros_like(weights[0].values[:, 0])
    return Numbers(one, one[:, None][:, :0])


def _any(generator: Array) -> Array:
    return generator


def _skew(generator: Array) -> Array:
    return (generator - generator.T) / 2


def _centred_skew(generator: Array) -> Array:
    """Of rotations that keep the vector of ones."""
    skew = _skew(generator)
    skew = skew - jnp.mean(skew, 0, keepdims=True)
    return skew - jnp.mean(skew, 1, keepdims=True)


def _matrices(project: Callable[[Array], Array], stretches: bool = False) -> Choice:
    """Groups of matrices, by what projects generators on those of the group."""

    def element(numbers: Numbers) -> Array:
        return cayley(project(numbers.pairs))

    def slope(weights: Sequence[Rows], gradient: Sequence[Rows]) -> Numbers:
        """Of `W -> M W` and `R -> M^-T R` by `M`, at the identity."""
        count = weights[0].values.shape[0]
        total = jnp.zeros((count, count), weights[0].values.dtype)
        for w, d in zip(weights, gradient, strict=True):
            if w.power > 0:
                total = total + d.values @ w.values.T
            if w.power < 0:
                total = total - w.values @ d.values.T
        return Numbers(jnp.zeros(count, total.dtype), project(total))

    return Choice(element, slope, pairs=True, stretches=stretches)


def _rotary(numbers: Numbers) -> Array:
    """A size and an angle for each pair: the mean and the difference of its numbers."""
    first, second = jnp.split(numbers.one, 2)
    length = size((first + second) / 2)
    angle = jnp.pi * jnp.tanh((first - second) / 2)
    return jnp.stack([length * jnp.cos(angle), length * jnp.sin(angle)], -1)


def _rotary_slope(weights: Sequence[Rows], gradient: Sequence[Rows]) -> Numbers:
    sizes = _size_slope(weights, gradient).one
    length = sum(jnp.split(sizes, 2))
    turn = jnp.zeros_like(length)
    for w, d in zip(weights, gradient, strict=True):
        (x, y), (u, v) = (jnp.split(row.values, 2) for row in (w, d))
        turn = turn + jnp.sum(v * x - u * y, -1)
    one = jnp.concatenate([length + jnp.pi * turn, length - jnp.pi * turn]) / 2
    return Numbers(one, one[:, None][:, :0])


def _signs(numbers: Numbers) -> Monomial:
    return Monomial(jnp.arange(numbers.one.shape[0]), sign(numbers.one))


def _flips(numbers: Numbers) -> Dihedral:
    count = numbers.one.shape[0]
    turns = jnp.zeros(count, jnp.int32)
    return Dihedral(jnp.arange(count), sign(numbers.one), turns)


CHOICES: dict[str, Choice] = {
    "positive_scale": _sizes("positive_scale"),
    "absorbed": _sizes("absorbed"),
    "sign": Choice(_signs, _no_slope),
    "dihedral": Choice(_flips, _no_slope),
    "rotary": Choice(_rotary, _rotary_slope),
    "general_linear": _matrices(_any, stretches=True),
    "linear_stream": _matrices(_any, stretches=True),
    "orthogonal": _matrices(_skew),
    "orthogonal_ones": _matrices(_centred_skew),
}
"""By group; of groups that are not here nothing is chosen but an order."""


def elements(spec: WeightSpec, numbers: Mapping[str, Numbers]) -> Elements:
    """Returns the elements of numbers, by unit space."""
    found = {}
    for name, own in numbers.items():
        space = spec.space_by_name[name]
        element = CHOICES[space.group].element
        found[name] = (element if space.per is None else jax.vmap(element))(own)
    return found


def nothing_spent(spec: WeightSpec, dtype: DTypeLike) -> dict[str, Array]:
    """Returns zeros for `within`, by the unit spaces whose matrices stretch."""
    found = {}
    for space in spec.spaces:
        choice = CHOICES.get(space.group)
        if choice is not None and choice.stretches:
            found[space.name] = jnp.zeros(spec.per_size(space), dtype)
    return found


def within(
    numbers: Mapping[str, Numbers], spent: Mapping[str, Array]
) -> tuple[dict[str, Numbers], dict[str, Array]]:
    """Returns numbers whose matrices stretch by no more than what is left.

    `cond((I + H) (I - H)^-1) <= (1 + |H|) / (1 - |H|)`, and condition numbers multiply
    along a path. `H` is shrunk where the product would be above `exp(STRETCH)`; the
    gradient takes the share as it is.

    Args:
        numbers: by unit space.
        spent: the logarithm of the product so far, by unit space that stretches.
    """
    found, total = dict(numbers), {}
    for name, before in spent.items():
        pairs = numbers[name].pairs
        square = jnp.sum(jax.lax.stop_gradient(pairs) ** 2, (-2, -1)) / TURN**2
        size = jnp.sqrt(square / (1 + square))
        asked = 2 * jnp.arctanh(size / 2)
        left = jnp.maximum(STRETCH - before, 0)
        share = jnp.where(asked > left, left / jnp.where(asked > 0, asked, 1), 1)
        # What makes `H` shorter by the share, told as a share of the generator.
        own = share / jnp.sqrt(1 + square - share**2 * square)
        own = jnp.where(asked > left, own, 1)
        found[name] = Numbers(numbers[name].one, pairs * own[..., None, None])
        total[name] = before + share * asked
    return found, total
