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
from experiments.teleport.config import DESCENT_STEPS, LEARNED, Config
from experiments.teleport.networks import Split
from experiments.teleport.timing import seconds_of
from experiments.teleport.training import Digits
from qejax import gauges, spaces
from qejax._devices import fetch
from qejax._typing import Array, PRNGKeyArray, Scalar, Theta
from qejax.models import Gauge, GaugeConfig

RULES = ("cleared", "balanced")
"""Of the row "balanced", and where maps start from."""

STEEPEST = 10.0
"""Norm of the gradient of one network by its weights, at most; maps are trained so."""

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
    row: str, optimiser: str, rate: float, digits: Digits, config: Config
) -> Map:
    """Returns the functions of a row, untrained.

    Args:
        row: of `ROWS`.
        optimiser: that goes on from what it chooses.
        rate: at which it does while the map is trained, and in the loss of a descent.
        digits: what networks are trained on.
        config: of the run.
    """
    if row in ("none", "balanced", "random"):
        return _rule(row, digits, config)
    down = row in ("ascent", "descent", "learned_descent")
    rounds = config.descent if down else config.rounds
    choices = GaugeConfig(
        start=RULES,
        rounds=config.ascent if row == "ascent" else rounds,
        hidden=config.hidden,
        rate=config.climb,
    )

    def build(rngs: nnx.Rngs) -> Gauge:
        kind: Any = "strict" if row == "strict20" else "gauge"
        return Gauge(digits.network.spec, kind, config=choices, rngs=rngs)

    module = seeds.with_constants(build)
    graph, _, fitted = nnx.split(module, nnx.Param, ...)
    count = LEARNED.get(row, DESCENT_STEPS)

    def told(task: Array, key: PRNGKeyArray) -> Callable[[Theta], Scalar]:
        order = digits.order(key, count)
        if row == "ascent":
            return steepness(digits, task, order)
        return loss_after(digits, task, order, optimiser, rate)

    def path(params: Any, start: Any, task: Array, key: PRNGKeyArray) -> Any:
        gauge = nnx.merge(graph, params, fitted)
        return gauge.path(start, told(task, key) if down else None)

    def moved(params: Any, start: Any, theta: Theta, task: Array, key: Any) -> Theta:
        element = path(params, start, task, key).element
        return spaces.act(digits.network.spec, element, theta)

    def cost(params: Any, start: Any, theta: Theta, task: Array, key: Any) -> Scalar:
        if down:  # Of all points reached: each round is told of its own.
            return jnp.mean(path(params, start, task, key).losses)
        return told(task, key)(moved(params, start, theta, task, key))

    return Map(seeds.start_of(build), module.start, moved, cost)


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
