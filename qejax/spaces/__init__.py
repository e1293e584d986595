"""What moves what: weight spaces, their symmetry group, the action, normal forms."""

from qejax.spaces._act import act as act
from qejax.spaces._act import act_features as act_features
from qejax.spaces._act import act_shift as act_shift
from qejax.spaces._act import act_units as act_units
from qejax.spaces._act import dense_matrix as dense_matrix
from qejax.spaces._act import offset as offset
from qejax.spaces._act import ravel as ravel
from qejax.spaces._act import unravel as unravel
from qejax.spaces._balanced import balanced as balanced
from qejax.spaces._build import Part as Part
from qejax.spaces._build import Wire as Wire
from qejax.spaces._build import bias as bias
from qejax.spaces._build import conv as conv
from qejax.spaces._build import dense as dense
from qejax.spaces._build import stored_as as stored_as
from qejax.spaces._build_attention import attention as attention
from qejax.spaces._build_attention import gated as gated
from qejax.spaces._build_attention import low_rank as low_rank
from qejax.spaces._build_attention import norm as norm
from qejax.spaces._build_attention import shift_through as shift_through
from qejax.spaces._canonical import Canonical as Canonical
from qejax.spaces._canonical import canonical_element as canonical_element
from qejax.spaces._canonical import canonical_form as canonical_form
from qejax.spaces._canonical import log_norm_paths as log_norm_paths
from qejax.spaces._canonical import reduced as reduced
from qejax.spaces._canonical import restore as restore
from qejax.spaces._canonical import settled as settled
from qejax.spaces._chain import Chain as Chain
from qejax.spaces._chain import ChainForm as ChainForm
from qejax.spaces._chain import chain_form as chain_form
from qejax.spaces._chain_statistics import ChainStatistics as ChainStatistics
from qejax.spaces._chain_statistics import chain_statistics as chain_statistics
from qejax.spaces._cuts import part_of as part_of
from qejax.spaces._elements import Elements as Elements
from qejax.spaces._elements import check_elements as check_elements
from qejax.spaces._elements import check_spaces as check_spaces
from qejax.spaces._elements import identity as identity
from qejax.spaces._elements import inv as inv
from qejax.spaces._elements import mul as mul
from qejax.spaces._elements import sample as sample
from qejax.spaces._leaf import Axis as Axis
from qejax.spaces._leaf import Cut as Cut
from qejax.spaces._leaf import Leaf as Leaf
from qejax.spaces._map_networks import in_batches as in_batches
from qejax.spaces._map_networks import map_networks as map_networks
from qejax.spaces._move import act_leaf as act_leaf
from qejax.spaces._one_space import move_space as move_space
from qejax.spaces._one_space import mul_space as mul_space
from qejax.spaces._one_space import touching as touching
from qejax.spaces._phases import phase_free as phase_free
from qejax.spaces._phases import phase_free_spec as phase_free_spec
from qejax.spaces._phases import with_phases as with_phases
from qejax.spaces._rows import Rows as Rows
from qejax.spaces._rows import multiplies as multiplies
from qejax.spaces._rows import read as read
from qejax.spaces._rows import rows_of as rows_of
from qejax.spaces._rows import written as written
from qejax.spaces._settle import has_matrices as has_matrices
from qejax.spaces._settle import settled_spec as settled_spec
from qejax.spaces._spec import Route as Route
from qejax.spaces._spec import Shift as Shift
from qejax.spaces._spec import UnitSpace as UnitSpace
from qejax.spaces._spec import WeightSpec as WeightSpec
from qejax.spaces._spec_dict import spec_from_dict as spec_from_dict
from qejax.spaces._spec_dict import spec_to_dict as spec_to_dict
from qejax.spaces._statistics import canonical_statistics as canonical_statistics
from qejax.spaces._statistics import log_norms as log_norms
from qejax.spaces._statistics import raw_statistics as raw_statistics
from qejax.spaces._statistics import statistic_names as statistic_names
from qejax.spaces._views import check_theta as check_theta
from qejax.spaces._views import from_views as from_views
from qejax.spaces._views import views as views

__all__ = [
    "Axis",
    "Canonical",
    "Chain",
    "ChainForm",
    "ChainStatistics",
    "Cut",
    "Elements",
    "Leaf",
    "Part",
    "Route",
    "Rows",
    "Shift",
    "UnitSpace",
    "WeightSpec",
    "Wire",
    "act",
    "act_features",
    "act_leaf",
    "act_shift",
    "act_units",
    "attention",
    "balanced",
    "bias",
    "canonical_element",
    "canonical_form",
    "canonical_statistics",
    "chain_form",
    "chain_statistics",
    "check_elements",
    "check_spaces",
    "check_theta",
    "conv",
    "dense",
    "dense_matrix",
    "from_views",
    "gated",
    "has_matrices",
    "identity",
    "in_batches",
    "inv",
    "log_norm_paths",
    "log_norms",
    "low_rank",
    "map_networks",
    "move_space",
    "mul",
    "mul_space",
    "multiplies",
    "norm",
    "offset",
    "part_of",
    "phase_free",
    "phase_free_spec",
    "ravel",
    "raw_statistics",
    "read",
    "reduced",
    "restore",
    "rows_of",
    "sample",
    "settled",
    "settled_spec",
    "shift_through",
    "spec_from_dict",
    "spec_to_dict",
    "statistic_names",
    "stored_as",
    "touching",
    "unravel",
    "views",
    "with_phases",
    "written",
]
