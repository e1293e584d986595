"""Configurations by kind, and the trip to a dict and back: a new kind is a new row."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from qejax.nets._adapter_config import AdaptedConfig, AdapterConfig
from qejax.nets._config import CNNConfig, MLPConfig, NetConfig, tuples
from qejax.nets._coordinate_config import CoordinateConfig
from qejax.nets._lora_config import LoraConfig
from qejax.nets._skip_config import SkipCNNConfig
from qejax.nets._transformer_config import TransformerConfig

CONFIGS: dict[str, type[NetConfig]] = {
    row.kind: row
    for row in (
        MLPConfig,
        CNNConfig,
        SkipCNNConfig,
        CoordinateConfig,
        TransformerConfig,
        AdaptedConfig,
        AdapterConfig,
        LoraConfig,
    )
}
"""Configurations by kind."""


def config_from_dict(values: dict[str, Any]) -> NetConfig:
    """Returns the configuration that `to_dict` wrote, also after a trip to JSON.

    Args:
        values: the kind under "kind", and its fields; lists stand for tuples, a dict
            for a configuration.

    Raises:
        ValueError: if the kind is unknown or missing, or a field is.

    Example:
        >>> config = MLPConfig((64, 32, 10))
        >>> config_from_dict(config.to_dict()) == config
        True
    """
    kind = values.get("kind")
    if kind not in CONFIGS:
        raise ValueError(
            f"network config: field 'kind' should be one of {list(CONFIGS)}, got "
            f"{kind!r}."
        )
    rest = {
        name: config_from_dict(dict(value))
        if isinstance(value, Mapping)
        else tuples(value)
        for name, value in values.items()
        if name != "kind"
    }
    known = [field.name for field in fields(CONFIGS[kind])]
    unknown = [name for name in rest if name not in known]
    if unknown:
        raise ValueError(
            f"network config of kind {kind!r}: unknown fields {unknown}, expected "
            f"some of {known}."
        )
    try:
        return CONFIGS[kind](**rest)
    except TypeError as error:
        raise ValueError(
            f"network config of kind {kind!r}: {error}; got {list(rest)}, the fields "
            f"are {known}."
        ) from error
