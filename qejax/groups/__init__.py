"""What can act on the hidden units of a network; no weights here.

A group is a bundle of pure functions (`Group`); an element is a pytree: a `Monomial`,
a `Dihedral`, or the array of a matrix group.
`GROUPS` is the registry: a new group is a new row.
"""

from qejax.groups._dihedral import Dihedral as Dihedral
from qejax.groups._dihedral import dihedral as dihedral
from qejax.groups._group import Group as Group
from qejax.groups._linalg import eigh as eigh
from qejax.groups._linalg import inverse as inverse
from qejax.groups._linalg import qr as qr
from qejax.groups._linalg import singular_values as singular_values
from qejax.groups._linalg import svd as svd
from qejax.groups._matrix import absorbed as absorbed
from qejax.groups._matrix import fixed_ones_basis as fixed_ones_basis
from qejax.groups._matrix import general_linear as general_linear
from qejax.groups._matrix import inverse_transpose as inverse_transpose
from qejax.groups._matrix import linear_stream as linear_stream
from qejax.groups._matrix import orthogonal as orthogonal
from qejax.groups._matrix import orthogonal_ones as orthogonal_ones
from qejax.groups._matrix import rotary as rotary
from qejax.groups._monomial import Monomial as Monomial
from qejax.groups._monomial import check_element as check_element
from qejax.groups._monomial import permutation as permutation
from qejax.groups._monomial import positive_scale as positive_scale
from qejax.groups._monomial import sign as sign
from qejax.groups._registry import GROUPS as GROUPS
from qejax.groups._registry import group as group

__all__ = [
    "GROUPS",
    "Dihedral",
    "Group",
    "Monomial",
    "absorbed",
    "check_element",
    "dihedral",
    "eigh",
    "fixed_ones_basis",
    "general_linear",
    "group",
    "inverse",
    "inverse_transpose",
    "linear_stream",
    "orthogonal",
    "orthogonal_ones",
    "permutation",
    "positive_scale",
    "qr",
    "rotary",
    "sign",
    "singular_values",
    "svd",
]
