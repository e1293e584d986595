"""Strict monomial layers for ReLU networks, written from the formulas in PyTorch.

The recipe of Monomial-NFN on the Small CNN zoo: 16, 16 and 5 channels with ReLU after
each, pooling over vectors scaled to unit length, an MLP 200-200 and a sigmoid. Not the
authors' code: the formulas, with axes folded so that every layer is one dense product
per tensor. All of it is invariant to permutations and positive scales of hidden units.

With `n` channels, kernels folded into them (`f = kh kw` values each), one layer is:

- first: each hidden unit's inputs and bias, `[n f n_0 + n]`, mixed freely;
- middle: `[n f]` at each pair of units, `[n]` at each bias, mixed freely;
- last: each hidden unit's outputs, `[n f n_L]`, mixed freely; the final bias `[n n_L]`
  mixed freely, plus a constant, which is the only one allowed.

Two things the formulas leave open, chosen here: the Xavier fans are those of the folded
matrix, and the final bias, which needs no scaling to unit length, keeps the per-channel
gain and shift of the other tensors (the published parameter count has room for them).

Source:
    Tran et al. 2024, arXiv:2409.11697 (monomial groups, HNPS layers, recipe).
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.peers.zoo import Zoo

CHANNELS = (16, 16, 5)
HEAD_WIDTH = 200
PARAMETERS = 254_619  # published: layers 163,698, pooling and head 90,921
LAYER_PARAMETERS = 163_698


class Shapes:
    """What the layers need to know about the input network.

    Attributes:
        facs: kernel values per pair of units, one number a layer.
        n_in: input units; never moved.
        n_out: output units; never moved.
    """

    def __init__(self, zoo: Zoo) -> None:
        self.facs = [w[0, 0, 0].size for w in zoo.weights]
        self.n_in = zoo.weights[0].shape[2]
        self.n_out = zoo.weights[-1].shape[1]

    @property
    def num_pooled(self) -> int:
        """Values per channel after pooling: fixed axes kept, unit axes averaged."""
        return (
            self.facs[0] * self.n_in
            + sum(self.facs[1:-1])
            + self.facs[-1] * self.n_out
            + len(self.facs)
            - 1
            + self.n_out
        )


def _mixer(c_in: int, c_out: int, bias: bool = False) -> nn.Linear:
    linear = nn.Linear(c_in, c_out, bias=bias)
    nn.init.xavier_normal_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


class MonomialLinear(nn.Module):
    """The equivariant linear map from `c_in` to `c_out` channels.

    Tensors have channels last and fixed axes folded into them. First:
    `W [B, n_1, c f n_in]`; middle: `W [B, n_l, n_{l-1}, c f]`; last:
    `W [B, n_{L-1}, c f n_out]`. Biases `[B, n_l, c]`, the last `[B, c n_out]`.
    """

    def __init__(self, shapes: Shapes, c_in: int, c_out: int) -> None:
        super().__init__()
        first = shapes.facs[0] * shapes.n_in
        last = shapes.facs[-1] * shapes.n_out
        self.split = [c_out * first, c_out]
        self.first = _mixer(c_in * (first + 1), c_out * (first + 1))
        self.middle = nn.ModuleList(
            _mixer(c_in * fac, c_out * fac) for fac in shapes.facs[1:-1]
        )
        self.middle_bias = nn.ModuleList(_mixer(c_in, c_out) for _ in shapes.facs[1:-1])
        self.last = _mixer(c_in * last, c_out * last)
        self.last_bias = _mixer(c_in * shapes.n_out, c_out * shapes.n_out, bias=True)

    def forward(
        self, weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Features of the next layer, in the same layout."""
        unit = self.first(torch.cat([weights[0], biases[0]], dim=-1))
        first, first_bias = unit.split(self.split, dim=-1)
        middle = [mix(w) for mix, w in zip(self.middle, weights[1:-1], strict=True)]
        middle_bias = [
            mix(b) for mix, b in zip(self.middle_bias, biases[1:-1], strict=True)
        ]
        return (
            [first, *middle, self.last(weights[-1])],
            [first_bias, *middle_bias, self.last_bias(biases[-1])],
        )


class UnitLength(nn.Module):
    """`gain * x / |x|_2 + shift` over the channels of one weight entry.

    The scales of a weight entry multiply all its `c f` values alike, so the direction
    of that vector is invariant. No epsilon: it would break this at large scales. An
    all-zero vector stays zero.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(size))
        self.shift = nn.Parameter(torch.randn(size))

    def forward(self, x: Tensor, unit: bool = True) -> Tensor:
        """`x: [..., size]`; with `unit=False` only gain and shift."""
        if unit:
            length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            x = x / torch.where(length > 0, length, 1.0)
        return self.gain * x + self.shift


class MonomialPool(nn.Module):
    """Invariant vector of a network: directions averaged over hidden units."""

    def __init__(self, shapes: Shapes, channels: int) -> None:
        super().__init__()
        self.n_in, self.n_out = shapes.n_in, shapes.n_out
        self.weights = nn.ModuleList(UnitLength(channels * f) for f in shapes.facs)
        self.biases = nn.ModuleList(UnitLength(channels) for _ in shapes.facs)

    def forward(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
        """Features in the layout of `MonomialLinear` to `[B, c num_pooled]`."""
        fixed = {0: self.n_in, len(weights) - 1: self.n_out}
        pooled = []
        for l, (w, scale) in enumerate(zip(weights, self.weights, strict=True)):
            if l in fixed:
                w = w.unflatten(-1, (fixed[l], -1))  # one vector per weight entry
                pooled.append(scale(w).mean(dim=1).flatten(1))
            else:
                pooled.append(scale(w).mean(dim=(1, 2)))
        for b, scale in zip(biases[:-1], self.biases[:-1], strict=True):
            pooled.append(scale(b).mean(dim=1))
        final = biases[-1].unflatten(-1, (self.n_out, -1))
        pooled.append(self.biases[-1](final, unit=False).flatten(1))
        return torch.cat(pooled, dim=-1)


class MonomialPredictor(nn.Module):
    """Predicts accuracies of ReLU networks from strict monomial layers."""

    def __init__(self, train: Zoo) -> None:
        super().__init__()
        self.shapes = Shapes(train)
        widths = (1, *CHANNELS)
        self.layers = nn.ModuleList(
            MonomialLinear(self.shapes, c_in, c_out)
            for c_in, c_out in itertools.pairwise(widths)
        )
        self.pool = MonomialPool(self.shapes, CHANNELS[-1])
        self.head = nn.Sequential(
            nn.Linear(CHANNELS[-1] * self.shapes.num_pooled, HEAD_WIDTH),
            nn.ReLU(),
            nn.Linear(HEAD_WIDTH, HEAD_WIDTH),
            nn.ReLU(),
            nn.Linear(HEAD_WIDTH, 1),
            nn.Sigmoid(),
        )

    def _fold(
        self, weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """From PyTorch's order to the layout of `MonomialLinear`, one channel."""
        middle = [w.flatten(3) if w.ndim > 3 else w[..., None] for w in weights[1:-1]]
        folded = [
            weights[0].flatten(2),
            *middle,
            weights[-1].transpose(1, 2).flatten(2),
        ]
        return folded, [*(b[..., None] for b in biases[:-1]), biases[-1]]

    def forward(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
        """Predicted accuracies `[B]`."""
        weights, biases = self._fold(weights, biases)
        for layer in self.layers:
            weights, biases = layer(weights, biases)
            weights = [w.relu() for w in weights]
            biases = [b.relu() for b in biases]
        return self.head(self.pool(weights, biases)).squeeze(-1)
