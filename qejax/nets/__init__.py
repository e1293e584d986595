"""The input networks: pure init, apply and units, each with the spec of its weights."""

from qejax.nets._activations import ACTIVATIONS as ACTIVATIONS
from qejax.nets._activations import Activation as Activation
from qejax.nets._activations import activation as activation
from qejax.nets._adapter import Adapted as Adapted
from qejax.nets._adapter import Adapter as Adapter
from qejax.nets._adapter import adapted as adapted
from qejax.nets._adapter import adapter as adapter
from qejax.nets._adapter_config import AdaptedConfig as AdaptedConfig
from qejax.nets._adapter_config import AdapterConfig as AdapterConfig
from qejax.nets._attention import sine_positions as sine_positions
from qejax.nets._batch_norm import fold_batch_norm as fold_batch_norm
from qejax.nets._build import build as build
from qejax.nets._cnn import cnn as cnn
from qejax.nets._cnn import cnn_spec as cnn_spec
from qejax.nets._config import CNNConfig as CNNConfig
from qejax.nets._config import MLPConfig as MLPConfig
from qejax.nets._config import NetConfig as NetConfig
from qejax.nets._coordinate import Coordinate as Coordinate
from qejax.nets._coordinate import coordinate as coordinate
from qejax.nets._coordinate import grid as grid
from qejax.nets._coordinate_config import CoordinateConfig as CoordinateConfig
from qejax.nets._flax import flax_spec as flax_spec
from qejax.nets._fold_norms import fold_norms as fold_norms
from qejax.nets._lora import Lora as Lora
from qejax.nets._lora import lora as lora
from qejax.nets._lora_config import LoraConfig as LoraConfig
from qejax.nets._mlp import mlp as mlp
from qejax.nets._mlp import mlp_spec as mlp_spec
from qejax.nets._network import Layer as Layer
from qejax.nets._network import Network as Network
from qejax.nets._pad_size import PadSize as PadSize
from qejax.nets._pad_size import ladder_of as ladder_of
from qejax.nets._pad_size import rung_of as rung_of
from qejax.nets._pad_size import size_of as size_of
from qejax.nets._padded import NUM_FACTS as NUM_FACTS
from qejax.nets._padded import padded as padded
from qejax.nets._padded import padded_vector as padded_vector
from qejax.nets._patches import convolve as convolve
from qejax.nets._patches import patches as patches
from qejax.nets._pool import MaxPool as MaxPool
from qejax.nets._registry import config_from_dict as config_from_dict
from qejax.nets._skip_cnn import SkipCNN as SkipCNN
from qejax.nets._skip_cnn import skip_cnn as skip_cnn
from qejax.nets._skip_config import SkipCNNConfig as SkipCNNConfig
from qejax.nets._transformer import transformer as transformer
from qejax.nets._transformer import transformer_spec as transformer_spec
from qejax.nets._transformer_config import TransformerConfig as TransformerConfig
from qejax.nets._unpadded import unpadded as unpadded
from qejax.nets._warp import warp as warp

__all__ = [
    "ACTIVATIONS",
    "NUM_FACTS",
    "Activation",
    "Adapted",
    "AdaptedConfig",
    "Adapter",
    "AdapterConfig",
    "CNNConfig",
    "Coordinate",
    "CoordinateConfig",
    "Layer",
    "Lora",
    "LoraConfig",
    "MLPConfig",
    "MaxPool",
    "NetConfig",
    "Network",
    "PadSize",
    "SkipCNN",
    "SkipCNNConfig",
    "TransformerConfig",
    "activation",
    "adapted",
    "adapter",
    "build",
    "cnn",
    "cnn_spec",
    "config_from_dict",
    "convolve",
    "coordinate",
    "flax_spec",
    "fold_batch_norm",
    "fold_norms",
    "grid",
    "ladder_of",
    "lora",
    "mlp",
    "mlp_spec",
    "padded",
    "padded_vector",
    "patches",
    "rung_of",
    "sine_positions",
    "size_of",
    "skip_cnn",
    "transformer",
    "transformer_spec",
    "unpadded",
    "warp",
]
