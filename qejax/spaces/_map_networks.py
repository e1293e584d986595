"""One function of many networks, a batch of them at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from qejax._devices import DATA, batch_sharding, fetch, replicated, spread
from qejax._processes import peers
from qejax._typing import Theta


def map_networks(
    function: Callable[..., Any],
    thetas: Theta,
    *shared: Any,
    batch_size: int = 64,
    mesh: Mesh | None = None,
) -> Any:
    """Returns `function` of every network, stacked; at most `batch_size` at a time.

    One compiled program, and memory for one batch of networks only.

    Args:
        function: `(theta, *shared) -> found`, of one network.
        thetas: leaves `[B, ...]`.
        *shared: trees of arrays that all networks share. Pass large ones here: arrays
            that `function` holds itself become constants, which XLA folds for minutes.
        batch_size: networks that are read together.
        mesh: whose devices share every batch, the last one filled up and cut again. Of
            many processes all call this with the same networks, and all get the results
            of all of them.

    Returns:
        The results of `function` with a leading axis `B`.
    """
    size = jax.tree.leaves(thetas)[0].shape[0]
    program = jax.jit(jax.vmap(function, (0, *(None for _ in shared))))
    return in_batches(
        program, thetas, *shared, batch_size=min(batch_size, size), mesh=mesh
    )


def in_batches(
    program: Callable[..., Any],
    thetas: Theta,
    *shared: Any,
    batch_size: int,
    mesh: Mesh | None = None,
) -> Any:
    """Returns `program` of stacked networks, always called with `batch_size` of them.

    Args:
        program: `(thetas, *shared) -> found`, leading axis `batch_size` in and out.
        thetas: leaves `[B, ...]`, `B` at least 1.
        *shared: trees of arrays that all networks share.
        batch_size: networks that are read together.
        mesh: as in `map_networks`; with one, `batch_size` is rounded up to what it cuts
            evenly.

    Returns:
        The results of `program` with a leading axis `B`.
    """
    size = jax.tree.leaves(thetas)[0].shape[0]
    parts = []
    if mesh is not None:
        batch_size += -batch_size % mesh.shape[DATA]
        shared = spread(shared, replicated(mesh))
    for start in range(0, size, batch_size):
        # The last batch repeats its last network: one shape, one compilation.
        rows = np.minimum(np.arange(start, start + batch_size), size - 1)
        part = jax.tree.map(lambda x, rows=rows: x[rows], thetas)
        if mesh is None:
            parts.append(program(part, *shared))
        else:
            with peers():
                found = program(spread(part, batch_sharding(mesh)), *shared)
            parts.append(fetch(found))
    return jax.tree.map(lambda *found: jnp.concatenate(found)[:size], *parts)
