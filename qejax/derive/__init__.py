"""The weight space of any JAX function, with its group, from what it computes.

`derive_spec(apply, theta, *inputs)`, or `derive_spec(model, *inputs)` of a Flax module,
traces a function and reads it operation by operation: a rule for each primitive says
what may still act on the units of every axis (`_rules`), sets of units that meet become
one (`_ledger`), factors that meet are equations (`_forms`). What is left is written
down as a `qejax.spaces.WeightSpec` (`_emit`) and checked on numbers (`_check`).
"""

from qejax.derive._derive import derive_spec as derive_spec
from qejax.derive._derived import Derived as Derived
from qejax.derive._explain import Row as Row

__all__ = ["Derived", "Row", "derive_spec"]
