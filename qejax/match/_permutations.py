"""The permutations of a weight space, without anything else that acts on it."""

from dataclasses import replace

from qejax.spaces import Axis, WeightSpec

_UNORDERED = ("rotary",)
"""Groups of which no permutation is an element: each pair has a frequency."""


def permutations(spec: WeightSpec) -> WeightSpec:
    """Returns the subgroup of the permutations of units, coordinates of heads included.

    What matching by permutations alone has: no scales, signs, half periods, matrices or
    shifts. Spaces keep their names and sizes; elements of the result are permutations
    with factors of one.

    Example:
        >>> from qejax import nets
        >>> spec = permutations(nets.mlp_spec((4, 3, 2), activation="relu"))
        >>> [(space.size, space.group) for space in spec.spaces]
        [(3, 'permutation')]
    """
    gone = {space.name for space in spec.spaces if space.group in _UNORDERED}
    spaces = tuple(
        replace(space, group="permutation")
        for space in spec.spaces
        if space.name not in gone
    )
    leaves = tuple(
        replace(
            leaf,
            axes=tuple(
                Axis(axis.size, None if axis.space in gone else axis.space, axis.power)
                for axis in leaf.axes
            ),
        )
        for leaf in spec.leaves
    )
    return WeightSpec(spaces, leaves)
