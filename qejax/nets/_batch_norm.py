"""Batch normalisation at inference is an affine map: fold it into the layer before."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from qejax._typing import Array


def fold_batch_norm(
    layer: Mapping[str, Array], norm: Mapping[str, Array], epsilon: float = 1e-5
) -> dict[str, Array]:
    """Returns one layer that computes `norm(layer(x))` at inference, exactly.

    `norm(y) = (y - mean) / sqrt(var + epsilon) * scale + bias`, per output unit. After
    folding, the layer has the symmetry of its activation and no other leaf.

    Args:
        layer: `kernel: [..., n_in, n_out]` of a dense layer or convolution, and
            optionally `bias: [n_out]`.
        norm: `mean` and `var`, `[n_out]` each, of the running statistics, and
            optionally `scale` and `bias` (as Flax names them).
        epsilon: of the normalisation; Flax's default.

    Returns:
        `{"kernel", "bias"}` with the kernel's shape and dtype.

    Raises:
        ValueError: if an entry is missing, a vector does not have one entry per output
            unit, or, outside jit, `var + epsilon` is not positive.

    Example:
        >>> one = jnp.ones(2)
        >>> layer = {"kernel": jnp.ones((3, 2)), "bias": one}
        >>> norm = {"mean": one, "var": 4 * one, "scale": one, "bias": one}
        >>> folded = fold_batch_norm(layer, norm, epsilon=0.0)
        >>> folded["kernel"][0].tolist(), folded["bias"].tolist()
        ([0.5, 0.5], [1.0, 1.0])
    """
    for what, entries, needed in (
        ("layer", layer, ("kernel",)),
        ("norm", norm, ("mean", "var")),
    ):
        missing = [name for name in needed if name not in entries]
        if missing:
            raise ValueError(
                f"fold_batch_norm: {what} should have the entries {list(needed)}, got "
                f"{list(entries)} without {missing}. Running statistics are in the "
                f"collection 'batch_stats' of Flax."
            )
    kernel = layer["kernel"]
    size = kernel.shape[-1]
    vectors = {"layer bias": layer.get("bias")}
    vectors |= {f"norm {name}": norm.get(name) for name in ("scale", "bias")}
    vectors |= {f"norm {name}": norm[name] for name in ("mean", "var")}
    for name, vector in vectors.items():
        if vector is not None and vector.shape != (size,):
            raise ValueError(
                f"fold_batch_norm: {name} should have one entry for each of {size} "
                f"output units (kernel {tuple(kernel.shape)}), got shape "
                f"{tuple(vector.shape)}."
            )
    variance = norm["var"]
    if not isinstance(variance, Tracer):
        wrong = np.flatnonzero(~(np.asarray(variance) + epsilon > 0))
        if wrong.size:
            raise ValueError(
                f"fold_batch_norm: norm var plus epsilon={epsilon} should be positive, "
                f"got {wrong.size} of {size} that are not, the first at {wrong[0]}. "
                f"Pass the variance itself, not its logarithm or its root's inverse."
            )
    factor = norm.get("scale", jnp.ones(size, kernel.dtype)) / jnp.sqrt(
        variance + epsilon
    )
    zero = jnp.zeros(size, kernel.dtype)
    bias = (layer.get("bias", zero) - norm["mean"]) * factor + norm.get("bias", zero)
    broadcast = factor.reshape((1,) * (kernel.ndim - 1) + (-1,))
    return {
        "kernel": (kernel * broadcast).astype(kernel.dtype),
        "bias": bias.astype(kernel.dtype),
    }
