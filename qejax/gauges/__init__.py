"""Points on an orbit: chosen by hand-made rules, and what rounding makes of them."""

from qejax.gauges._assigned import assigned as assigned
from qejax.gauges._chosen import chosen as chosen
from qejax.gauges._chosen import followed as followed
from qejax.gauges._chosen import of_space as of_space
from qejax.gauges._chosen import reached as reached
from qejax.gauges._factors import SIZES as SIZES
from qejax.gauges._rotations import ROTATED as ROTATED
from qejax.gauges._rotations import hadamard as hadamard
from qejax.gauges._rounding import Per as Per
from qejax.gauges._rounding import Quantised as Quantised
from qejax.gauges._rounding import Ranges as Ranges
from qejax.gauges._rounding import dequantised as dequantised
from qejax.gauges._rounding import quantise as quantise
from qejax.gauges._rounding import rounded as rounded
from qejax.gauges._rounding import rounded_leaves as rounded_leaves
from qejax.gauges._rules import RULES as RULES

__all__ = [
    "ROTATED",
    "RULES",
    "SIZES",
    "Per",
    "Quantised",
    "Ranges",
    "assigned",
    "chosen",
    "dequantised",
    "followed",
    "hadamard",
    "of_space",
    "quantise",
    "reached",
    "rounded",
    "rounded_leaves",
]
