"""The architectures that pairs are trained of, by name: a new one is a new row."""

from experiments.architectures import MLPS_AND_CNNS, TRANSFORMERS, Row
from qejax import nets

_DIGITS: dict[str, Row] = {
    "digits mlp, relu": Row(nets.mlp((64, 32, 32, 10)), (64,)),
    "digits mlp, tanh": Row(nets.mlp((64, 32, 32, 10), "tanh"), (64,)),
    "digits cnn": Row(
        nets.cnn(1, (8, 16), padding="SAME", head="flatten", image=(8, 8)),
        (8, 8, 1),
    ),
    "digits transformer": Row(
        nets.transformer(16, 1, 2, 32, image=(8, 8, 1), patch=2, affine=False),
        (8, 8, 1),
    ),
}

REGISTRY = MLPS_AND_CNNS | TRANSFORMERS
"""Of the preset "registry": every kind of network and every group."""

NETWORKS = REGISTRY | _DIGITS
"""All."""
