"""Arrays on a mesh of devices, of one process or of many.

A mesh has the axes `data`, which cuts batches, and `model`, which cuts parameters. All
processes run the same program: what is put on a mesh, each of them has whole, and what
is fetched from it, each of them gets whole.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from qejax._processes import peers

DATA, MODEL = "data", "model"
"""Axes: of batches, and of parameters."""


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns where batches lie: the leading axis is cut over `data`."""
    return NamedSharding(mesh, P(DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns where lies what every device has whole."""
    return NamedSharding(mesh, P())


def spread(tree: Any, shardings: Any) -> Any:
    """Returns a tree where it should lie; nothing moves that is there.

    Args:
        tree: arrays that every process has whole, or that lie on the devices already.
        shardings: one, or a tree of them.
    """
    if isinstance(shardings, NamedSharding):
        shardings = jax.tree.map(lambda _: shardings, tree)

    def one(leaf: Any, sharding: NamedSharding) -> Any:
        here = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if here or sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        # Devices of other processes: each process puts what is its own.
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)

    return jax.tree.map(one, tree, shardings)


def fetch(tree: Any) -> Any:
    """Returns NumPy arrays of the leaves, whole on every process.

    Raises:
        PeerError: if another process has ended.
    """

    def one(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            whole = NamedSharding(leaf.sharding.mesh, P())  # pyright: ignore
            leaf = jax.jit(lambda x: x, out_shardings=whole)(leaf)
        return np.asarray(leaf)

    with peers():
        return jax.tree.map(one, tree)
