"""The dense layer of all modules here: computes in the dtype of its input."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array


def linear(
    fan_in: int,
    channels: int,
    *,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Linear:
    """Returns `x [..., fan_in] -> [..., channels]`, biases zero at first.

    Parameters are cast to the dtype of `x`, never the other way round.
    """
    return nnx.Linear(
        fan_in,
        channels,
        param_dtype=param_dtype,
        promote_dtype=_to_first,
        rngs=rngs,
    )


def matrix(
    fan_in: int, channels: int, *, param_dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.Param:
    """Returns `[fan_in, channels]` for `times`, of deviation `1 / sqrt(fan_in)`."""
    draw = jax.random.normal(rngs.params(), (fan_in, channels), param_dtype)
    return nnx.Param(draw / math.sqrt(max(fan_in, 1)))


def times(x: Array, weight: nnx.Param) -> Array:
    """Returns `x @ weight` in the dtype of `x`: linear, so what is odd stays odd."""
    return x @ weight[...].astype(x.dtype)


def _to_first(arrays: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    del dtype, inexact
    first = arrays[0]
    return tuple(a if a is None else a.astype(first.dtype) for a in arrays)
