"""A metanetwork that tells classes of networks apart, such as what a signal shows."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from qejax import layers
from qejax._exact import exact
from qejax._typing import Array, Float, PRNGKeyArray, Theta
from qejax.models._config import input_shape
from qejax.models._exact import Subject
from qejax.models._trunks import TRUNKS, Quasi, TrunkConfig, check_heads
from qejax.nets import Network
from qejax.spaces import WeightSpec, canonical_form, restore, settled_spec


@dataclass(frozen=True)
class ClassifierConfig:
    """Choices of a classifier.

    Attributes:
        depth: layers, or rounds of messages, of the trunk.
        waves: learned frequencies of matrices that write units and read none, such as
            those that read inputs; 0 for none. See `qejax.layers.InputWaves`.
        heads: of attention over units; 0 for plain sums, and for all kinds but
            "signed".
        mixer: of the kinds on the normal form, see `PredictorConfig`.
        probes: learned inputs on which networks are run; 0 reads weights alone.
        hidden: width of the head.
        dropout: rate before and inside the head.
        eps: of group-valued maps.
        precision: of what is trained, see `qejax.layers.PRECISIONS`.
    """

    depth: int = 2
    waves: int = 64
    heads: int = 0
    mixer: Any = "transport"
    probes: int = 0
    hidden: int = 256
    dropout: float = 0.2
    eps: float = 0.5
    precision: layers.PrecisionName = "float32"

    @property
    def param_dtype(self) -> DTypeLike:
        """Of the parameters."""
        return layers.precision_of(self.precision).params


class Classifier(nnx.Module):
    """Reads one network and returns a logit for every class.

    `classifier(act(spec, g, theta)) == classifier(theta)` for every `g` of the group of
    `spec`, for every kind. One network, no batch axis (batch with `jax.vmap`).
    `classifier(theta)` is `scores(prepare(theta))`.

    Args:
        spec: the weight space.
        classes: number of logits.
        channels: of the trunk; 0 for none, probes alone.
        quasi: kind of the trunk, as for `Predictor`; "signed" keeps the signs of units.
        network: the architecture; needed for probes.
        config: everything else.
        rngs: `params` is used.

    Raises:
        ValueError: if the kind is unknown or has no heads, there is nothing to read,
            heads do not divide the channels, or probes are asked for without a network.

    Example:
        >>> from qejax import nets
        >>> net = nets.coordinate((2, 8, 8, 1))
        >>> classifier = Classifier(net.spec, 10, 8, rngs=nnx.Rngs(0))
        >>> classifier(net.init(jax.random.key(0))).shape
        (10,)
    """

    def __init__(
        self,
        spec: WeightSpec,
        classes: int,
        channels: int = 64,
        quasi: Quasi = "signed",
        *,
        network: Network | None = None,
        config: ClassifierConfig | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        config = config or ClassifierConfig()
        if quasi not in TRUNKS:
            raise ValueError(
                f"Classifier(quasi=...): expected one of {list(TRUNKS)}, got {quasi!r}."
            )
        check_heads(config.heads, quasi, "Classifier")
        if config.probes and network is None:
            raise ValueError(
                f"Classifier(config.probes={config.probes}): probes run the network, "
                f"got network=None. Pass network=..., or probes=0."
            )
        if not channels and not config.probes:
            raise ValueError(
                f"Classifier(channels={channels}): expected channels or probes to "
                f"read, got none of both."
            )
        self.spec, self.quasi, self.config = spec, quasi, config
        self.classes, self.channels, self.network = classes, channels, network
        dtype = config.param_dtype
        self.trunk: Any = nnx.data(None)
        if channels:
            fields = TrunkConfig(
                channels=channels,
                depth=config.depth,
                mixer=config.mixer,
                waves=config.waves,
                heads=config.heads,
                eps=config.eps,
                normal=layers.precision_of(config.precision).rounds,
                param_dtype=dtype,
            )
            self.trunk = TRUNKS[quasi].build(settled_spec(spec), fields, rngs)
        self.stream: layers.ProbeStream | None = nnx.data(None)
        width = self.trunk.size if channels else 0
        if config.probes and network is not None:
            self.stream = layers.ProbeStream(
                network,
                input_shape(network),
                config.probes,
                param_dtype=dtype,
                rngs=rngs,
            )
            width += config.probes * spec.leaves[-1].axes[-1].size
        self.first = layers.linear(width, config.hidden, param_dtype=dtype, rngs=rngs)
        self.second = layers.linear(
            config.hidden, config.hidden, param_dtype=dtype, rngs=rngs
        )
        self.last = layers.linear(config.hidden, classes, param_dtype=dtype, rngs=rngs)

    @exact
    def measure(self, theta: Theta) -> dict[str, Any]:
        """Returns everything exact about one network; nothing trained or fitted.

        Raises:
            ValueError: if `theta` does not fit the spec.
        """
        theta = layers.widened(theta, self.config.precision)
        subject = Subject(self.spec, theta)
        found: dict[str, Any] = {}
        if self.trunk is not None:
            found["features"] = self.trunk.features(subject.settled, subject.reduced)
        if self.stream is not None:
            found["theta"] = restore(self.spec, canonical_form(self.spec, theta))
        return found

    def calibrate(self, measured: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
        """Stores scales of the training networks and returns them prepared, stacked."""
        del labels
        if self.trunk is not None:
            self.trunk.fit_scale(measured["features"])
        return jax.vmap(self.standardise)(measured)

    @exact
    def standardise(self, measured: dict[str, Any]) -> dict[str, Any]:
        """Returns what `scores` takes, from what was measured of one network."""
        kept = dict(measured)
        if self.trunk is not None:
            kept["features"] = self.trunk.scaled(measured["features"])
        return kept

    def prepare(self, theta: Theta) -> dict[str, Any]:
        """Returns what `scores` takes of one network: exact, nothing trained."""
        return self.standardise(self.measure(theta))

    def scores(
        self, prepared: dict[str, Any], key: PRNGKeyArray | None = None
    ) -> Float[Array, " classes"]:
        """Returns one logit per class.

        Args:
            prepared: of one network.
            key: for dropout, consumed; `None` reads without dropout.
        """
        return layers.in_precision(self._scores, self.config.precision)(prepared, key)

    def _scores(
        self, prepared: dict[str, Any], key: PRNGKeyArray | None
    ) -> Float[Array, " classes"]:
        streams = []
        if self.trunk is not None:
            streams.append(self.trunk(prepared["features"], {}))
        if self.stream is not None:
            outputs, _ = self.stream(prepared["theta"])
            streams.append(outputs.reshape(-1))
        x = jnp.concatenate(streams)
        rate = self.config.dropout
        for number, layer in enumerate((self.first, self.second)):
            sub = None if key is None else jax.random.fold_in(key, number)
            x = jax.nn.silu(layer(layers.dropout(sub, x, rate)))
        return self.last(x)

    def __call__(
        self, theta: Theta, key: PRNGKeyArray | None = None
    ) -> Float[Array, " classes"]:
        """Returns the logits of one network."""
        return self.scores(self.prepare(theta), key)
