"""The weight space of a network with adapters, from that of the network."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from qejax.spaces import Axis, Leaf, Part, Shift, UnitSpace, WeightSpec, low_rank


class Pair(NamedTuple):
    """The leaves of one adapter: of the kernel, of `a` and of `b`."""

    kernel: Leaf
    a: Leaf
    b: Leaf


def layer_of(leaf: Leaf) -> str:
    """Path of the layer that has the leaf."""
    return leaf.path.rsplit("/", 1)[0]


def fixed(leaf: Leaf) -> Leaf:
    """The leaf as it is stored, moved by nothing."""
    return Leaf(leaf.path, tuple(Axis(size) for size in leaf.stored))


def targets_of(spec: WeightSpec, names: Sequence[str] | None) -> tuple[Leaf, ...]:
    """Kernels of the targets, in network order.

    Args:
        spec: of the base.
        names: of layers: whole paths, or the ends of paths that are none; `None` for
            all with a kernel.

    Raises:
        ValueError: if no layer has a name.
    """
    ends = {leaf.path: leaf.path.rsplit("/", 1)[-1] for leaf in spec.leaves}
    if names is None:
        return tuple(leaf for leaf in spec.leaves if ends[leaf.path] == "kernel")
    maps = [leaf for leaf in spec.leaves if ends[leaf.path] in ("kernel", "embedding")]
    layers = [layer_of(leaf) for leaf in maps]
    wanted: set[str] = set()
    for name in names:
        whole = [layer for layer in layers if layer == name]
        found = whole or [layer for layer in layers if layer.endswith(f"/{name}")]
        if not found:
            raise ValueError(
                f"adapter targets: expected layers among {layers}, or the ends of "
                f"their paths, got {name!r}."
            )
        wanted.update(found)
    return tuple(leaf for leaf in maps if layer_of(leaf) in wanted)


def adapter_part(kernel: Leaf, like: Leaf, rank: int) -> Part:
    """The adapter of a kernel, moved as `like` is.

    Raises:
        ValueError: if the rank is beyond the inputs or outputs of the kernel.
    """
    shape = kernel.stored
    # Flax: [E, H, d] of what a head reads, [H, d, D] of what reads heads; the last
    # axis of every other kernel is written.
    heads = layer_of(kernel).rsplit("/", 1)[-1] in ("query", "key", "value")
    reads = 1 if heads else len(shape) - 1
    limit = min(math.prod(shape[:reads]), math.prod(shape[reads:]))
    if rank > limit:
        raise ValueError(
            f"adapter rank: expected at most {limit} for {layer_of(kernel)!r}, the "
            f"smaller side of its kernel {shape}, got {rank}. Choose other targets, "
            f"or a smaller rank."
        )
    return low_rank(like, rank, reads)


def pairs_of(kernels: Sequence[Leaf], parts: Mapping[str, Part]) -> tuple[Pair, ...]:
    """The adapters of kernels, from what each adds to a spec."""
    return tuple(Pair(leaf, *parts[leaf.path].leaves) for leaf in kernels)


def with_adapters(spec: WeightSpec, parts: Mapping[str, Part]) -> WeightSpec:
    """The spec with the adapters beside their kernels.

    The space between `a` and `b` stands behind what `a` reads, and before what `b`
    writes unless that was there first (a stream that is added to).
    """
    order = {space.name: number for number, space in enumerate(spec.spaces)}
    before: list[list[UnitSpace]] = [[] for _ in range(len(spec.spaces) + 1)]
    leaves: list[Leaf] = []
    for leaf in spec.leaves:
        leaves.append(leaf)
        if leaf.path not in parts:
            continue
        part = parts[leaf.path]
        leaves += part.leaves
        read, written = (
            [order[axis.space] for axis in axes if axis.space is not None]
            for axes in (part.leaves[0].axes[:-1], part.leaves[1].axes[1:])
        )
        behind = max(read, default=-1) + 1
        later = [number for number in written if number >= behind]
        before[min(later, default=behind)] += part.spaces
    spaces: list[UnitSpace] = []
    for number, space in enumerate(spec.spaces):
        spaces += [*before[number], space]
    spaces += before[-1]
    shifts = tuple(
        shift
        for shift in spec.shifts
        if not any(route.kernel in parts for route in shift.routes)
    )
    return WeightSpec(tuple(spaces), tuple(leaves), shifts + unseen(spec, parts))


def unseen(spec: WeightSpec, parts: Mapping[str, Part]) -> tuple[Shift, ...]:
    """Shifts of adapters along the axes whose means of the kernel nobody sees.

    Args:
        spec: of the base.
        parts: of the adapters, by path of the kernel.
    """
    found: list[Shift] = []
    for shift in spec.shifts:
        if shift.leaf not in parts or not shift.along or shift.routes:
            continue
        a, b = parts[shift.leaf].leaves
        reads = shift.along == (0,)
        leaf, axis = (a, 0) if reads else (b, len(b.axes) - 1)
        found.append(Shift(f"{shift.name}.lora", leaf.path, along=(axis,)))
    return tuple(found)
