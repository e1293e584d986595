"""Devices as a mesh: which axis cuts batches, which cuts parameters.

Axes are Auto: a compiler (GSPMD) spreads a program that knows nothing of devices. A
batch is cut over `data`; large parameters, and all that is shaped like them, are cut
over `model`; small ones are whole everywhere.

Source: GSPMD, Xu et al. 2021, arXiv:2105.04663.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from qejax._devices import DATA, MODEL, replicated

SMALLEST = 2**18
"""Numbers of the smallest array that is cut, a MiB of float32: one that is cut is sent
in every step, and memory is all that is saved."""


def make_mesh(text: str = "data=-1", devices: Sequence[Any] | None = None) -> Mesh:
    """Returns the mesh that a command line says, over the devices of all processes.

    Args:
        text: `AXIS=SIZE` pairs of `data` and `model`, such as "data=-1,model=1"; one
            size may be -1, for as many as there are devices left. An axis that is not
            named has size 1.
        devices: `jax.devices()` by default.

    Returns:
        A mesh with the axes `data` and `model`, both Auto.

    Raises:
        ValueError: if an axis or a size is none, there is another number of devices,
            or `model` is larger than the devices of a process.

    Example:
        >>> mesh = make_mesh("data=-1,model=1", jax.devices()[:1])
        >>> dict(mesh.shape)
        {'data': 1, 'model': 1}
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = {DATA: 1, MODEL: 1}
    for part in text.split(","):
        name, equals, size = part.strip().partition("=")
        known = name in sizes and equals and size.removeprefix("-").isdigit()
        if not known or (int(size) < 1 and int(size) != -1):
            raise ValueError(
                f"mesh {text!r}: expected AXIS=SIZE pairs of {DATA!r} and {MODEL!r}, "
                f"sizes from 1 or -1 for the devices that are left, got {part!r}. Such "
                f"as data=-1,model=1."
            )
        sizes[name] = int(size)
    fixed = math.prod(size for size in sizes.values() if size > 0)
    free = [name for name, size in sizes.items() if size < 0]
    if len(free) == 1 and len(devices) % fixed == 0:
        sizes[free[0]] = len(devices) // fixed
    if len(free) > 1 or math.prod(sizes.values()) != len(devices):
        raise ValueError(
            f"mesh {text!r}: expected sizes whose product is the number of devices, "
            f"{len(devices)}, and -1 once at most, got {sizes}. Such as data=-1."
        )
    processes = len({device.process_index for device in devices})
    if sizes[DATA] % processes:
        raise ValueError(
            f"mesh {text!r}: expected {DATA!r} to be a multiple of the {processes} "
            f"processes, so that each has batches of its own, got {sizes}. Make "
            f"{MODEL!r} no larger than the devices of a process."
        )
    shape = tuple(sizes.values())
    return Mesh(
        np.array(devices).reshape(shape), tuple(sizes), axis_types=(AxisType.Auto,) * 2
    )


def state_shardings(mesh: Mesh, state: Any) -> Any:
    """Returns where parameters, and all that is shaped like them, lie.

    Over `model` an array of `SMALLEST` numbers at least is cut along its longest axis
    that can be cut evenly; it is whole on every device where none can, or where it is
    smaller. The same for equal shapes, so that what an optimiser keeps of a parameter
    lies where the parameter does.

    Args:
        mesh: with the axes `data` and `model`.
        state: a pytree of arrays, or of what has their shapes.

    Returns:
        A pytree of shardings with the structure of `state`.
    """
    parts = mesh.shape[MODEL]

    def place(leaf: Any) -> NamedSharding:
        even = [axis for axis, size in enumerate(leaf.shape) if size % parts == 0]
        axis = max(even, key=lambda axis: leaf.shape[axis], default=None)
        if parts == 1 or axis is None or math.prod(leaf.shape) < SMALLEST:
            return replicated(mesh)
        return NamedSharding(mesh, P(*(None,) * axis, MODEL))

    return jax.tree.map(place, state)


def check_batch(what: str, mesh: Mesh | None, size: int) -> None:
    """Raises unless batches can be cut evenly over the devices of `data`.

    Raises:
        ValueError: says what to do.
    """
    if mesh is not None and size % mesh.shape[DATA]:
        raise ValueError(
            f"{what}: expected batches of a multiple of the {mesh.shape[DATA]} devices "
            f"of the axis {DATA!r}, got {size}. Change the batch size, or the mesh."
        )
