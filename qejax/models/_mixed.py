"""One predictor for networks of many architectures: widths, depths, activations, skips.

Networks come as padded chains (`qejax.nets.padded`), their architecture as data; no
parameter has a size of theirs. As in `Predictor`, reading has two halves: `measure` is
exact and has no trained part, `read` is trained.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from qejax import layers
from qejax._finite import root
from qejax._typing import Array, Float, PRNGKeyArray, Scalar
from qejax.models import _calibration
from qejax.nets import NUM_FACTS, PadSize, mlp, padded_vector
from qejax.spaces import Chain, chain_form, chain_statistics


@dataclass(frozen=True)
class MixedConfig:
    """Choices of `MixedPredictor`; hashable.

    Attributes:
        depth: rounds of messages.
        hidden_units: width of the map that updates units.
        embed: features per stream of a head, and per layer of the network.
        hidden: width of a head's hidden layer.
        heads: number of heads.
        dropout: rates of the heads, see `qejax.layers.InvariantHead`.
        statistics: whether the head reads statistics of the weights as well.
        precision: of what is trained, see `qejax.layers.PRECISIONS`.
    """

    depth: int = 2
    hidden_units: int = 64
    embed: int = 64
    hidden: int = 64
    heads: int = 4
    dropout: tuple[float, float] = (0.3, 0.3)
    statistics: bool = True
    precision: layers.PrecisionName = "float32"

    @property
    def param_dtype(self) -> DTypeLike:
        """Of the parameters."""
        return layers.precision_of(self.precision).params


class Measured(NamedTuple):
    """What is exact about one network.

    Attributes:
        chain: in normal form.
        layers: `[L, S]`, statistics of each layer.
        statistics: `[F]`, of the network.
    """

    chain: Chain
    layers: Array
    statistics: Array


class MixedPredictor(nnx.Module):
    """Predicts a property of networks of many architectures from their weights.

    `predictor(padded(net, act(net.spec, g, theta), size))` is the same for every `g` of
    the group of the network and for every size that holds it. Scales are taken out by a
    normal form, units permute, and features of units with signs are odd or even, so
    that no sign is chosen. Compiled once for each size.

    One network, no batch axis: batch chains of one size with `jax.vmap`, inside of
    `jax.jit`. Of a zoo on disk, `read` takes what is stored there: for a batch of
    `zoo.stream_mixed`, `jax.vmap(predictor.read)(Measured(*batch.normal))`.

    Args:
        size: holds every network to be read; of it, windows, inputs, head and outputs
            count, while depths and widths are free. Of a ladder of several sizes,
            `functools.reduce(nets.PadSize.joined, ladder)`.
        channels: odd and even features of a unit, `C` each.
        config: everything else.
        rngs: `params` is used.

    Example:
        >>> from qejax import nets
        >>> small, large = nets.mlp((4, 3, 2)), nets.mlp((4, 5, 6, 2), "tanh")
        >>> size = nets.size_of(large)
        >>> predictor = MixedPredictor(size, 4, rngs=nnx.Rngs(0))
        >>> thetas = [net.init(jax.random.key(0)) for net in (small, large)]
        >>> chains = [nets.padded(small, thetas[0], size)]
        >>> chains += [nets.padded(large, thetas[1], size)]
        >>> stacked = jax.tree.map(lambda *x: jnp.stack(x), *chains)
        >>> jax.eval_shape(jax.vmap(predictor), stacked).shape
        (2,)
    """

    def __init__(
        self,
        size: PadSize,
        channels: int = 16,
        *,
        config: MixedConfig | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.config = config = MixedConfig() if config is None else config
        self.size, self.channels, dtype = size, channels, config.param_dtype
        self.mix = layers.ChainPassing(
            channels,
            (size.window, size.inputs, size.head, size.outputs),
            NUM_FACTS,
            hidden=config.hidden_units,
            depth=config.depth,
            param_dtype=dtype,
            rngs=rngs,
        )
        shapes = jax.eval_shape(lambda c: chain_statistics(chain_form(c)), _smallest())
        per_layer, found = shapes.layers.shape[1], shapes.network.shape[0]
        scores = _calibration.identity_scores(found)
        self.knots = layers.Frozen(scores.knots)
        self.levels = layers.Frozen(scores.levels)
        width = 2 * channels + per_layer + NUM_FACTS
        self.of_layer = layers.linear(width, config.embed, param_dtype=dtype, rngs=rngs)
        self.head = layers.InvariantHead(
            (found if config.statistics else 0, 3 * config.embed),
            embed=config.embed,
            hidden=config.hidden,
            heads=config.heads,
            dropout=config.dropout,
            param_dtype=dtype,
            rngs=rngs,
        )

    def measure(self, chain: Chain) -> Measured:
        """Returns everything exact about one network; nothing trained or fitted."""
        form = chain_form(layers.widened(chain, self.config.precision))
        found = chain_statistics(form)
        return Measured(form.chain, found.layers, found.network)

    def calibrate(self, statistics: Float[np.ndarray, "B F"]) -> None:
        """Stores how the statistics of the training split are spread.

        Call it once, before training; without it their sizes stay as they are.

        Args:
            statistics: `Measured.statistics` of its networks, of any sizes; of a zoo on
                disk `zoo.read_mixed(root).select("train").normal.statistics`.
        """
        scores = _calibration.fit_scores(statistics)
        for frozen, new in ((self.knots, scores.knots), (self.levels, scores.levels)):
            frozen.set_value(jnp.asarray(new, frozen[...].dtype))

    def scores(
        self, measured: Measured, key: PRNGKeyArray | None = None
    ) -> Float[Array, " K"]:
        """Returns one score per head.

        Args:
            measured: of one network.
            key: for dropout, consumed; `None` reads without dropout.
        """
        return layers.in_precision(self._scores, self.config.precision)(measured, key)

    def _scores(
        self, measured: Measured, key: PRNGKeyArray | None
    ) -> Float[Array, " K"]:
        fitted = _calibration.NormalScores(self.knots[...], self.levels[...])
        statistics = _calibration.apply_scores(fitted, measured.statistics)
        if not self.config.statistics:
            statistics = statistics[:0]
        return self.head((statistics, self._pooled(measured)), key)

    def read(self, measured: Measured, key: PRNGKeyArray | None = None) -> Scalar:
        """Returns the score, the mean of `scores`; no unit, higher is better."""
        return jnp.mean(self.scores(measured, key))

    def __call__(self, chain: Chain, key: PRNGKeyArray | None = None) -> Scalar:
        """Returns the score of one network."""
        return self.read(self.measure(chain), key)

    def _pooled(self, measured: Measured) -> Array:
        """Features of the units by layer, then of the layers."""
        chain = measured.chain
        even = self.mix(chain).even
        number = jnp.sum(chain.live.astype(even.dtype), 1)
        share = 1 / jnp.maximum(number, 1)[:, None]
        mean, square = jnp.sum(even, 1) * share, jnp.sum(even**2, 1) * share
        pooled = layers.layer_norm(jnp.concatenate([mean, root(square)], -1))
        rows = [pooled, jnp.clip(measured.layers / 4, -4, 4), chain.facts]
        found = jax.nn.silu(self.of_layer(jnp.concatenate(rows, -1)))
        found = jnp.where(jnp.any(chain.live, 1)[:, None], found, 0)
        over = jnp.sum(found, 0) / chain.depth.astype(found.dtype)
        return jnp.concatenate([over, found[0], chain.ends @ found])


def _smallest() -> Chain:
    """A chain, for the number of its statistics."""
    net = mlp((1, 1, 1))
    return padded_vector(net, np.zeros(net.spec.num_parameters, np.float32))
