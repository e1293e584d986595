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
        scores = jnp.where(seen, scores, -jnp.inf)
    mixed = jnp.einsum("ngrts,nsgd->ntgrd", jax.nn.softmax(scores), value)
    mixed = mixed.reshape(*mixed.shape[:2], -1, width)
    out = jnp.einsum("nthd,hdm->ntm", mixed, weights["out"]["kernel"])
    return out + weights["out"]["bias"] if "bias" in weights["out"] else out


def _heads(weights: Any, x: Array) -> Array:
    y = jnp.einsum("nte,ehd->nthd", x, weights["kernel"])
    return y + weights["bias"] if "bias" in weights else y


def rotate(x: Float[Array, "N T H d"]) -> Float[Array, "N T H d"]:
    """Returns rotary embedding: units `j, j + d / 2` turned by `t w ** (-2 j / d)`.

    Source: Su et al. 2021, arXiv:2104.09864, in the layout of two halves.
    """
    half = x.shape[-1] // 2
    rates = _WAVELENGTH ** (-np.arange(half) / half)
    angles = np.arange(x.shape[1])[:, None] * rates
    cos, sin = (jnp.asarray(f(angles)[:, None], x.dtype) for f in (np.cos, np.sin))
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
        x = x * weights["scale"]
    return x + weights["bias"] if "bias" in weights else x


def sine_positions(length: int, dim: int) -> Float[np.ndarray, "T D"]:
    """Returns the fixed table of sines and cosines, interleaved.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    rates = _WAVELENGTH ** (-np.arange(0, dim, 2) / dim)
    angles = np.arange(length)[:, None] * rates
    table = np.zeros((length, dim))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles)[:, : dim // 2]
    return table
