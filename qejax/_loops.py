"""What a loop starts from, on every device that has its part of the networks."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

T = TypeVar("T")


def beside(start: T, read: Any) -> T:
    """Returns `start`, bit for bit; to `shard_map` it varies wherever `read` does.

    A loop has to leave its state as it found it. An identity is the same on all
    devices, and no longer so once weights were multiplied into it. Outside of
    `shard_map` this does nothing, and compiled it costs nothing.

    Args:
        start: a pytree of arrays.
        read: a pytree of floating arrays that the loop reads.
    """
    parts = [jnp.any(jnp.isnan(x)) for x in jax.tree.leaves(read)]
    if not parts:
        return start
    either = jnp.any(jnp.stack(parts))
    return jax.tree.map(lambda x: jnp.where(either, x, x), start)
