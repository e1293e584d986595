"""Layers of metanetworks as Flax NNX modules over pure functions."""

from qejax.layers._features import Features as Features
from qejax.layers._features import check_features as check_features
from qejax.layers._features import features as features
from qejax.layers._monomial_linear import MonomialLinear as MonomialLinear
from qejax.layers._terms import CONSTANT as CONSTANT
from qejax.layers._terms import Mixer as Mixer
from qejax.layers._terms import Pattern as Pattern
from qejax.layers._terms import Term as Term
from qejax.layers._terms import mixers as mixers
from qejax.layers._terms import term_table as term_table

__all__ = [
    "CONSTANT",
    "Features",
    "Mixer",
    "MonomialLinear",
    "Pattern",
    "Term",
    "check_features",
    "features",
    "mixers",
    "term_table",
]
