"""The `nfn` package with its published recipe for the Small CNN zoo.

Layers and pooling are the package's own; this file only stacks them as the paper's
experiment does: 16, 16 and 5 channels with ReLU after each, hidden-unit pooling, an MLP
1000-1000 and a sigmoid. NP-PosEmb (inputs and outputs permuted too, with learned
embeddings) standardises the weights by the training networks, HNP reads them as they
are.

The published statistics are one mean and deviation per weight entry, not per tensor, so
NP-PosEmb as published is invariant to permutations only with `standardise = False`.

Source:
    Zhou et al. 2023, arXiv:2302.14040 (NFN); package `nfn` 0.1.2.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from nfn.layers import TupleOp
from torch import Tensor, nn

from benchmarks.peers import nfn_stack
from benchmarks.peers.zoo import Zoo

CHANNELS = (16, 16, 5)
# Trainable parameters of the released models on this architecture.
PARAMETERS = {"NP": 2_031_390, "HNP": 2_811_743}


class NfnPredictor(nn.Module):
    """Predicts accuracies with the layers of `nfn`.

    Args:
        train: training networks; gives the shapes, and the statistics when
            `layer="NP"`.
        layer: "NP" (NP-PosEmb) or "HNP".

    Attributes:
        standardise: whether weights lose the training mean and deviation first.
    """

    def __init__(self, train: Zoo, layer: nfn_stack.Layer) -> None:
        super().__init__()
        spec = nfn_stack.spec_of(train)
        self.standardise = layer == "NP"
        if self.standardise:
            self._keep_statistics(train)
        widths = (1, *CHANNELS)
        stack: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise(widths):
            stack += [nfn_stack.linear(layer, spec, c_in, c_out), TupleOp(nn.ReLU())]
        self.features = nn.Sequential(*stack)
        self.head = nn.Sequential(
            *nfn_stack.head(spec, CHANNELS[-1], num_out=1), nn.Sigmoid()
        )

    def _keep_statistics(self, train: Zoo) -> None:
        for name, arrays in (("weight", train.weights), ("bias", train.biases)):
            for l, x in enumerate(arrays):
                mean, std = x.mean(axis=0), x.std(axis=0)
                # The published guard for entries that never vary.
                std = np.where(std < 1e-5, 1.0, std).astype(x.dtype)
                self.register_buffer(f"{name}_mean_{l}", torch.from_numpy(mean))
                self.register_buffer(f"{name}_std_{l}", torch.from_numpy(std))

    def _standard(self, name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [
            (x - self.get_buffer(f"{name}_mean_{l}"))
            / self.get_buffer(f"{name}_std_{l}")
            for l, x in enumerate(tensors)
        ]

    def forward(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
        """Predicted accuracies `[B]`."""
        if self.standardise:
            weights = self._standard("weight", weights)
            biases = self._standard("bias", biases)
        feats = self.features(nfn_stack.features(weights, biases))
        return self.head(feats).squeeze(-1)
