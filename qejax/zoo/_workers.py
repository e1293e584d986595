"""Pieces of work over the devices of a process, and over processes.

A piece is computed by one device alone: nothing is sent between them, and numbers are
those of one device up to the rounding of another compilation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from qejax._devices import DATA


def is_own(number: int) -> bool:
    """Returns whether a piece of work is this process's; each is of one of them."""
    return number % jax.process_count() == jax.process_index()


def own_devices(mesh: Mesh | None) -> list[Any]:
    """Returns the devices of a mesh that are of this process; one without a mesh."""
    if mesh is None:
        return [jax.local_devices()[0]]
    return [d for d in mesh.devices.flat if d.process_index == jax.process_index()]


class Workers:
    """A program on every device of this process, each with a piece of its own.

    Args:
        program: `(shared, piece) -> found`, jitted.
        mesh: whose devices of this process work; without one, one device.
    """

    def __init__(self, program: Callable[[Any, Any], Any], mesh: Mesh | None) -> None:
        self._program = program
        devices = own_devices(mesh)
        self.count = len(devices)
        self._many = None
        if self.count > 1:
            local = Mesh(np.array(devices), (DATA,), axis_types=(AxisType.Auto,))
            self._many = jax.jit(
                jax.shard_map(
                    self._of_one,
                    mesh=local,
                    in_specs=(P(), P(DATA)),
                    out_specs=P(DATA),
                    check_vma=False,
                )
            )

    def _of_one(self, shared: Any, pieces: Any) -> Any:
        piece = jax.tree.map(lambda x: x[0], pieces)
        return jax.tree.map(lambda x: x[None], self._program(shared, piece))

    def __call__(self, shared: Any, pieces: Sequence[Any], idle: Any) -> list[Any]:
        """Returns what the program finds of each piece, as NumPy arrays.

        Args:
            shared: what every piece needs.
            pieces: from one to `count` of them, trees of arrays of equal shapes.
            idle: from a piece to one like it that costs nothing, for devices that have
                none.
        """
        if self._many is None:
            return [jax.device_get(self._program(shared, piece)) for piece in pieces]
        filled = [*pieces, *[idle(pieces[-1])] * (self.count - len(pieces))]
        stacked = jax.tree.map(lambda *x: np.stack(x), *filled)
        found = jax.device_get(self._many(shared, stacked))
        return [
            jax.tree.map(lambda x, at=at: x[at], found) for at in range(len(pieces))
        ]
