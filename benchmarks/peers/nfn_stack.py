"""What the peers made with the `nfn` package share: its container, layers and head."""

from collections.abc import Sequence
from typing import Literal

import torch
from nfn.common import NetworkSpec, WeightSpaceFeatures, network_spec_from_wsfeat
from nfn.layers import HNPLinear, HNPPool, NPLinear
from torch import Tensor, nn

from benchmarks.peers.zoo import Zoo

HEAD_WIDTH = 1000

Layer = Literal["NP", "HNP"]


def features(
    weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> WeightSpaceFeatures:
    """The package's container, with its channel axis after the batch axis."""
    return WeightSpaceFeatures(
        tuple(w.unsqueeze(1) for w in weights), tuple(b.unsqueeze(1) for b in biases)
    )


def spec_of(zoo: Zoo) -> NetworkSpec:
    """The package's description of the input networks."""
    return network_spec_from_wsfeat(
        features(
            [torch.from_numpy(w[:1]) for w in zoo.weights],
            [torch.from_numpy(b[:1]) for b in zoo.biases],
        )
    )


def linear(
    layer: Layer, spec: NetworkSpec, c_in: int, c_out: int, io_embed: bool = True
) -> nn.Module:
    """One equivariant layer; `io_embed` lets NP tell inputs and outputs apart."""
    if layer == "HNP":
        return HNPLinear(spec, c_in, c_out)
    return NPLinear(spec, c_in, c_out, io_embed=io_embed)


def head(
    spec: NetworkSpec, channels: int, num_out: int, dropout: float = 0.0
) -> list[nn.Module]:
    """Hidden-unit pooling and an MLP 1000-1000."""
    modules: list[nn.Module] = [HNPPool(spec), nn.Flatten(1)]
    width = channels * HNPPool.get_num_outs(spec)
    for _ in range(2):
        modules += [nn.Linear(width, HEAD_WIDTH), nn.ReLU()]
        if dropout:
            modules.append(nn.Dropout(dropout))
        width = HEAD_WIDTH
    return [*modules, nn.Linear(width, num_out)]
