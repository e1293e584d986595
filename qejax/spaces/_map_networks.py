"""One function of many networks, a batch of them at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax._typing import Theta


def map_networks(
    function: Callable[..., Any], thetas: Theta, *shared: Any, batch_size: int = 64
) -> Any:
    """Returns `function` of every network, stacked; at most `batch_size` at a time.

    One compiled program, and memory for one batch of networks only.

    Args:
        function: `(theta, *shared) -> found`, of one network.
        thetas: leaves `[B, ...]`.
        *shared: trees of arrays that all networks share. Pass large ones here: arrays
            that `function` holds itself become constants, which XLA folds for minutes.
        batch_size: networks that are read together.

    Returns:
        The results of `function` with a leading axis `B`.
    """
    size = jax.tree.leaves(thetas)[0].shape[0]
    program = jax.jit(jax.vmap(function, (0, *(None for _ in shared))))
    return in_batches(program, thetas, *shared, batch_size=min(batch_size, size))


def in_batches(
    program: Callable[..., Any], thetas: Theta, *shared: Any, batch_size: int
) -> Any:
    """Returns `program` of stacked networks, always called with `batch_size` of them.

    Args:
        program: `(thetas, *shared) -> found`, leading axis `batch_size` in and out.
        thetas: leaves `[B, ...]`, `B` at least 1.
        *shared: trees of arrays that all networks share.
        batch_size: networks that are read together.

    Returns:
        The results of `program` with a leading axis `B`.
    """
    size = jax.tree.leaves(thetas)[0].shape[0]
    parts = []
    for start in range(0, size, batch_size):
        # The last batch repeats its last network: one shape, one compilation.
        rows = np.minimum(np.arange(start, start + batch_size), size - 1)
        part = jax.tree.map(lambda x, rows=rows: x[rows], thetas)
        parts.append(program(part, *shared))
    return jax.tree.map(lambda *found: jnp.concatenate(found)[:size], *parts)
