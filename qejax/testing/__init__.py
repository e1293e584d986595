"""Checks that users can call, each able to fail: see `Report` on controls.

Every `assert_*` has a twin without the prefix that returns the numbers and never raises
for them.
"""

from qejax.testing._deficit import Deficit as Deficit
from qejax.testing._deficit import deficit as deficit
from qejax.testing._function_kept import assert_function_kept as assert_function_kept
from qejax.testing._function_kept import function_kept as function_kept
from qejax.testing._group_laws import assert_group_laws as assert_group_laws
from qejax.testing._group_laws import group_laws as group_laws
from qejax.testing._maps import assert_equivariant as assert_equivariant
from qejax.testing._maps import assert_invariant as assert_invariant
from qejax.testing._maps import equivariant as equivariant
from qejax.testing._maps import invariant as invariant
from qejax.testing._quasi import assert_quasi_equivariant as assert_quasi_equivariant
from qejax.testing._quasi import quasi_equivariant as quasi_equivariant
from qejax.testing._report import Control as Control
from qejax.testing._report import Report as Report
from qejax.testing._same_group import GroupComparison as GroupComparison
from qejax.testing._same_group import same_group as same_group
from qejax.testing._sensitive import assert_sensitive as assert_sensitive
from qejax.testing._sensitive import sensitive as sensitive
from qejax.testing._tolerance import ROUNDINGS as ROUNDINGS
from qejax.testing._tolerance import tolerance_of as tolerance_of

__all__ = [
    "ROUNDINGS",
    "Control",
    "Deficit",
    "GroupComparison",
    "Report",
    "assert_equivariant",
    "assert_function_kept",
    "assert_group_laws",
    "assert_invariant",
    "assert_quasi_equivariant",
    "assert_sensitive",
    "deficit",
    "equivariant",
    "function_kept",
    "group_laws",
    "invariant",
    "quasi_equivariant",
    "same_group",
    "sensitive",
    "tolerance_of",
]
