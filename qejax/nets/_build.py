"""From a configuration to its network: a new kind is a new row."""

from collections.abc import Callable
from typing import Any

from qejax.nets._adapter import build_adapted, build_adapter
from qejax.nets._cnn import build_cnn
from qejax.nets._config import NetConfig
from qejax.nets._coordinate import build_coordinate
from qejax.nets._lora import build_lora
from qejax.nets._mlp import build_mlp
from qejax.nets._network import Network
from qejax.nets._registry import config_from_dict
from qejax.nets._skip_cnn import build_skip_cnn
from qejax.nets._transformer import build_transformer

BUILDERS: dict[str, Callable[[Any], Network]] = {
    "mlp": build_mlp,
    "cnn": build_cnn,
    "skip_cnn": build_skip_cnn,
    "coordinate": build_coordinate,
    "transformer": build_transformer,
    "adapted": lambda config: build_adapted(config, build(config.base)),
    "adapter": lambda config: build_adapter(config, build(config.base)),
    "lora": build_lora,
}
"""Builders by the kind of their configuration."""


def build(config: NetConfig | dict[str, Any]) -> Network:
    """Returns the network of a configuration, or of its dict (as read from JSON).

    Raises:
        ValueError: if the dict is none of a network; names the field.

    Example:
        >>> build({"kind": "mlp", "widths": [4, 3, 2]}).spec.num_parameters
        23
    """
    if isinstance(config, dict):
        config = config_from_dict(config)
    return BUILDERS[config.kind](config)
