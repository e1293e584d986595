"""What tells the signs of units: leaves or products with no other free sign."""

from collections.abc import Iterator
from typing import NamedTuple

from qejax._typing import Array, Leaves
from qejax.spaces._frames import Touch, touches
from qejax.spaces._products import product
from qejax.spaces._spec import WeightSpec


class Telling(NamedTuple):
    """Leaves by path, and the axes along which they tell the signs of a space."""

    leaves: Leaves
    touching: tuple[Touch, ...]


def telling_of(
    spec: WeightSpec, leaves: Leaves, name: str, signed: set[str]
) -> Telling:
    """Returns the axes in leaves whose other axes have no free sign and no free frame.

    Where there are none, products of two leaves across a space with free signs take
    their place: signs and frames between the factors cancel.

    Args:
        spec: the weight space.
        leaves: by path, in views.
        name: of the space that is told.
        signed: the spaces whose signs are still free.

    Raises:
        ValueError: if there are no products either.
    """
    touching = touches(spec, name)
    telling = tuple(t for t in touching if not _free(t, signed))
    if telling:
        return Telling(leaves, telling)
    products = dict(_products(spec, leaves, touching, signed))
    if not products:
        raise ValueError(
            f"unit space {name!r}: the normal form needs a leaf that fixes the signs "
            f"of its units, one that touches no other units with free signs; got "
            f"{[t.leaf.path for t in touching]} only. Add a bias."
        )
    made = {touch.leaf.path: x for touch, x in products.items()}
    return Telling(made, tuple(products))


def _free(touch: Touch, signed: set[str]) -> list[int]:
    """Other axes of a leaf with free signs; even powers feel none."""
    return [
        p
        for p, axis in enumerate(touch.leaf.axes)
        if p != touch.position and axis.space in signed and axis.power % 2
    ]


def _products(
    spec: WeightSpec, leaves: Leaves, touching: tuple[Touch, ...], signed: set[str]
) -> Iterator[tuple[Touch, Array]]:
    """Yields products with one other leaf each, summed over what lies between."""
    for touch in touching:
        free = _free(touch, signed)
        if len(free) != 1:
            continue
        between = touch.leaf.axes[free[0]]
        near = Touch(touch.leaf, free[0], spec.per_axis(touch.leaf, free[0]))
        for far in touches(spec, str(between.space)):
            if far.writes != near.writes and not _free(far, signed):
                yield product(leaves, touch, near, far)
