"""The sine, and its derivative, from one reduction of the argument.

On CPUs XLA takes most of the time of fitting sine networks for sines and cosines; both
together are seven times faster here (`benchmarks/bench_fit.py`), for float32 within
5e-7 of the true value up to arguments of 1e4. Other dtypes are those of `jnp.sin`.

Source: reduction by a split pi as in Cody and Waite 1980, "Software manual for the
elementary functions"; polynomials by Chebyshev interpolation on a quarter period.
"""

import math

import jax
import jax.numpy as jnp

from qejax._typing import Array

_PI = (3.140625, 0.0009670257568359375, 6.277114152908325e-07)
"""Sums to pi; whole multiples of the first two are exact in float32."""

_SINE = (
    0.9999999957201238,
    -0.16666657971646187,
    0.008333050634367723,
    -0.000198090468259368,
    2.605166305408795e-06,
)
"""Of `sin(r) / r` in `r^2`, on `|r| <= pi / 2`."""

_COSINE = (
    0.9999999997801798,
    -0.4999999935713556,
    0.041666636211988045,
    -0.0013888360861557666,
    2.4760135909532055e-05,
    -2.605107656833556e-07,
)
"""Of `cos(r)` in `r^2`."""


@jax.custom_jvp
def sine(x: Array) -> Array:
    """Returns `sin(x)`.

    Example:
        >>> print(sine(jnp.array([0.0, jnp.pi / 2])))
        [0. 1.]
    """
    return _both(x)[0]


@jax.custom_jvp
def cosine(x: Array) -> Array:
    """Returns `cos(x)`."""
    return _both(x)[1]


@sine.defjvp
def _sine_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return sine(*primals), cosine(*primals) * tangents[0]


@cosine.defjvp
def _cosine_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return cosine(*primals), -sine(*primals) * tangents[0]


def _both(x: Array) -> tuple[Array, Array]:
    if x.dtype != jnp.float32:
        return jnp.sin(x), jnp.cos(x)
    turns = jnp.round(x * jnp.float32(1 / math.pi))
    r = x
    for part in _PI:
        r = r - turns * jnp.float32(part)
    half = turns * 0.5
    flip = 1 - 4 * jnp.abs(half - jnp.round(half))  # -1 for odd turns
    square = r * r
    return flip * r * _polynomial(_SINE, square), flip * _polynomial(_COSINE, square)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    total = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + jnp.float32(c)
    return total
