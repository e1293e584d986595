"""The `nfn` package with its published recipe for classes of coordinate networks.

Layers, encodings, dropout and pooling are the package's own; this file only stacks them
as the paper's experiment on MNIST does: random Fourier features of the weights, three
layers with ReLU and dropout of channels, hidden-unit pooling, an MLP 1000-1000 with
dropout. NP permutes inputs and outputs too, so that it gets encodings of their numbers:
sines before the first layer, as published, where CNNs get embeddings in every layer.

Published are 512 channels and 128 frequencies, on a GPU for 200,000 steps; here both
are options, since neither fits an hour of a CPU. Weights are read as they are.

Source:
    Zhou et al. 2023, arXiv:2302.14040 (NFN); package `nfn` 0.1.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nfn.layers import (
    ChannelDropout,
    GaussianFourierFeatureTransform,
    IOSinusoidalEncoding,
    TupleOp,
)
from torch import Tensor, nn

from benchmarks.peers import nfn_stack
from benchmarks.peers.zoo import Zoo

DEPTH = 3
MAX_FREQUENCY, NUM_BANDS = 3, 3  # of the sines that number inputs and outputs


@dataclass(frozen=True, kw_only=True)
class Options:
    """What of the model is chosen by validation.

    Attributes:
        channels: of every layer.
        waves: frequencies at which weights are read; 0 reads the weights themselves.
        scale: standard deviation of the frequencies.
        dropout: of channels, and in the head.
    """

    channels: int = 24
    waves: int = 16
    scale: float = 3.0
    dropout: float = 0.1


class NfnClassifier(nn.Module):
    """Classifies coordinate networks with the layers of `nfn`.

    Args:
        train: training networks; gives the shapes.
        layer: "NP" or "HNP".
        num_classes: number of scores.
        options: of the model.
    """

    def __init__(
        self, train: Zoo, layer: nfn_stack.Layer, num_classes: int, options: Options
    ) -> None:
        super().__init__()
        spec = nfn_stack.spec_of(train)
        width = 1
        stack: list[nn.Module] = []
        if options.waves:
            stack.append(
                GaussianFourierFeatureTransform(
                    spec, width, options.waves, options.scale
                )
            )
            width = stack[-1].out_channels
        if layer == "NP":
            stack.append(IOSinusoidalEncoding(spec, MAX_FREQUENCY, NUM_BANDS))
            width = stack[-1].num_out_chan(width)
        for _ in range(DEPTH):
            stack += [
                nfn_stack.linear(layer, spec, width, options.channels, io_embed=False),
                TupleOp(nn.ReLU()),
            ]
            if options.dropout:
                stack.append(ChannelDropout(options.dropout))
            width = options.channels
        self.features = nn.Sequential(*stack)
        self.head = nn.Sequential(
            *nfn_stack.head(spec, width, num_classes, options.dropout)
        )

    def forward(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
        """Scores of the classes `[B, num_classes]`."""
        return self.head(self.features(nfn_stack.features(weights, biases)))
