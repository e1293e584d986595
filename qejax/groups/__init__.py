"""What can act on the hidden units of a network; no weights here.

A group is a bundle of pure functions (`Group`); an element is a pytree (`Monomial`).
`GROUPS` is the registry: a new group is a new row.
"""

from qejax.groups._group import Group as Group
from qejax.groups._monomial import Monomial as Monomial
from qejax.groups._monomial import check_element as check_element
from qejax.groups._monomial import permutation as permutation
from qejax.groups._monomial import positive_scale as positive_scale
from qejax.groups._monomial import sign as sign
from qejax.groups._registry import GROUPS as GROUPS
from qejax.groups._registry import group as group

__all__ = [
    "GROUPS",
    "Group",
    "Monomial",
    "check_element",
    "group",
    "permutation",
    "positive_scale",
    "sign",
]
