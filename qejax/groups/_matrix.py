"""Matrix groups: the symmetries between two linear maps with nothing in between.

`general_linear` serves attention heads, low-rank pairs and streams without norms,
`orthogonal` a stream that is read through a norm of its length, `orthogonal_ones` one
that is centred as well, `rotary` heads with rotary embedding. An element is a matrix
`A: [n, n]` (of `rotary`, a complex number per frequency pair), which acts on units as
`y -> A y`; weights that read the units transform with `A^-T`, so that
`(A y) . (A^-T w) = y . w`.

Sources: Tran et al. 2024, arXiv:2410.04209 (GL(d) of attention heads); Ashkboos et al.
2024, arXiv:2401.15024 (rotations of a stream through RMSNorm).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax._typing import Array, Float, PRNGKeyArray
from qejax.groups._group import Group
from qejax.groups._linalg import inverse, qr

MAX_CONDITION = 1e12
"""Largest condition number of a matrix that still counts as invertible."""

_ADVICE = "Draw it with qejax.spaces.sample."


def inverse_transpose(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Returns `A^-T`."""
    return inverse(matrix).mT


def fixed_ones_basis(size: int) -> np.ndarray:
    """Returns orthonormal columns `[n, n - 1]` that span what sums to zero."""
    basis = np.zeros((size, size - 1))
    for k in range(1, size):
        basis[:k, k - 1] = 1 / np.sqrt(k * (k + 1))
        basis[k, k - 1] = -k / np.sqrt(k * (k + 1))
    return basis


def _power(matrix: Array, power: int) -> Array:
    if power == 0:
        return jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    if power not in (1, -1):
        raise ValueError(
            f"matrix groups: axes should have power 1, 0 or -1, got {power}. A map of "
            f"another degree lies between: its units allow scales only."
        )
    return matrix if power == 1 else inverse_transpose(matrix)


def _orthogonal_power(matrix: Array, power: int) -> Array:
    return matrix if power else _power(matrix, 0)


def _complex_matrix(g: Array) -> Array:
    real, imaginary = jnp.diag(g[:, 0]), jnp.diag(g[:, 1])
    return jnp.block([[real, -imaginary], [imaginary, real]])


def _complex_power(g: Array, power: int) -> Array:
    if power == -1:  # 1 / conj(z)
        g = g / jnp.sum(g * g, -1, keepdims=True)
    return _power(_complex_matrix(g), abs(power))


def _identity(size: int, dtype: DTypeLike) -> Array:
    return jnp.eye(size, dtype=dtype)


def _product(h: Array, g: Array) -> Array:
    return jnp.matmul(h, g, precision="highest")


def _inverse(g: Array) -> Array:
    return inverse_transpose(g).mT


def _rotation(key: PRNGKeyArray, size: int, dtype: DTypeLike) -> Array:
    q, r = qr(jax.random.normal(key, (size, size), dtype))
    sign = jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(dtype)
    return q * sign[None, :]


def _sample_linear(
    key: PRNGKeyArray, size: int, spread: float, dtype: DTypeLike
) -> Array:
    left, right, middle = jax.random.split(key, 3)
    exponent = jax.random.uniform(middle, (size,), dtype, -0.5, 0.5)
    if size > 1:
        exponent = exponent.at[:2].set(jnp.asarray([-0.5, 0.5], dtype))
    values = jnp.asarray(spread, dtype) ** exponent
    return _product(
        _rotation(left, size, dtype) * values[None, :], _rotation(right, size, dtype)
    )


def _sample_orthogonal(
    key: PRNGKeyArray, size: int, spread: float, dtype: DTypeLike
) -> Array:
    del spread
    return _rotation(key, size, dtype)


def _sample_fixing_ones(
    key: PRNGKeyArray, size: int, spread: float, dtype: DTypeLike
) -> Array:
    del spread
    basis = jnp.asarray(fixed_ones_basis(size), dtype)
    turned = _product(basis, _rotation(key, size - 1, dtype)) if size > 1 else basis
    return _product(turned, basis.T) + jnp.full((size, size), 1 / size, dtype)


def _sample_rotary(
    key: PRNGKeyArray, size: int, spread: float, dtype: DTypeLike
) -> Array:
    turn, stretch = jax.random.split(key)
    angle = jax.random.uniform(turn, (size // 2,), dtype, -jnp.pi, jnp.pi)
    exponent = jax.random.uniform(stretch, (size // 2,), dtype, -0.5, 0.5)
    length = jnp.asarray(spread, dtype) ** exponent
    return jnp.stack([length * jnp.cos(angle), length * jnp.sin(angle)], -1)


def _complex_product(h: Array, g: Array) -> Array:
    real = h[:, 0] * g[:, 0] - h[:, 1] * g[:, 1]
    return jnp.stack([real, h[:, 0] * g[:, 1] + h[:, 1] * g[:, 0]], -1)


def _complex_inverse(g: Array) -> Array:
    conjugate = g * jnp.asarray([[1, -1]], g.dtype)
    return conjugate / jnp.sum(g * g, -1, keepdims=True)


def _complex_identity(size: int, dtype: DTypeLike) -> Array:
    return jnp.stack([jnp.ones(size // 2, dtype), jnp.zeros(size // 2, dtype)], -1)


def _check_array(g: Array, shape: tuple[int, ...], what: str) -> np.ndarray:
    array = np.asarray(g)
    if array.shape != shape:
        raise ValueError(
            f"{what}: a matrix element should have shape {shape}, got {array.shape}. "
            f"Sample it with the spec it acts on."
        )
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        raise ValueError(
            f"{what}: a matrix element should be finite, got {len(wrong)} entries that "
            f"are not, the first at {tuple(wrong[0].tolist())}. {_ADVICE}"
        )
    return array


def _check_linear(name: str, g: Array, size: int) -> None:
    array = _check_array(g, (size, size), f"{name}({size})")
    condition = float(np.linalg.cond(array))
    if not condition < MAX_CONDITION:
        raise ValueError(
            f"{name}({size}): the matrix should be invertible, got a condition "
            f"number of {condition:.3g} (at most {MAX_CONDITION:g}). {_ADVICE}"
        )


def _check_orthogonal(name: str, g: Array, size: int) -> None:
    array = _check_array(g, (size, size), f"{name}({size})")
    off = float(np.max(np.abs(array @ array.T - np.eye(size))))
    if off > 100 * size * np.finfo(array.dtype).eps:
        raise ValueError(
            f"{name}({size}): A A^T should be the identity, got a difference of "
            f"{off:.3g}. {_ADVICE}"
        )


def _check_fixing_ones(g: Array, size: int) -> None:
    _check_orthogonal("orthogonal_ones", g, size)
    off = float(np.max(np.abs(np.asarray(g).sum(1) - 1)))
    if off > 100 * size * np.finfo(np.asarray(g).dtype).eps:
        raise ValueError(
            f"orthogonal_ones({size}): rows should sum to one, so that the vector of "
            f"ones stays, got a difference of {off:.3g}. {_ADVICE}"
        )


def _check_rotary(g: Array, size: int) -> None:
    array = _check_array(g, (size // 2, 2), f"rotary({size})")
    zeros = np.flatnonzero(~(np.sum(array**2, -1) > 0))
    if zeros.size:
        raise ValueError(
            f"rotary({size}): complex numbers should not be zero, got {zeros.size} of "
            f"{size // 2} that are, the first at {zeros[0]}. {_ADVICE}"
        )


def _move_with(power_of: Callable[[Array, int], Array]) -> Callable[..., Array]:
    def move(g: Array, x: Array, axis: int, power: int) -> Array:
        matrix = power_of(g, power).astype(x.dtype)
        moved = jnp.tensordot(x, matrix, ((axis,), (1,)), precision="highest")
        return jnp.moveaxis(moved, -1, axis)

    return move


general_linear = Group(
    name="general_linear",
    identity=_identity,
    mul=_product,
    inv=_inverse,
    sample=_sample_linear,
    move=_move_with(_power),
    monomial=None,
    balanced=lambda total: total == 0,
    matrix=_power,
    check=functools.partial(_check_linear, "general_linear"),
)
"""Invertible matrices. Samples have condition number `spread` (for one unit: a number
of either sign with a size in `[spread ** -.5, spread ** .5]`)."""

absorbed = general_linear._replace(
    name="absorbed", check=functools.partial(_check_linear, "absorbed")
)
"""General linear, between a norm's scale and what reads it: normal form 1."""

linear_stream = general_linear._replace(
    name="linear_stream", check=functools.partial(_check_linear, "linear_stream")
)
"""General linear, on a stream that many leaves write and read without a norm."""

orthogonal = Group(
    name="orthogonal",
    identity=_identity,
    mul=_product,
    inv=lambda g: g.mT,
    sample=_sample_orthogonal,
    move=_move_with(_orthogonal_power),
    monomial=None,
    balanced=lambda total: total % 2 == 0,
    matrix=_orthogonal_power,
    check=functools.partial(_check_orthogonal, "orthogonal"),
)
"""Orthogonal matrices, uniform samples. `spread` is not used."""

orthogonal_ones = orthogonal._replace(
    name="orthogonal_ones", sample=_sample_fixing_ones, check=_check_fixing_ones
)
"""Orthogonal matrices that fix the vector of ones; permutations are among them."""

rotary = Group(
    name="rotary",
    identity=_complex_identity,
    mul=_complex_product,
    inv=_complex_inverse,
    sample=_sample_rotary,
    move=_move_with(_complex_power),
    monomial=None,
    balanced=lambda total: total == 0,
    matrix=_complex_power,
    check=_check_rotary,
)
"""What commutes with rotary embedding: a complex number for each pair of units `i` and
`i + n / 2`, elements `[n / 2, 2]` of real and imaginary parts. `n` is even. Sizes are
log-uniform in `[spread ** -.5, spread ** .5]`, angles uniform."""
