"""The maps that choose weights: how they are told, trained and applied."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from experiments import seeds
from experiments.devices import mesh_of
from experiments.predict_accuracy.chunks import in_chunks
from experiments.quantise_gauge.config import Config
from experiments.quantise_gauge.networks import Subject, divergence
from qejax import gauges, spaces
from qejax._devices import fetch
from qejax._typing import Array, PRNGKeyArray, Scalar, Theta
from qejax.gauges import Per
from qejax.models import Gauge, GaugeConfig

PERS: tuple[Per, ...] = ("tensor", "channel")

LEAST = 1e-4
"""Added to a divergence before its logarithm, in nats."""

START = {
    "mlp": ("cleared", "balanced", "equalised"),
    "cnn": ("cleared", "balanced", "equalised"),
    "transformer": ("cleared", "balanced", "principal", "hadamard"),
}
"""Rules that maps start from, by kind of network."""


@dataclass(frozen=True)
class Map:
    """A map as pure functions.

    Attributes:
        init: `key -> params`.
        start: from weights of one network to where it moves on from.
        build: `params -> Gauge`.
        down: whether it goes down a slope.
        real: whether that is on real inputs.
    """

    init: Callable[[PRNGKeyArray], Any]
    start: Callable[[Theta], Any]
    build: Callable[[Any], Gauge]
    down: bool
    real: bool


def make_map(row: str, subject: Subject, config: Config) -> Map:
    """Returns the functions of a row, untrained."""
    down = row not in ("weights", "strict")
    choices = GaugeConfig(
        start=START[config.kind],
        rounds=config.descent if down else config.rounds,
        hidden=config.hidden,
    )

    def build(rngs: nnx.Rngs) -> Gauge:
        kind: Any = "strict" if row == "strict" else "gauge"
        return Gauge(subject.network.spec, kind, config=choices, rngs=rngs)

    module = seeds.with_constants(build)
    graph, _, fitted = nnx.split(module, nnx.Param, ...)
    return Map(
        init=seeds.start_of(build),
        start=module.start,
        build=lambda params: nnx.merge(graph, params, fitted),
        down=down,
        real=row.endswith("32"),
    )


def rounding_loss(
    subject: Subject, theta: Theta, inputs: Array, bits: Any, per: Per
) -> Callable[[Theta], Scalar]:
    """Returns what other weights of the same function lose when they are rounded.

    The divergence of what they answer then from what the network answers.
    """
    network = subject.network
    before = network.apply(theta, inputs)

    def loss(moved: Theta) -> Scalar:
        rounded = gauges.rounded(network.spec, moved, bits, per)
        return divergence(before, network.apply(rounded, inputs))

    return loss


def moved(
    map_: Map, subject: Subject, params: Any, one: Any, loss: Callable[[Theta], Scalar]
) -> Theta:
    """Returns the weights that a map chooses for one network."""
    path = map_.build(params).path(one["start"], loss if map_.down else None)
    return spaces.act(subject.network.spec, path.element, one["theta"])


def prepared(map_: Map, thetas: Theta, config: Config) -> Any:
    """Returns networks with where the map starts, leaves `[B, ...]`."""
    start = jax.jit(jax.vmap(map_.start))
    return {"start": in_chunks(start, thetas, mesh=mesh_of(config)), "theta": thetas}


def _objective(
    map_: Map, subject: Subject, config: Config
) -> Callable[[Any, Any, PRNGKeyArray], Array]:
    """Of one seed: the mean logarithm of what rounding costs, of all points reached."""
    pool = subject.inputs.train if map_.real or not map_.down else subject.inputs.random
    bits = jnp.asarray(config.trained_bits, jnp.float32)

    def of_one(params: Any, one: Any, key: PRNGKeyArray, b: Array, per: Per) -> Array:
        chosen = jax.random.randint(key, (config.inputs,), 0, len(pool))
        loss = rounding_loss(subject, one["theta"], pool[chosen], b, per)
        if map_.down:
            costs = map_.build(params).path(one["start"], loss).losses
        else:
            costs = loss(moved(map_, subject, params, one, loss))[None]
        return jnp.mean(jnp.log(costs + LEAST))

    def objective(params: Any, part: Any, key: PRNGKeyArray) -> Array:
        key, which, how = jax.random.split(key, 3)
        b = bits[jax.random.randint(which, (), 0, len(config.trained_bits))]
        keys = jax.random.split(key, len(jax.tree.leaves(part)[0]))

        def per_of(per: Per) -> Callable[..., Array]:
            each = functools.partial(of_one, b=b, per=per)
            return lambda *args: jnp.mean(jax.vmap(each, (None, 0, 0))(*args))

        options = [per_of(per) for per in PERS]
        number = jax.random.randint(how, (), 0, len(PERS))
        return lax.switch(number, options, params, part, keys)

    return objective


def train_row(
    row: str,
    subject: Subject,
    config: Config,
    out: Path,
    tell: Callable[[float, float], None],
) -> tuple[Map, Any, dict[str, Any]]:
    """Trains the seeds of a row, or reads what an earlier run trained.

    Returns:
        The map, parameters `[S, ...]`, and what `metrics.json` says of the training.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    map_ = make_map(row, subject, config)
    factor = 1 if map_.down else 3
    schedule = seeds.Schedule(
        config.seeds,
        config.seed,
        config.steps * factor,
        config.batch,
        config.evaluate_every * factor,
        config.learning_rate,
        weight_decay=0.0,
        select="log_divergence",
        mode="min",
        mesh=mesh_of(config),
    )
    validation = prepared(map_, subject.splits["val"], config)
    chosen = Chosen(map_, subject, config)

    def evaluate(params: Any) -> dict[str, float]:
        """On the images that networks were trained on."""
        costs = [
            chosen.cost(params, validation, bits, per)
            for bits in config.trained_bits
            for per in PERS
        ]
        return {"log_divergence": float(np.mean(np.log(np.stack(costs) + LEAST)))}

    result = seeds.fit_seeds(
        map_.init,
        prepared(map_, subject.splits["train"], config),
        _objective(map_, subject, config),
        schedule,
        evaluate,
        out,
        {"row": row},
        tell,
    )
    params = fetch(result.params)
    about = seeds.about(result) | {"params": seeds.num_params(params)}
    return map_, params, about


class Chosen:
    """What a map chooses for many networks, compiled once for all bits.

    Args:
        map_: the map.
        subject: what networks read.
        config: of the run.
    """

    def __init__(self, map_: Map, subject: Subject, config: Config) -> None:
        self.map, self.subject, self.config = map_, subject, config
        pools = subject.inputs
        pool = pools.train if map_.real else pools.random
        keys = jax.random.split(jax.random.key(config.seed), config.seeds)
        self.inputs = jnp.stack(
            [jax.random.choice(k, pool, (config.inputs,), replace=False) for k in keys]
        )
        self._moved = jax.jit(self._moved_of, static_argnums=4)
        self._costs = jax.jit(self._costs_of, static_argnums=2)

    def _moved_of(
        self, params: Any, some: Any, inputs: Array, bits: Array, per: Per
    ) -> Theta:
        def one(row: Any) -> Theta:
            def seed(both: tuple[Any, Array]) -> Theta:
                loss = rounding_loss(self.subject, row["theta"], both[1], bits, per)
                return moved(self.map, self.subject, both[0], row, loss)

            return lax.map(seed, (params, inputs))

        return jax.vmap(one)(some)

    def _costs_of(self, both: Any, bits: Array, per: Per) -> Array:
        theta, others = both
        inputs = self.subject.inputs.train[:256]

        def one(theta: Theta, others: Theta) -> Array:
            loss = rounding_loss(self.subject, theta, inputs, bits, per)
            return lax.map(loss, others)

        return jax.vmap(one)(theta, others)

    def thetas(self, params: Any, some: Any, bits: int, per: Per) -> Theta:
        """Returns the chosen weights, leaves `[B, S, ...]`.

        Args:
            params: `[S, ...]`.
            some: of `prepared`.
            bits: that are rounded to.
            per: what has one step.
        """
        b = jnp.asarray(bits, jnp.float32)
        return in_chunks(
            lambda part: self._moved(params, part, self.inputs, b, per),
            some,
            mesh=mesh_of(self.config),
        )

    def cost(self, params: Any, some: Any, bits: int, per: Per) -> np.ndarray:
        """Returns divergences `[B, S]` on images that networks were trained on."""
        others = self.thetas(params, some, bits, per)
        b = jnp.asarray(bits, jnp.float32)
        return in_chunks(
            lambda part: self._costs(part, b, per),
            (some["theta"], others),
            mesh=mesh_of(self.config),
        )
