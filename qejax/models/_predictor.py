"""The predictor: weights of one network in, one score out.

Reading has two halves. `prepare` is exact and has no trained part: normal form,
statistics, probes. Run it once per zoo, in the data pipeline. `read` is trained.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qejax import layers
from qejax._exact import exact
from qejax._typing import Array, Float, PRNGKeyArray, Scalar, Theta
from qejax.models import _calibration, _templates
from qejax.models._config import PredictorConfig
from qejax.models._exact import SKETCHES, STATISTICS, Row, Subject, check_names
from qejax.models._trunks import TRUNKS, Quasi, TrunkConfig
from qejax.nets import Network
from qejax.spaces import (
    WeightSpec,
    canonical_form,
    map_networks,
    restore,
    settled_spec,
)

PROBE_SEED = 5
"""Of the fixed probes: the same for every predictor, so that readings can be shared."""


def probe_inputs(shape: tuple[int, ...], num: int) -> Float[Array, "2 N ..."]:
    """Returns the fixed probes and the same a little changed; smooth noise, no data."""
    key, other = jax.random.split(jax.random.key(PROBE_SEED))
    first = layers.smooth_inputs(key, num, shape)
    change = 0.3 * layers.smooth_inputs(other, num, shape)
    return jnp.stack([first, jnp.clip(first + change, -1, 1)])


class Predictor(nnx.Module):
    """Predicts a property of a network, such as its test accuracy, from its weights.

    `predictor(act(spec, g, theta)) == predictor(theta)` for every `g` of the group of
    `spec`, at any scale, for every kind `quasi`. Works for the spec of every network of
    `qejax.nets`, and any other that has a normal form: shifts, scales of norms and
    rotations of streams are taken out first (`qejax.spaces.settled`).

    One network, no batch axis (batch with `jax.vmap`). `predictor(theta)` is
    `read(prepare(theta))`.

    Args:
        spec: the weight space.
        channels: `C` of the trunk; 0 for no trunk, statistics only.
        quasi: kind of the trunk. On raw weights, with an invariant pool: "strict",
            "gauge" (the paper's group-valued map, which no invariant output can see)
            and "relative" (one that can be seen). On the normal form, with message
            passing: "canonical", and "learned_gauge", which moves it along its orbit;
            "signed" does not choose the signs of units.
        network: the architecture; needed for path statistics and probes.
        config: everything else.
        rngs: `params` is used.

    Raises:
        ValueError: if `quasi` or a reading is unknown or cannot be taken, if there is
            nothing to read, nobody to read the probe stream, or no normal form (units
            whose signs nothing fixes; a stream without norms that is added to and
            that no layer both reads and writes, unless its embedding spans it).

    Example:
        >>> from qejax import nets
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> predictor = Predictor(net.spec, 8, rngs=nnx.Rngs(0))
        >>> predictor(net.init(jax.random.key(0))).shape
        ()
    """

    def __init__(
        self,
        spec: WeightSpec,
        channels: int = 32,
        quasi: Quasi = "canonical",
        *,
        network: Network | None = None,
        config: PredictorConfig | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        if quasi not in TRUNKS:
            raise ValueError(
                f"Predictor(quasi=...) should be one of {list(TRUNKS)}, got {quasi!r}."
            )
        config = (config or PredictorConfig()).filled(quasi, network, spec)
        check_names(config.statistics, config.sketches, network, config.probes)
        self.spec, self.network, self.config = spec, network, config
        self.quasi, self.channels = quasi, channels
        dtype = config.param_dtype
        self.probes: nnx.Variable | None = nnx.data(None)
        if config.probes:
            self.probes = layers.Frozen(probe_inputs(config.shape, config.probes))
        self.stream: layers.ProbeStream | None = nnx.data(None)
        extra: dict[str, int] = {}
        if config.stream and not (channels and TRUNKS[quasi].units):
            raise ValueError(
                f"Predictor(config.stream={config.stream}): only message passing "
                f"reads activations of units, got quasi={quasi!r} with {channels} "
                f"channels. Use 'canonical' or 'learned_gauge' with channels > 0."
            )
        if config.stream and network is not None:
            self.stream = layers.ProbeStream(
                network, config.shape, config.stream, param_dtype=dtype, rngs=rngs
            )
            shapes = jax.eval_shape(self.stream.__call__, spec.template(dtype))
            names = [*shapes[1], f"outputs_{_outputs(spec)}"]
            extra = dict.fromkeys(names, config.stream)
        self.trunk: Any = nnx.data(None)
        if channels:
            trunk = TrunkConfig(
                channels=channels,
                depth=config.depth,
                mixer=config.mixer,
                rank=config.rank,
                carried=config.carried,
                eps=config.eps,
                extra=tuple(sorted(extra.items())),
                normal=layers.precision_of(config.precision).rounds,
                param_dtype=dtype,
            )
            self.trunk = TRUNKS[quasi].build(settled_spec(spec), trunk, rngs)
        self._init_constants()
        self.head = layers.InvariantHead(
            (
                self._width(),
                self.trunk.size if self.trunk is not None else 0,
            ),
            embed=config.embed,
            hidden=config.hidden,
            heads=config.heads,
            dropout=config.dropout,
            param_dtype=dtype,
            rngs=rngs,
        )

    def _init_constants(self) -> None:
        measured = jax.eval_shape(
            lambda theta: self._readings(self._subject(theta), {}), self.spec.template()
        )
        self.templates = nnx.Dict()
        size = measured["statistics"].shape[0]
        for name in self.config.sketches:
            sketch = measured["sketches"][name]
            template = _templates.empty_template(
                sketch.shape[0], self.config.components
            )
            self.templates[name] = _frozen(template._asdict())
            size += 1 + self.config.components
        scores = _calibration.identity_scores(size)
        link = _calibration.logistic_link()
        self.constants = _frozen(
            scores._asdict() | {f"link_{k}": v for k, v in link._asdict().items()}
        )

    @exact
    def measure(
        self, theta: Theta, known: Mapping[str, Array] | None = None
    ) -> dict[str, Any]:
        """Returns everything exact about one network; nothing trained or fitted.

        Args:
            theta: weights of one network.
            known: readings that were taken before, by name in `STATISTICS` and
                `SKETCHES`, such as those that several predictors share; those on
                probes must be on this predictor's. They are not taken again.

        Returns:
            `statistics: [F]`, `sketches: {name: [D]}`, `features` of the trunk and, for
            a probe stream, the weights `theta` in normal form.

        Raises:
            ValueError: if `theta` does not fit the spec.
        """
        theta = layers.widened(theta, self.config.precision)
        subject = self._subject(theta)
        found = self._readings(subject, {} if known is None else known)
        if self.trunk is not None:
            found["features"] = self.trunk.features(subject.settled, subject.reduced)
        if self.stream is not None:
            found["theta"] = restore(self.spec, canonical_form(self.spec, theta))
        return found

    def calibrate(self, measured: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
        """Stores constants of the training split and returns it prepared.

        The training networks are compared with one another and never with themselves,
        so use what is returned, not `prepare`, to train on.

        Args:
            measured: of the training networks, stacked (`measure_all`).
            labels: `[B]`; higher is better.

        Returns:
            What `read` takes, stacked.
        """
        parts = [np.asarray(measured["statistics"], np.float64)]
        # In the order of `standardise`: JAX hands dicts back sorted by key.
        for name in self.config.sketches:
            template, read = _templates.fit_template(
                np.asarray(measured["sketches"][name]), labels, self.config.components
            )
            _store(self.templates[name], template._asdict())
            parts.append(read)
        joined = np.concatenate(parts, 1)
        if joined.shape[1]:
            _store(self.constants, _calibration.fit_scores(joined)._asdict())
        if self.trunk is not None:
            self.trunk.fit_scale(measured["features"])
        dtype = measured["statistics"].dtype

        def finish(own: dict[str, Any], row: Array) -> dict[str, Any]:
            return self._scaled(own) | {"statistics": self._normal_scores(row)}

        return jax.jit(jax.vmap(finish))(measured, jnp.asarray(joined, dtype))

    @exact
    def standardise(self, measured: dict[str, Any]) -> dict[str, Any]:
        """Returns what `read` takes, from what was measured of one network."""
        rows = [measured["statistics"]]
        for name in self.config.sketches:
            parts = {k: v[...] for k, v in self.templates[name].items()}
            template = _templates.Template(**parts)
            rows.append(_templates.compare(template, measured["sketches"][name]))
        joined = self._normal_scores(jnp.concatenate(rows))
        return self._scaled(measured) | {"statistics": joined}

    def prepare(self, theta: Theta) -> dict[str, Any]:
        """Returns what `read` takes of one network: exact, nothing trained."""
        return self.standardise(self.measure(theta))

    def read(self, prepared: dict[str, Any], key: PRNGKeyArray | None = None) -> Scalar:
        """Returns the score, the mean of `scores`; no unit, higher is better."""
        return jnp.mean(self.scores(prepared, key))

    def scores(
        self, prepared: dict[str, Any], key: PRNGKeyArray | None = None
    ) -> Float[Array, " K"]:
        """Returns one score per head.

        Args:
            prepared: of one network.
            key: for dropout, consumed; `None` reads without dropout.
        """
        return layers.in_precision(self._scores, self.config.precision)(prepared, key)

    def _scores(
        self, prepared: dict[str, Any], key: PRNGKeyArray | None
    ) -> Float[Array, " K"]:
        streams = [intervals(prepared["statistics"], self.config.knots)]
        if self.trunk is not None:
            extra = {} if self.stream is None else self._activations(prepared["theta"])
            streams.append(self.trunk(prepared["features"], extra))
        else:
            streams.append(jnp.zeros(0, streams[0].dtype))
        return self.head(tuple(streams), key)

    def __call__(self, theta: Theta, key: PRNGKeyArray | None = None) -> Scalar:
        """Returns the score of one network."""
        return self.read(self.prepare(theta), key)

    def calibrate_link(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Stores the non-decreasing map from scores to labels that `predict` uses.

        Args:
            scores: `[B]`, of networks that were not trained on.
            labels: `[B]`, in [0, 1].
        """
        link = _calibration.fit_link(np.asarray(scores), np.asarray(labels))
        _store(self.constants, _prefixed(link))

    def to_label(self, score: Array) -> Array:
        """Returns labels in [0, 1] for scores; logistic until `calibrate_link`."""
        knots, labels = self.constants["link_scores"], self.constants["link_labels"]
        return jnp.interp(
            score, knots[...].astype(score.dtype), labels[...].astype(score.dtype)
        )

    def predict(self, theta: Theta) -> Scalar:
        """Returns the predicted label of one network, in [0, 1]."""
        return self.to_label(self(theta))

    def _subject(self, theta: Theta) -> Subject:
        return Subject(
            self.spec,
            theta,
            self.network,
            self.config.shape,
            None if self.probes is None else self.probes[...],
        )

    def _readings(self, subject: Subject, known: Mapping[str, Array]) -> dict[str, Any]:
        def take(table: Mapping[str, Row], name: str) -> Array:
            return known[name] if name in known else table[name].read(subject)

        dtype = jnp.result_type(*jax.tree.leaves(subject.theta))
        rows = [take(STATISTICS, name) for name in self.config.statistics]
        return {
            "statistics": jnp.concatenate([jnp.zeros(0, dtype), *rows]),
            "sketches": {n: take(SKETCHES, n) for n in self.config.sketches},
        }

    def _width(self) -> int:
        """Numbers that the head reads of the statistics."""
        scores = self.constants["knots"]
        each = max(len(self.config.knots), 1)
        return scores.shape[1] * each if scores.size else 0

    def _activations(self, theta: Theta) -> dict[str, Array]:
        assert self.stream is not None
        outputs, units = self.stream(theta)
        return units | {f"outputs_{outputs.shape[1]}": outputs.T}

    def _scaled(self, measured: dict[str, Any]) -> dict[str, Any]:
        kept = {k: measured[k] for k in ("features", "theta") if k in measured}
        if self.trunk is not None:
            kept["features"] = self.trunk.scaled(kept["features"])
        return kept

    def _normal_scores(self, row: Array) -> Array:
        scores = _calibration.NormalScores(
            self.constants["knots"][...], self.constants["levels"][...]
        )
        return _calibration.apply_scores(scores, row) if row.shape[0] else row


def measure_all(predictor: Predictor, thetas: Theta, batch_size: int = 32) -> Any:
    """Returns `predictor.measure` of every network, stacked, `[B, ...]`."""
    return _map(predictor, "measure", thetas, batch_size)


def prepare_all(predictor: Predictor, thetas: Theta, batch_size: int = 32) -> Any:
    """Returns `predictor.prepare` of every network, stacked, `[B, ...]`."""
    return _map(predictor, "prepare", thetas, batch_size)


def _map(predictor: Predictor, half: str, thetas: Theta, batch_size: int) -> Any:
    graph, state = nnx.split(predictor)

    def of_one(theta: Theta, state: Any) -> Any:
        return getattr(nnx.merge(graph, state), half)(theta)

    return map_networks(of_one, thetas, state, batch_size=batch_size)


def intervals(x: Float[Array, " F"], knots: tuple[float, ...]) -> Float[Array, " G"]:
    """Returns the entries, then how far each is through every interval between knots.

    From 0 before an interval to its length behind it; `G = F * max(len(knots), 1)`.

    Source: Gorishniy et al. 2022, arXiv:2203.05556 (piecewise linear encoding).

    Example:
        >>> print(intervals(jnp.array([0.5, -3.0]), (-1.0, 0.0, 2.0)))
        [ 0.5 -3.   1.   0.   0.5  0. ]
    """
    if not knots:
        return x
    pairs = itertools.pairwise(knots)
    return jnp.concatenate([x, *(jnp.clip(x - a, 0, b - a) for a, b in pairs)])


def _outputs(spec: WeightSpec) -> int:
    return spec.leaves[-1].axes[-1].size


def _prefixed(link: _calibration.Link) -> dict[str, Array]:
    return {f"link_{name}": array for name, array in link._asdict().items()}


def _frozen(arrays: dict[str, Array]) -> nnx.Dict:
    return nnx.Dict({name: layers.Frozen(array) for name, array in arrays.items()})


def _store(variables: nnx.Dict, arrays: dict[str, Array]) -> None:
    for name, array in arrays.items():
        old = variables[name]
        old.set_value(jnp.asarray(array, old[...].dtype))
