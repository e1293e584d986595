"""The groups by name: a new group is a new row."""

from qejax.groups._dihedral import dihedral
from qejax.groups._group import Group
from qejax.groups._matrix import (
    absorbed,
    general_linear,
    linear_stream,
    orthogonal,
    orthogonal_ones,
    rotary,
)
from qejax.groups._monomial import permutation, positive_scale, sign

GROUPS: dict[str, Group] = {
    row.name: row
    for row in (
        permutation,
        positive_scale,
        sign,
        dihedral,
        general_linear,
        absorbed,
        linear_stream,
        orthogonal,
        orthogonal_ones,
        rotary,
    )
}
"""Every group that a unit space can carry, by name."""


def group(name: str) -> Group:
    """Returns the group called `name`.

    Raises:
        ValueError: if no group has that name; lists the names there are.

    Example:
        >>> group("sign").balanced(2)
        True
    """
    if name not in GROUPS:
        raise ValueError(f"group {name!r} is unknown: expected one of {list(GROUPS)}.")
    return GROUPS[name]
