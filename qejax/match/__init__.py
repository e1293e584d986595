"""Networks brought together: the element that aligns two, and what lies between."""

from qejax.match._align import Units as Units
from qejax.match._align import align as align
from qejax.match._barrier import Barrier as Barrier
from qejax.match._barrier import barrier as barrier
from qejax.match._barrier import between as between
from qejax.match._permutations import permutations as permutations

__all__ = ["Barrier", "Units", "align", "barrier", "between", "permutations"]
