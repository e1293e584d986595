"""Encodings of axes that never move: inputs, outputs, kernel positions.

Fixed axes tell their entries apart, so they are folded into channels and read by a
learned linear map. A long one (the pixels of an image) is first projected on smooth
cosines, which bounds the parameters that read it.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax._typing import Array, Float


def index_encoding(
    size: int, rank: int, dtype: DTypeLike = jnp.float32
) -> Float[Array, "size rank"]:
    """Returns the first `rank` cosines of a fixed axis, orthonormal columns.

    `E[i, r] = c_r cos(pi r (i + 1/2) / size)`, the discrete cosine basis: column 0 is
    the mean, later columns are finer. With `rank == size` no information is lost.

    Args:
        size: length of the axis.
        rank: number of columns, at most `size`.
        dtype: of the result.

    Returns:
        `[size, rank]` with `E.T @ E == 1`.

    Raises:
        ValueError: if `rank` is not from 1 to `size`.

    Example:
        >>> index_encoding(9, 4).shape
        (9, 4)
    """
    if not 1 <= rank <= size:
        raise ValueError(
            f"index_encoding: rank should be from 1 to size = {size}, got {rank}."
        )
    position = np.arange(size)[:, None] + 0.5
    basis = np.cos(np.pi * np.arange(rank)[None, :] * position / size)
    basis /= np.linalg.norm(basis, axis=0)
    return jnp.asarray(basis, dtype)
