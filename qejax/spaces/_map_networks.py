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
    batch = min(batch_size, size)
    in_axes = (0, *(None for _ in shared))
    mapped = jax.jit(jax.vmap(function, in_axes))
    parts = []
    for start in range(0, size, batch):
        # The last batch repeats its last network: one shape, one compilation.
        rows = np.minimum(np.arange(start, start + batch), size - 1)
        part = jax.tree.map(lambda x, rows=rows: x[rows], thetas)
        parts.append(mapped(part, *shared))
    return jax.tree.map(lambda *found: jnp.concatenate(found)[:size], *parts)
