"""Arrays as mantissa and binary exponent: products of scales that cannot overflow.

A sweep over layers multiplies the norms of all layers so far; in float32 their product
leaves the range after a few layers of scale 1e10. A power of two is exact, so carrying
exponents apart costs no accuracy, which carrying logarithms would.

Exponents are constant where a function is differentiable, so derivatives are those of
mantissas times exact powers of two. JAX's own rule of `ldexp` leaves the power out
where the mantissa is zero (a bias at the start of training); the rules here do not.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from qejax._typing import Array, Float, Int


class Scaled(NamedTuple):
    """The array `mantissa * 2 ** exponent`, in any range.

    Attributes:
        mantissa: floating; zero or of size about one after `split`.
        exponent: int32, of the same shape.
    """

    mantissa: Float[Array, "..."]
    exponent: Int[Array, "..."]


def split(x: Array) -> Scaled:
    """Returns `x` with every mantissa zero or in `[1/2, 1)` in absolute value."""
    exponent = jnp.frexp(jax.lax.stop_gradient(x))[1].astype(jnp.int32)
    return Scaled(_ldexp(x, -exponent), exponent)


def ones(size: int, dtype: DTypeLike) -> Scaled:
    """Returns `size` ones."""
    return Scaled(jnp.ones(size, dtype), jnp.zeros(size, jnp.int32))


def join(x: Scaled) -> Array:
    """Returns the plain array: infinite or zero where it leaves the range of dtype."""
    # Two steps, because 2 ** exponent alone can overflow where the product does not.
    half = x.exponent // 2
    return _ldexp(_ldexp(x.mantissa, half), x.exponent - half)


def mul(x: Scaled, y: Scaled) -> Scaled:
    """Returns the product, mantissas brought back to size one."""
    product = split(x.mantissa * y.mantissa)
    return Scaled(product.mantissa, product.exponent + x.exponent + y.exponent)


def power(x: Scaled, k: int) -> Scaled:
    """Returns `x ** k` for an integer `k`; `x` has no zeros if `k` is negative."""
    raised = split(x.mantissa**k)
    return Scaled(raised.mantissa, raised.exponent + k * x.exponent)


def root(x: Scaled, k: int) -> Scaled:
    """Returns `x ** (1 / k)` for positive `x` and an integer `k >= 1`."""
    whole = x.exponent // k
    rest = _ldexp(x.mantissa, x.exponent - k * whole)
    return Scaled(rest ** (1.0 / k), whole)


def norm(x: Scaled, axis: int) -> Scaled:
    """Returns the Euclidean norm along `axis`.

    Zero where all entries are zero, and its gradient too, by convention.
    """
    shift, scaled = _shifted(x, axis)
    square = jnp.sum(scaled**2, axis=axis)
    live = square > 0
    total = split(jnp.where(live, jnp.sqrt(jnp.where(live, square, 1)), 0))
    return Scaled(total.mantissa, total.exponent + shift)


def direction(x: Scaled, axis: int) -> Array:
    """Returns `x` divided along `axis` by a power of two; largest entry about one."""
    return _shifted(x, axis)[1]


def log(x: Scaled) -> Array:
    """Returns the natural logarithm of positive `x`."""
    dtype = x.mantissa.dtype
    return jnp.log(x.mantissa) + x.exponent.astype(dtype) * jnp.log(
        jnp.asarray(2.0, dtype)
    )


def where(condition: Array, x: Scaled, y: Scaled) -> Scaled:
    """Returns `x` where `condition` holds, else `y`."""
    return Scaled(
        jnp.where(condition, x.mantissa, y.mantissa),
        jnp.where(condition, x.exponent, y.exponent),
    )


def reshape(x: Scaled, shape: tuple[int, ...]) -> Scaled:
    """Returns `x` with another shape."""
    return Scaled(x.mantissa.reshape(shape), x.exponent.reshape(shape))


def _shifted(x: Scaled, axis: int) -> tuple[Array, Array]:
    # Zeros must not raise the common exponent; a column of zeros has exponent 0.
    lowest = jnp.iinfo(jnp.int32).min // 4
    exponents = jnp.where(x.mantissa == 0, lowest, x.exponent)
    shift = jnp.max(exponents, axis=axis, initial=lowest)
    shift = jnp.where(shift == lowest, 0, shift)
    below = jnp.maximum(exponents - jnp.expand_dims(shift, axis), -2000)
    return shift, _ldexp(x.mantissa, below)


def times_power(x: Array, exponent: Array) -> Array:
    """Returns `x * 2 ** exponent`, linear in `x`, broadcast.

    Each factor is in range, also where `x` is zero, for exponents that the result can
    have.
    """
    half = exponent // 2
    one = jnp.ones((), x.dtype)
    return x * jnp.ldexp(one, half) * jnp.ldexp(one, exponent - half)


@jax.custom_jvp
def _ldexp(x: Array, exponent: Array) -> Array:
    return jnp.ldexp(x, exponent)


@_ldexp.defjvp
def _ldexp_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> Any:
    x, exponent = primals
    return _ldexp(x, exponent), times_power(tangents[0], exponent)
