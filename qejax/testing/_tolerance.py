"""How far a law may be from holding in a dtype, from how often it rounds there.

A result that is rounded `n` times along its longest path, each time by at most half an
`eps`, at random, is off by about `sqrt(n) * eps / 2`, and two of them that should agree
differ by `sqrt(2 n) * eps / 2`. What is ill-conditioned before a rounding that is
counted multiplies it by `amplified`. The sum is rounded up to one digit:

`tolerance = amplified * sqrt(2 * roundings) * eps / 2`.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike


class Rounding(NamedTuple):
    """How a law rounds in one dtype.

    Attributes:
        roundings: along the longest path from weights to outputs.
        amplified: how many times ill-conditioned steps, and dividing by a spread that
            is less than the size, multiply them.
    """

    roundings: int
    amplified: float


ROUNDINGS: dict[str, Rounding] = {
    # Some hundred operations of a normal form, some hundred of a network; a product
    # with two matrices of condition number 100.
    "float64": Rounding(1000, 2e4),
    # The same, with scales (they are multiplied and divided, which amplifies nothing).
    "float32": Rounding(1000, 35.0),
    # Both factors of two dozen products one after the other; all else has more digits.
    "bfloat16": Rounding(48, 1.0),
}
"""By dtype, of what is rounded there; a new precision is a new row."""


def tolerance_of(dtype: DTypeLike) -> float:
    """Returns the largest relative gap with which a law holds in a dtype.

    Gaps are relative to the spread over unrelated inputs. A dtype that is no row of
    `ROUNDINGS` counts as rounding as often as float32 does.

    Args:
        dtype: in which most roundings happen: of the operands, for a model that
            computes in bfloat16 (`qejax.layers.PRECISIONS`).

    Example:
        >>> [tolerance_of(x) for x in ("float64", "float32", "bfloat16")]
        [1e-10, 0.0001, 0.04]
    """
    row = ROUNDINGS.get(jnp.dtype(dtype).name, ROUNDINGS["float32"])
    unit = float(jnp.finfo(dtype).eps) / 2
    exact = row.amplified * math.sqrt(2 * row.roundings) * unit
    digit = math.floor(math.log10(exact))
    # Written and read, so that it is the number a person would write.
    return float(f"{math.ceil(exact / 10.0**digit)}e{digit}")
