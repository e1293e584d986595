"""What a transformer computes between its linear maps: attention, norms, positions."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax._typing import Array, Float

_WAVELENGTH = 10000.0


def attend(
    weights: Any,
    x: Float[Array, "N T E"],
    *,
    causal: bool = False,
    turn: Callable[[Array], Array] | None = None,
) -> Float[Array, "N T D"]:
    """Returns softmax attention of `H` heads; grouped if keys have fewer heads.

    Args:
        weights: `{"query", "key", "value", "out"}`, kernels `[E, H, d]`, `[E, G, d]`
            twice and `[H, d, D]`, biases if there are any; names and shapes of Flax.
        x: positions to attend from and to.
        causal: whether a position sees itself and earlier ones only.
        turn: of queries and keys `[N, T, H, d]` (rotary embedding).

    Returns:
        Outputs `[N, T, D]`. Query head `h` reads key and value head `h * G // H`.
    """
    query, key, value = (_heads(weights[n], x) for n in ("query", "key", "value"))
    if turn is not None:
        query, key = turn(query), turn(key)
    groups, width = key.shape[-2:]
    query = query.reshape(*query.shape[:2], groups, -1, width)
    scores = jnp.einsum("ntgrd,nsgd->ngrts", query, key) / math.sqrt(width)
    if causal:
        seen = np.tril(np.ones((x.shape[1], x.shape[1]), bool))
        scores = jnp.where(_behind(seen, scores), scores, -jnp.inf)
    mixed = jnp.einsum("ngrts,nsgd->ntgrd", jax.nn.softmax(scores), value)
    mixed = mixed.reshape(*mixed.shape[:2], -1, width)
    out = jnp.einsum("nthd,hdm->ntm", mixed, weights["out"]["kernel"])
    return add_bias(weights["out"], out)


def _heads(weights: Any, x: Array) -> Array:
    return add_bias(weights, jnp.einsum("nte,ehd->nthd", x, weights["kernel"]))


def add_bias(weights: Any, x: Array) -> Array:
    """Returns `x` with the bias of a layer added along its last axes, if it has one."""
    if "bias" not in weights:
        return x
    return x + _behind(weights["bias"], x)


def _behind(row: Any, x: Array) -> Array:
    """`row` with leading axes of size 1, so that it has as many as `x`."""
    return row.reshape((1,) * (x.ndim - row.ndim) + row.shape)


def rotate(x: Float[Array, "N T H d"]) -> Float[Array, "N T H d"]:
    """Returns rotary embedding: units `j, j + d / 2` turned by `t w ** (-2 j / d)`.

    Source: Su et al. 2021, arXiv:2104.09864, in the layout of two halves.
    """
    half = x.shape[-1] // 2
    rates = _WAVELENGTH ** (-np.arange(half) / half)
    angles = np.arange(x.shape[1])[:, None] * rates
    angles = angles[None, :, None]
    cos, sin = (
        jnp.asarray(np.cos(angles), x.dtype),
        jnp.asarray(np.sin(angles), x.dtype),
    )
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], -1)


def normalise(kind: str, weights: Any, x: Array, epsilon: float) -> Array:
    """Returns `x` with mean square one (and mean zero for "layer"), scaled.

    Args:
        kind: "layer", "rms" or "none".
        weights: `{"scale", "bias"}`, those that there are, or `None`.
        x: `[..., D]`.
        epsilon: in the variance.
    """
    if kind == "none":
        return x
    if kind == "layer":
        x = x - jnp.mean(x, -1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + epsilon)
    weights = weights or {}
    if "scale" in weights:
        x = x * _behind(weights["scale"], x)
    return add_bias(weights, x)


def sine_positions(length: int, dim: int) -> Float[np.ndarray, "T D"]:
    """Returns the fixed table of sines and cosines, interleaved.

    Args:
        length: number of positions.
        dim: width of the stream.

    Example:
        >>> sine_positions(3, 2).round(2).tolist()
        [[0.0, 1.0], [0.84, 0.54], [0.91, -0.42]]

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    rates = _WAVELENGTH ** (-np.arange(0, dim, 2) / dim)
    angles = np.arange(length)[:, None] * rates
    table = np.zeros((length, dim))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles)[:, : dim // 2]
    return table
