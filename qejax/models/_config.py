"""The choices of a predictor."""

from dataclasses import dataclass
from typing import Literal

from jax.typing import DTypeLike

from qejax import layers
from qejax.models._exact import SKETCHES, STATISTICS
from qejax.models._trunks import TRUNKS
from qejax.nets import (
    CNNConfig,
    CoordinateConfig,
    Network,
    SkipCNNConfig,
    TransformerConfig,
)
from qejax.spaces import WeightSpec, has_matrices


@dataclass(frozen=True)
class PredictorConfig:
    """Choices of `Predictor`; hashable.

    Attributes:
        depth: layers, or rounds of messages, of the trunk.
        mixer: of the kinds on the normal form: "transport" (fast) or "messages".
        rank: edge features of "transport".
        carried: channels sent along an edge of "transport".
        eps: of group-valued maps, in (0, 1).
        statistics: names of `models.STATISTICS` that the head reads; `None` for the
            default: none for kinds on raw weights, else those of the normal form, of
            singular values if matrices act, of the paths if the network is known and a
            chain of layers, and of the probes if there are any.
        sketches: names of `models.SKETCHES`, likewise: of what the composed layers or
            blocks do, of outputs that are alike, and of the probes if there are any.
        components: directions per sketch; `None` for 8, or 16 with probes.
        probes: number of fixed random inputs that statistics and sketches are taken on.
        stream: number of learned inputs whose activations are features of the units.
        shape: of one input; `None` for `input_shape(network)`.
        knots: none, or two or more that rise; the head reads, beside each normal score
            of a statistic, how far it is through every interval between two of them.
            Thresholds, which trees have and a small network finds slowly.
        embed: features per stream and head.
        hidden: width of the head.
        heads: number of heads, `K`.
        dropout: rates of the head, of its streams and of its hidden features.
        precision: of what is trained, see `qejax.layers.PRECISIONS`.
    """

    depth: int = 2
    mixer: Literal["transport", "messages"] = "transport"
    rank: int = 4
    carried: int = 8
    eps: float = 0.5
    statistics: tuple[str, ...] | None = None
    sketches: tuple[str, ...] | None = None
    components: int | None = None
    probes: int = 0
    stream: int = 0
    shape: tuple[int, ...] | None = None
    knots: tuple[float, ...] = ()
    embed: int = 64
    hidden: int = 64
    heads: int = 4
    dropout: tuple[float, float] = (0.3, 0.3)
    precision: layers.PrecisionName = "float32"

    @property
    def param_dtype(self) -> DTypeLike:
        """Of the parameters."""
        return layers.precision_of(self.precision).params

    def filled(
        self, quasi: str, network: Network | None, spec: WeightSpec
    ) -> "FilledConfig":
        """Returns the configuration with its defaults filled in.

        Args:
            quasi: kind of the trunk.
            network: the architecture, if known.
            spec: of the weights.

        Raises:
            ValueError: if probes are asked for and the network is not known.
        """
        if (self.probes or self.stream) and network is None:
            raise ValueError(
                f"Predictor: probes={self.probes} and stream={self.stream} run the "
                f"network, got network=None. Pass network=..., or set both to 0."
            )
        if list(self.knots) != sorted(set(self.knots)) or len(self.knots) == 1:
            raise ValueError(
                f"Predictor(knots=...): expected none, or two or more rising numbers, "
                f"got {self.knots}."
            )
        if not 0 <= self.dropout[0] < 1 or not 0 <= self.dropout[1] < 1:
            raise ValueError(
                f"Predictor(dropout=...): rates should lie in [0, 1), got "
                f"{self.dropout}."
            )
        statistics, sketches = self.statistics, self.sketches
        normal = TRUNKS[quasi].normal
        if statistics is None:
            statistics = ("canonical", "log_norms") if normal else ()
            if normal and has_matrices(spec):
                statistics = (*statistics, "spectra")
            if normal and network is not None and not STATISTICS["paths"].fits(network):
                statistics = (*statistics, "paths")
            if self.probes:
                statistics = (*statistics, "outputs", "sensitivity")
        if sketches is None:
            sketches = ()
            if normal and network is not None:
                names = ("filters", "classes")
                sketches = tuple(n for n in names if not SKETCHES[n].fits(network))
            if self.probes:
                sketches = (*sketches, "probabilities", "logits")
        shape = self.shape
        if shape is None:
            shape = () if network is None else input_shape(network)
        return FilledConfig(
            **{
                **{f: getattr(self, f) for f in self.__dataclass_fields__},
                "statistics": statistics,
                "sketches": sketches,
                "shape": shape,
                "components": self.components or (16 if self.probes else 8),
            }
        )


@dataclass(frozen=True)
class FilledConfig(PredictorConfig):
    """A configuration without gaps."""

    statistics: tuple[str, ...] = ()
    sketches: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    components: int = 8


def input_shape(network: Network, image: tuple[int, int] = (32, 32)) -> tuple[int, ...]:
    """Returns the shape of one input of a network.

    Args:
        network: the architecture.
        image: height and width where any would do (a convolutional network that
            averages over positions).

    Example:
        >>> from qejax import nets
        >>> input_shape(nets.mlp((64, 8, 10)))
        (64,)
    """
    config = network.config
    if isinstance(config, CNNConfig):
        return (*(config.image or image), config.in_channels)
    if isinstance(config, SkipCNNConfig):
        return (*image, config.channels[0])
    if isinstance(config, TransformerConfig):
        return (int(config.length or 0),) if config.image is None else config.image
    if isinstance(config, CoordinateConfig):
        return config.widths[:1]
    return (network.spec.leaves[0].axes[0].size,)
