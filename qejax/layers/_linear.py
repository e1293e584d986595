"""The dense layer of all modules here: computes in the dtype of its input."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike


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


def _to_first(arrays: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    del dtype, inexact
    first = arrays[0]
    return tuple(a if a is None else a.astype(first.dtype) for a in arrays)
