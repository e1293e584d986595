"""Products of two leaves across what lies between them, and where those lead.

Frames, scales and signs between two factors cancel, whatever they are.
"""

from collections.abc import Iterator

import jax.numpy as jnp

from qejax._typing import Array, Leaves
from qejax.spaces._frames import Touch, touches
from qejax.spaces._leaf import Leaf
from qejax.spaces._spec import WeightSpec


def product(
    leaves: Leaves, touch: Touch, near: Touch, far: Touch
) -> tuple[Touch, Array]:
    """Returns one product, summed over what lies between, and the axis of `touch`.

    Args:
        leaves: by path, in views.
        touch: an axis of the near leaf that stays.
        near: its axis that is summed over, with its host.
        far: the axis of the other leaf.
    """
    labels = list(range(len(near.leaf.axes)))
    others = [len(labels) + p for p in range(len(far.leaf.axes))]
    others[far.position] = near.position
    if far.host is not None and near.host is not None:
        others[far.host] = near.host
    # Hosts permute: they are summed, unless they tell which element moves the space.
    gone = {near.position, near.host} - {touch.host}
    axes = dict(zip(others, far.leaf.axes, strict=True))
    axes |= dict(zip(labels, near.leaf.axes, strict=True))
    out = [n for n in dict.fromkeys([*labels, *others]) if n not in gone]
    x = jnp.einsum(
        leaves[near.leaf.path],
        labels,
        leaves[far.leaf.path],
        others,
        out,
        precision="highest",
    )
    leaf = Leaf(f"{near.leaf.path} {far.leaf.path}", tuple(axes[n] for n in out))
    host = None if touch.host is None else out.index(touch.host)
    return Touch(leaf, out.index(touch.position), host), x


def reached(spec: WeightSpec, leaves: Leaves, name: str, rows: Array) -> Array:
    """Returns rows that write a stream, and where the layers on it lead linearly.

    Rows are multiplied by what each layer makes of the stream, again and again, until
    there are as many as the stream is wide: they change basis with it as `rows` do,
    and with nothing else.

    Args:
        spec: the weight space.
        leaves: by path, in views.
        name: of the stream, `D` units.
        rows: `[m, D]`.

    Returns:
        `[m', D]`; `m' < D` only where no layer reads the stream and writes it.
    """
    maps = list(_maps(spec, leaves, name))
    found = frontier = rows
    while maps and found.shape[0] < rows.shape[1]:
        steps = [jnp.matmul(frontier, each, precision="highest") for each in maps]
        frontier = jnp.concatenate(steps)
        found = jnp.concatenate([found, frontier])
    return found


def _maps(spec: WeightSpec, leaves: Leaves, name: str) -> Iterator[Array]:
    """Yields `[D, D]` of every layer that reads the stream and adds to it."""
    for touch in touches(spec, name):
        for position, axis in enumerate(touch.leaf.axes):
            if not touch.writes or axis.space in (None, name):
                continue
            near = Touch(touch.leaf, position, spec.per_axis(touch.leaf, position))
            for far in touches(spec, str(axis.space)):
                power = far.leaf.axes[far.position].power + axis.power
                if power == 0 and far.leaf.reads(name):
                    yield from _map(spec, name, *product(leaves, touch, near, far))


def _map(spec: WeightSpec, name: str, touch: Touch, x: Array) -> Iterator[Array]:
    """Yields the product as a matrix if all of its other axes only permute."""
    (read,) = (
        p for p, a in enumerate(touch.leaf.axes) if a.space == name and a.power < 0
    )
    kept = {read, touch.position}
    others = [p for p in range(x.ndim) if p not in kept]
    spaces = [touch.leaf.axes[p].space for p in others]
    groups = {spec.space_by_name[s].group for s in spaces if s is not None}
    if groups <= {"permutation"}:
        total = jnp.sum(x, others)
        yield total if read < touch.position else total.T
