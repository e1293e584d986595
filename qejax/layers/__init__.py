"""Layers of metanetworks as Flax NNX modules over pure functions."""

from qejax.layers._alpha import GaugeAlpha as GaugeAlpha
from qejax.layers._alpha import LearnedGauge as LearnedGauge
from qejax.layers._alpha import RelativeAlpha as RelativeAlpha
from qejax.layers._bonds import Bonds as Bonds
from qejax.layers._chain_passing import ChainPassing as ChainPassing
from qejax.layers._conjugation import Conjugation as Conjugation
from qejax.layers._conjugation import pair_of as pair_of
from qejax.layers._covariant import CovariantStream as CovariantStream
from qejax.layers._covariant import InvariantUnits as InvariantUnits
from qejax.layers._covariant import feature_template as feature_template
from qejax.layers._encodings import index_encoding as index_encoding
from qejax.layers._features import Features as Features
from qejax.layers._features import check_features as check_features
from qejax.layers._features import features as features
from qejax.layers._graph import Graph as Graph
from qejax.layers._graph import GraphFeatures as GraphFeatures
from qejax.layers._graph import Incidence as Incidence
from qejax.layers._graph import Outputs as Outputs
from qejax.layers._graph import arrange as arrange
from qejax.layers._graph import graph_of as graph_of
from qejax.layers._head import InvariantHead as InvariantHead
from qejax.layers._head import dropout as dropout
from qejax.layers._invariants import Invariants as Invariants
from qejax.layers._invariants import global_invariants as global_invariants
from qejax.layers._invariants import invariants as invariants
from qejax.layers._invariants import unit_invariants as unit_invariants
from qejax.layers._invariants import unit_sizes as unit_sizes
from qejax.layers._linear import linear as linear
from qejax.layers._message_passing import Embed as Embed
from qejax.layers._message_passing import MessagePassing as MessagePassing
from qejax.layers._message_passing import MessageStack as MessageStack
from qejax.layers._message_passing import NodeEmbed as NodeEmbed
from qejax.layers._message_passing import key_of as key_of
from qejax.layers._message_passing import layer_norm as layer_norm
from qejax.layers._monomial_linear import MonomialLinear as MonomialLinear
from qejax.layers._pool import InvariantPool as InvariantPool
from qejax.layers._pool import pool_graph as pool_graph
from qejax.layers._precision import PRECISIONS as PRECISIONS
from qejax.layers._precision import Precision as Precision
from qejax.layers._precision import PrecisionName as PrecisionName
from qejax.layers._precision import in_precision as in_precision
from qejax.layers._precision import precision_of as precision_of
from qejax.layers._precision import widened as widened
from qejax.layers._probe import Frozen as Frozen
from qejax.layers._probe import ProbeStream as ProbeStream
from qejax.layers._probe import smooth_inputs as smooth_inputs
from qejax.layers._profile import LEAST as LEAST
from qejax.layers._profile import PER_LEAF as PER_LEAF
from qejax.layers._profile import Profile as Profile
from qejax.layers._profile import profile as profile
from qejax.layers._profile import profile_width as profile_width
from qejax.layers._quasi import QuasiEquivariant as QuasiEquivariant
from qejax.layers._scales import Scales as Scales
from qejax.layers._scales import act_scales as act_scales
from qejax.layers._scales import check_scales as check_scales
from qejax.layers._scales import elements as elements
from qejax.layers._scales import linear_spaces as linear_spaces
from qejax.layers._scales import scaled_spaces as scaled_spaces
from qejax.layers._signed import Signed as Signed
from qejax.layers._signed import SignedTransport as SignedTransport
from qejax.layers._signed import pool_signed as pool_signed
from qejax.layers._signed import ports_of as ports_of
from qejax.layers._terms import CONSTANT as CONSTANT
from qejax.layers._terms import Mixer as Mixer
from qejax.layers._terms import Pattern as Pattern
from qejax.layers._terms import Term as Term
from qejax.layers._terms import mixers as mixers
from qejax.layers._terms import term_table as term_table
from qejax.layers._transport import Transport as Transport
from qejax.layers._waves import InputWaves as InputWaves
from qejax.layers._waves import WaveFeatures as WaveFeatures

__all__ = [
    "CONSTANT",
    "LEAST",
    "PER_LEAF",
    "PRECISIONS",
    "Bonds",
    "ChainPassing",
    "Conjugation",
    "CovariantStream",
    "Embed",
    "Features",
    "Frozen",
    "GaugeAlpha",
    "Graph",
    "GraphFeatures",
    "Incidence",
    "InputWaves",
    "InvariantHead",
    "InvariantPool",
    "InvariantUnits",
    "Invariants",
    "LearnedGauge",
    "MessagePassing",
    "MessageStack",
    "Mixer",
    "MonomialLinear",
    "NodeEmbed",
    "Outputs",
    "Pattern",
    "Precision",
    "PrecisionName",
    "ProbeStream",
    "Profile",
    "QuasiEquivariant",
    "RelativeAlpha",
    "Scales",
    "Signed",
    "SignedTransport",
    "Term",
    "Transport",
    "WaveFeatures",
    "act_scales",
    "arrange",
    "check_features",
    "check_scales",
    "dropout",
    "elements",
    "feature_template",
    "features",
    "global_invariants",
    "graph_of",
    "in_precision",
    "index_encoding",
    "invariants",
    "key_of",
    "layer_norm",
    "linear",
    "linear_spaces",
    "mixers",
    "pair_of",
    "pool_graph",
    "pool_signed",
    "ports_of",
    "precision_of",
    "profile",
    "profile_width",
    "scaled_spaces",
    "smooth_inputs",
    "term_table",
    "unit_invariants",
    "unit_sizes",
    "widened",
]
