"""Leaves that are parts of one array: what they are called, and that they fill it.

One array can hold weights that different units move: queries, keys and values in one
kernel, the kernel behind a concatenation, the layers that `jax.lax.scan` runs over.
Each part is a leaf then; the parts are boxes that fill the array without overlap.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np

from qejax._typing import Array, Leaves
from qejax.spaces._leaf import Axis, Cut, Leaf


def part_of(
    path: str,
    shape: Sequence[int],
    starts: Sequence[int],
    stops: Sequence[int],
    axes: Sequence[Axis],
) -> Leaf:
    """Returns the leaf that is `array[starts[0]:stops[0], starts[1]:stops[1], ...]`.

    Args:
        path: of the whole array in `theta`.
        shape: of the whole array.
        starts: where the part begins along every axis of it.
        stops: where the part ends.
        axes: of the view of the part.

    Returns:
        A leaf named after the slice; of all the array, the leaf of a whole array.

    Raises:
        ValueError: if the part has not as many axes as the array, or is not inside it.

    Example:
        >>> axes = (Axis(64), Axis(8, "heads", 1), Axis(8, "qk", 1))
        >>> query = part_of("qkv/kernel", (64, 192), (0, 0), (64, 64), axes)
        >>> query.path, query.stored, query.view
        ('qkv/kernel[:,0:64]', (64, 64), (64, 8, 8))
    """
    ends = tuple(zip(starts, stops, strict=False))
    if not len(starts) == len(stops) == len(shape) or not all(
        0 <= start < stop <= side
        for (start, stop), side in zip(ends, shape, strict=True)
    ):
        raise ValueError(
            f"part_of({path!r}, ...): starts and stops should be one each for the axes "
            f"of the shape {tuple(shape)}, 0 <= start < stop <= side, got "
            f"{tuple(starts)} and {tuple(stops)}."
        )
    sides = tuple(stop - start for start, stop in ends)
    view = tuple(axis.size for axis in axes)
    stored = None if sides == view else sides
    if sides == tuple(shape):
        return Leaf(path, tuple(axes), stored)
    names = (
        ":" if (start, stop) == (0, side) else f"{start}:{stop}"
        for (start, stop), side in zip(ends, shape, strict=True)
    )
    cut = Cut(path, tuple(shape), tuple(starts))
    return Leaf(f"{path}[{','.join(names)}]", tuple(axes), stored, cut)


def part(leaf: Leaf, array: Array) -> Array:
    """Returns what a leaf is of the array that holds it, `[*leaf.stored]`."""
    return array if leaf.cut is None else array[_slices(leaf.cut.starts, leaf.stored)]


def joined(held: Sequence[Leaf], leaves: Leaves) -> Array:
    """Returns the array that is made of some leaves.

    Args:
        held: all leaves of one array.
        leaves: by path, in views or stored shapes; NumPy arrays make one of NumPy.
    """
    rows = [(leaf, leaves[leaf.path].reshape(leaf.stored)) for leaf in held]
    (_, whole), *others = rows
    return _filled([_box(leaf, x) for leaf, x in rows], 0) if others else whole


_Box = tuple[tuple[int, ...], Any]
"""Where a part begins, and the part."""


def _box(leaf: Leaf, x: Array) -> _Box:
    assert leaf.cut is not None
    return leaf.cut.starts, x


def _filled(boxes: list[_Box], axis: int) -> Any:
    """Boxes that fill a box together, concatenated along its axes from `axis` on."""
    if len(boxes) == 1:
        return boxes[0][1]
    ends = {starts[axis] for starts, _ in boxes}
    ends |= {starts[axis] + x.shape[axis] for starts, x in boxes}
    slabs = [
        _filled(_between(boxes, axis, low, high), axis + 1)
        for low, high in pairwise(sorted(ends))
    ]
    if len(slabs) == 1:
        return slabs[0]
    plain = all(isinstance(x, np.ndarray) for x in slabs)
    return np.concatenate(slabs, axis) if plain else jnp.concatenate(slabs, axis)


def _between(boxes: list[_Box], axis: int, low: int, high: int) -> list[_Box]:
    """What of the boxes lies between two places of an axis where some box ends."""
    found = []
    for starts, x in boxes:
        first = starts[axis]
        if first <= low and high <= first + x.shape[axis]:
            rows = [slice(None)] * x.ndim
            rows[axis] = slice(low - first, high - first)
            found.append((starts, x[tuple(rows)]))
    return found


def _slices(starts: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    return tuple(
        slice(start, start + side) for start, side in zip(starts, sides, strict=True)
    )


def check_cuts(leaves: Iterable[Leaf]) -> None:
    """Raises unless the leaves that are parts of an array fill it without overlap.

    Raises:
        ValueError: names the leaf, the array, what was expected and found.
    """
    whole = {leaf.path: leaf for leaf in leaves if leaf.cut is None}
    held: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        if leaf.cut is not None:
            _check_part(leaf, leaf.cut)
            held.setdefault(leaf.cut.path, []).append(leaf)
    for path, parts in held.items():
        if path in whole or any(leaf.path == path for leaf in parts):
            raise ValueError(
                f"leaf {path!r}: the array of this path is cut into the leaves "
                f"{[leaf.path for leaf in parts]}, expected no leaf with its own path. "
                f"Name parts with qejax.spaces.part_of, and leave out the whole."
            )
        _check_tiles(path, parts)


def _check_part(leaf: Leaf, cut: Cut) -> None:
    lengths = {len(leaf.stored), len(cut.shape), len(cut.starts)}
    rows = zip(cut.starts, leaf.stored, cut.shape, strict=False)
    if len(lengths) != 1 or not all(
        0 <= start < start + side <= end for start, side, end in rows
    ):
        raise ValueError(
            f"leaf {leaf.path!r}: a part should lie inside of {cut.path!r} of shape "
            f"{cut.shape}, along every axis; got a part of shape {leaf.stored} that "
            f"starts at {cut.starts}. Make it with qejax.spaces.part_of."
        )


def _check_tiles(path: str, parts: list[Leaf]) -> None:
    cuts = [leaf.cut for leaf in parts if leaf.cut is not None]
    shapes = {cut.shape: leaf.path for cut, leaf in zip(cuts, parts, strict=True)}
    if len(shapes) != 1:
        raise ValueError(
            f"parts of {path!r}: expected one shape of the whole array in all of them, "
            f"got {', '.join(f'{shape} in {leaf!r}' for shape, leaf in shapes.items())}"
            f". Give all the shape that it has in theta."
        )
    starts = np.array([cut.starts for cut in cuts], int)
    stops = starts + np.array([leaf.stored for leaf in parts], int).reshape(
        starts.shape
    )
    for n in range(1, len(parts)):
        low = np.maximum(starts[:n], starts[n])
        meets = np.all(low < np.minimum(stops[:n], stops[n]), axis=1)
        if meets.any():
            other = int(np.argmax(meets))
            raise ValueError(
                f"parts of {path!r}: expected parts that do not overlap, got "
                f"{parts[other].path!r} and {parts[n].path!r}, which both hold the "
                f"entry {tuple(low[other].tolist())}."
            )
    (shape,) = shapes
    total, filled = int(np.prod(shape)), sum(leaf.size for leaf in parts)
    if filled != total:
        raise ValueError(
            f"parts of {path!r}: expected parts that fill its shape {shape}, "
            f"{total} entries, got {filled} in {[leaf.path for leaf in parts]}. Add a "
            f"leaf for the rest, with fixed axes if nothing moves it."
        )
