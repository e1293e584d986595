"""Convolutions as patches and one matrix product.

A convolution that is vmapped over kernels becomes a grouped convolution, which
backends compute slowly; strided slices and a batched matrix product stay fast.
"""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from qejax._typing import Array, Float


def patches(
    x: Array, window: Sequence[int], strides: Sequence[int], padding: str
) -> Array:
    """Returns the windows of a map, flattened, channels fastest.

    Args:
        x: `[N, *spatial, C]`.
        window: sides of the window, one per spatial axis.
        strides: one per spatial axis.
        padding: "VALID" or "SAME" (with zeros).

    Returns:
        `[N, *spatial', prod(window) * C]`.

    Raises:
        ValueError: if a window without padding is larger than the map.
    """
    spatial = x.shape[1:-1]
    pads = lax.padtype_to_pads(spatial, window, strides, padding)
    x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
    sizes = out_size(spatial, window, strides, padding)
    slices = []
    for offset in itertools.product(*map(range, window)):
        stops = [
            o + (n - 1) * s + 1 for o, n, s in zip(offset, sizes, strides, strict=True)
        ]
        slices.append(
            lax.slice(
                x,
                (0, *offset, 0),
                (x.shape[0], *stops, x.shape[-1]),
                (1, *strides, 1),
            )
        )
    return jnp.concatenate(slices, axis=-1)


def convolve(
    x: Float[Array, "N ... n_in"],
    kernel: Array,
    strides: Sequence[int],
    padding: str,
) -> Float[Array, "N ... n_out"]:
    """Returns the convolution of a map with `kernel: [*window, n_in, n_out]`.

    Equals `lax.conv_general_dilated` in the layout `NHWC, HWIO`.
    """
    *window, n_in, n_out = kernel.shape
    if (x.ndim, x.shape[-1]) != (len(window) + 2, n_in):
        raise ValueError(
            f"convolution with a kernel {kernel.shape}: expected a map of shape "
            f"[N, {len(window)} spatial axes, {n_in}], got {tuple(x.shape)}."
        )
    return patches(x, window, strides, padding) @ kernel.reshape(-1, n_out)


def out_size(
    spatial: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: str
) -> tuple[int, ...]:
    """Returns the spatial shape after a convolution.

    Raises:
        ValueError: if nothing is left.

    Example:
        >>> out_size((32, 32), (3, 3), (2, 2), "VALID")
        (15, 15)
    """
    pads = lax.padtype_to_pads(spatial, window, strides, padding)
    sizes = tuple(
        (n + sum(pad) - k) // s + 1
        for n, pad, k, s in zip(spatial, pads, window, strides, strict=True)
    )
    if min(sizes) < 1:
        raise ValueError(
            f"convolution with window {tuple(window)} and padding {padding}: expected "
            f"a map at least as large, got {tuple(spatial)}. Use fewer or smaller "
            f"kernels, smaller strides, or padding='SAME'."
        )
    return sizes
