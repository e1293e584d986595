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

from experiments import seeds
from experiments.devices import mesh_of
from experiments.predict_accuracy.chunks import SIZE, in_chunks
from experiments.teleport.config import DESCENT_STEPS, DOWN, LEARNED, Config
from experiments.teleport.networks import Split
from experiments.teleport.smoothed import Noise, smoothed
from experiments.teleport.timing import seconds_of
from experiments.teleport.training import Digits
from qejax import gauges, spaces
from qejax._devices import fetch
from qejax._typing import Array, PRNGKeyArray, Scalar, Theta
from qejax.models import Gauge, GaugeConfig
from qejax.spaces import Elements

RULES = ("cleared", "balanced")
"""Of the row "balanced", and where maps start from."""

STEEPEST = 10.0
"""Norm of the gradient of one network by its weights, at most, in a descent."""

FASTER = 30.0
"""What the numbers of "constant60" are multiplied by.

Features of a gauge are about as large, so that both move alike at one learning rate.
"""

LEAST = 1e-30
"""Added to the square of a gradient's norm before its logarithm."""


@dataclass(frozen=True)
class Map:
    """A row as pure functions.

    Attributes:
        init: `key -> params`.
        start: from weights of one network to what depends on nothing that is trained.
        moved: `(params, start, theta, task, key) -> theta`, other weights of the same
            function.
        cost: the same arguments to what the map is trained to make small; a scalar.
    """

    init: Callable[[PRNGKeyArray], Any]
    start: Callable[[Theta], Any]
    moved: Callable[..., Theta]
    cost: Callable[..., Scalar]


@jax.custom_vjp
def guarded(theta: Theta) -> Theta:
    """Returns weights as they are; their gradient is finite and not too long.

    Training from a point that a map tries may end anywhere.
    """
    return theta


def _shortened(_: None, gradient: Theta) -> tuple[Theta]:
    norm = jnp.sqrt(sum(jnp.sum(x * x) for x in jax.tree.leaves(gradient)))
    size = jnp.where(norm > STEEPEST, STEEPEST / norm, 1)
    sound = jnp.isfinite(norm)
    return (jax.tree.map(lambda x: jnp.where(sound, x * size, 0), gradient),)


guarded.defvjp(lambda theta: (theta, None), _shortened)


def loss_after(
    digits: Digits, task: Array, order: Array, optimiser: str, rate: float
) -> Callable[[Theta], Scalar]:
    """Returns the logarithm of the loss behind the steps of an order, of weights."""

    def loss(theta: Theta) -> Scalar:
        end = digits.trained(guarded(theta), task, order, optimiser, rate)
        return jnp.log(digits.measured(end, task))

    return loss


def steepness(digits: Digits, task: Array, order: Array) -> Callable[[Theta], Scalar]:
    """Returns minus the logarithm of the square of the gradient's norm, of weights."""

    def loss(theta: Theta) -> Scalar:
        gradient = jax.grad(digits.loss)(guarded(theta), task, order[0])
        square = sum(jnp.sum(x * x) for x in jax.tree.leaves(gradient))
        return -jnp.log(square + LEAST)

    return loss


def make_map(
    row: str,
    optimiser: str,
    rate: float,
    digits: Digits,
    config: Config,
    climb: float | None = None,
) -> Map:
    """Returns the functions of a row, untrained.

    Args:
        row: of `ROWS`.
        optimiser: that goes on from what it chooses.
        rate: at which it does while the map is trained, and in the loss of a descent.
        digits: what networks are trained on.
        config: of the run.
        climb: of `config.climbs`, for rows of `DOWN`; the first without one.
    """
    if row in ("none", "balanced", "random"):
        return _rule(row, digits, config)
    told = _told(row, optimiser, rate, digits)
    if row in DOWN:
        return _down(row, told, digits, config, climb or config.climbs[0])
    if row.startswith("constant"):
        return _trained(_constant(digits), told, digits, config)
    return _trained(_reader(row, digits, config), told, digits, config)


Told = Callable[[Array, PRNGKeyArray], Callable[[Theta], Scalar]]
"""From a task and a key that decides the order of the data to a loss of weights."""

Parts = tuple[
    Callable[[PRNGKeyArray], Any],
    Callable[[Theta], Any],
    Callable[[Any, Any], Elements],
]
"""`key -> params`, `theta -> start` and `(params, start) -> element`."""


def _told(row: str, optimiser: str, rate: float, digits: Digits) -> Told:
    count = LEARNED.get(row, DESCENT_STEPS)

    def told(task: Array, key: PRNGKeyArray) -> Callable[[Theta], Scalar]:
        order = digits.order(key, count)
        if row == "ascent":
            return steepness(digits, task, order)
        return loss_after(digits, task, order, optimiser, rate)

    return told


def _gauge(
    digits: Digits, kind: Any, choices: GaugeConfig
) -> tuple[Callable[[PRNGKeyArray], Any], Gauge, Callable[[Any], Gauge]]:
    """Returns `key -> params`, a module that has no parameters, and one that has."""

    def build(rngs: nnx.Rngs) -> Gauge:
        return Gauge(digits.network.spec, kind, config=choices, rngs=rngs)

    module = seeds.with_constants(build)
    graph, _, fitted = nnx.split(module, nnx.Param, ...)
    return seeds.start_of(build), module, lambda p: nnx.merge(graph, p, fitted)


def _reader(row: str, digits: Digits, config: Config) -> Parts:
    """A gauge that reads nothing but weights."""
    kind = "strict" if row.startswith("strict") else "gauge"
    choices = GaugeConfig(start=RULES, rounds=config.rounds, hidden=config.hidden)
    init, module, with_params = _gauge(digits, kind, choices)
    return init, module.start, lambda p, start: with_params(p).path(start).element


def _constant(digits: Digits) -> Parts:
    """Balanced weights, and then one size for all units of each unit space."""
    spec = digits.network.spec

    def init(key: PRNGKeyArray) -> Any:
        del key
        return {space.name: jnp.zeros(1) for space in spec.spaces}

    def element(params: Any, start: Elements) -> Elements:
        sizes = {
            space.name: gauges.SIZES[space.group](
                jnp.broadcast_to(jnp.exp(FASTER * params[space.name]), space.size)
            )
            for space in spec.spaces
        }
        return spaces.mul(spec, sizes, start)

    return init, lambda theta: gauges.chosen(spec, theta, RULES), element


def _trained(parts: Parts, told: Told, digits: Digits, config: Config) -> Map:
    """A row that is trained on the smoothed loss behind its steps."""
    spec, noise = digits.network.spec, Noise(*config.noise, config.pairs)
    init, begin, chosen = parts

    def moved(params: Any, start: Any, theta: Theta, task: Array, key: Any) -> Theta:
        del task, key
        return spaces.act(spec, chosen(params, start), theta)

    def cost(params: Any, start: Any, theta: Theta, task: Array, key: Any) -> Scalar:
        order, own = jax.random.split(key)
        element, loss = chosen(params, start), told(task, order)
        return smoothed(spec, element, theta, loss, noise, own)

    return Map(init, begin, moved, cost)


def _down(row: str, told: Told, digits: Digits, config: Config, climb: float) -> Map:
    """A row that goes along the slope of a loss of its own."""
    rounds = config.ascent if row == "ascent" else config.descent
    choices = GaugeConfig(start=RULES, rounds=rounds, hidden=config.hidden, rate=climb)
    init, module, with_params = _gauge(digits, "gauge", choices)

    def path(params: Any, start: Any, task: Array, key: PRNGKeyArray) -> Any:
        return with_params(params).path(start, told(task, key))

    def moved(params: Any, start: Any, theta: Theta, task: Array, key: Any) -> Theta:
        element = path(params, start, task, key).element
        return spaces.act(digits.network.spec, element, theta)

    def cost(params: Any, start: Any, theta: Theta, task: Array, key: Any) -> Scalar:
        del theta  # Of all points reached: each round is told of its own.
        return jnp.mean(path(params, start, task, key).losses)

    return Map(init, module.start, moved, cost)


def _rule(row: str, digits: Digits, config: Config) -> Map:
    """A row in which nothing is learned or told."""
    spec = digits.network.spec

    def moved(params: Any, start: Any, theta: Theta, task: Array, key: Any) -> Theta:
        del params, start, task
        if row == "none":
            return theta
        if row == "balanced":
            g = gauges.chosen(spec, theta, RULES)
        else:
            g = spaces.sample(key, spec, config.spread)
        return spaces.act(spec, g, theta)

    def cost(*args: Any) -> Scalar:
        raise NotImplementedError(f"{row!r} is not trained.")

    return Map(lambda key: {}, lambda theta: {}, moved, cost)


def train_row(
    map_: Map,
    row: str,
    splits: dict[str, Split],
    config: Config,
    out: Path,
    tell: Callable[[float, float], None],
) -> tuple[Any, dict[str, Any]]:
    """Trains the seeds of a row, or reads what an earlier run trained.

    Returns:
        Parameters `[S, ...]`, and what `metrics.json` says of the training.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    schedule = seeds.Schedule(
        config.seeds,
        config.seed,
        config.map_steps,
        config.map_batch,
        config.evaluate_every,
        config.learning_rate,
        weight_decay=0.0,
        select="log_loss",
        mode="min",
        mesh=mesh_of(config),
    )
    start = jax.jit(jax.vmap(map_.start))

    def prepared(split: Split) -> Any:
        found = in_chunks(start, split.theta, mesh=mesh_of(config))
        return {"start": found, "theta": split.theta, "task": split.task}

    def objective(params: Any, part: Any, key: PRNGKeyArray) -> Array:
        keys = jax.random.split(key, len(part["task"]))
        each = jax.vmap(functools.partial(map_.cost, params))
        return jnp.mean(each(part["start"], part["theta"], part["task"], keys))

    validation = prepared(splits["val"])
    fixed = jax.random.key(config.seed)
    measured = jax.jit(
        lambda params: jax.lax.map(lambda p: objective(p, validation, fixed), params)
    )
    result = seeds.fit_seeds(
        map_.init,
        prepared(splits["train"]),
        objective,
        schedule,
        lambda params: {"log_loss": float(np.mean(measured(params)))},
        out,
        {"row": row},
        tell,
    )
    params = fetch(result.params)
    about = seeds.about(result) | {"params": seeds.num_params(params)}
    return params, about


class Chosen:
    """What a map chooses for many networks, compiled once for all splits.

    Args:
        map_: the map.
        params: `[S, ...]`.
        config: of the run.
    """

    def __init__(self, map_: Map, params: Any, config: Config) -> None:
        self._params, self._mesh = params, mesh_of(config)
        self._keys = jax.random.split(jax.random.key(config.seed), config.seeds)
        self._program = jax.jit(jax.vmap(functools.partial(self._one, map_)))

    def _one(self, map_: Map, network: Split, number: Array) -> Theta:
        def seed(both: tuple[Any, PRNGKeyArray]) -> Theta:
            key = jax.random.fold_in(both[1], number)
            # In the loop, so that its seconds count for every seed.
            start = map_.start(network.theta)
            return map_.moved(both[0], start, *network, key)

        return jax.lax.map(seed, (self._params, self._keys))

    def thetas(self, split: Split) -> Theta:
        """Returns the chosen weights of the networks of a split, `[B, S, ...]`."""
        numbered = (split, np.arange(len(split.task)))
        return in_chunks(lambda some: self._program(*some), numbered, mesh=self._mesh)

    def seconds(self, split: Split) -> float:
        """Returns the seconds that the map takes for one network, among many."""
        rows = np.arange(SIZE) % len(split.task)
        some = jax.tree.map(lambda x: jnp.asarray(x)[rows], split)
        found = seconds_of(self._program, some, jnp.asarray(rows))
        return found / SIZE / len(self._keys)
