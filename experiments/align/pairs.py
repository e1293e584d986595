"""Pairs of one architecture: trained apart, moved, aligned, and walked between."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.align.config import Config
from experiments.align.networks import Row
from experiments.align.tasks import Task
from qejax import match, spaces
from qejax._typing import Array, PRNGKeyArray, Theta


class Pairs(NamedTuple):
    """Pairs, stacked: the trained ones, then these with the second one moved.

    Attributes:
        first: `[P, ...]` the networks that stay.
        second: `[P, ...]` those that are aligned to them.
        number: `[P]` of the trained pair.
        moved: `[P]` whether the second one was moved along its orbit.
    """

    first: Theta
    second: Theta
    number: np.ndarray
    moved: np.ndarray


def train(config: Config, row: Row, task: Task, key: PRNGKeyArray) -> Theta:
    """Returns networks `[2 seeds, ...]`, each from an initialisation of its own."""
    x, y = task.train
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def one(key: PRNGKeyArray) -> Theta:
        start, order = jax.random.split(key)
        theta = row.net.init(start)

        def step(carry: Any, key: PRNGKeyArray) -> Any:
            theta, state = carry
            chosen = jax.random.randint(key, (config.batch,), 0, len(x))
            slope = jax.grad(
                lambda t: task.loss(row.net.apply(t, x[chosen]), y[chosen])
            )(theta)
            updates, state = optimiser.update(slope, state)
            return (optax.apply_updates(theta, updates), state), None

        keys = jax.random.split(order, config.steps)
        return jax.lax.scan(step, (theta, optimiser.init(theta)), keys)[0][0]

    return jax.jit(jax.vmap(one))(jax.random.split(key, 2 * config.seeds))


def paired(config: Config, row: Row, thetas: Theta, key: PRNGKeyArray) -> Pairs:
    """Returns the pairs of trained networks, and moved ones."""
    spec, seeds = row.net.spec, config.seeds
    number = np.arange(config.pairs) % seeds
    moved = np.arange(config.pairs) >= seeds
    first = jax.tree.map(lambda x: x[:seeds][number], thetas)
    second = jax.tree.map(lambda x: x[seeds:][number], thetas)

    def go(key: PRNGKeyArray, theta: Theta) -> Theta:
        return spaces.act(spec, spaces.sample(key, spec, config.spread), theta)

    other = jax.jit(jax.vmap(go))(jax.random.split(key, config.pairs), second)
    second = jax.tree.map(
        lambda x, y: jnp.where(moved.reshape(-1, *[1] * (x.ndim - 1)), y, x),
        second,
        other,
    )
    return Pairs(first, second, number, moved)


class Timed(NamedTuple):
    """What a program returned, and what it took.

    Attributes:
        result: of the last run.
        compile: seconds to trace and compile.
        run: seconds of a run, median.
    """

    result: Any
    compile: float
    run: float


PLAIN = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
"""Options of XLA on a CPU."""


def timed(function: Callable[..., Any], config: Config, *args: Any) -> Timed:
    """Returns the result and the times, compiling apart from running."""
    start = time.perf_counter()
    options = {} if config.optimise or jax.default_backend() != "cpu" else PLAIN
    program = jax.jit(function, compiler_options=options).lower(*args).compile()
    compile_seconds, times, result = time.perf_counter() - start, [], None
    for _ in range(config.repeats + 1):  # the first one warms up
        start = time.perf_counter()
        result = jax.block_until_ready(program(*args))
        times.append(time.perf_counter() - start)
    return Timed(result, compile_seconds, float(np.median(times[1:])))


def aligned(config: Config, row: Row, task: Task, pairs: Pairs) -> dict[str, Timed]:
    """Returns the second networks `[P, ...]`, by how they were brought to the first.

    "weights" and "activations" have the whole group; the latter is left out of networks
    that do not tell the activations of all unit spaces.
    """
    spec, x = row.net.spec, task.train[0]
    alone = match.permutations(spec)

    def by(own: spaces.WeightSpec) -> Callable[[Theta, Theta], Theta]:
        def one(a: Theta, b: Theta) -> Theta:
            return spaces.act(own, match.align(own, a, b), b)

        return one

    def by_activations(a: Theta, b: Theta) -> Theta:
        units = (row.net.units(a, x)[1], row.net.units(b, x)[1])
        return spaces.act(spec, match.align(spec, a, b, units=units), b)

    ways = {"permutations": by(alone), "weights": by(spec)}
    told = jax.eval_shape(row.net.units, jax.tree.map(lambda x: x[0], pairs.first), x)
    names = {space.name for space in spec.spaces}
    if names and names <= set(told[1]):
        ways["activations"] = by_activations
    return {
        name: timed(jax.vmap(way), config, pairs.first, pairs.second)
        for name, way in ways.items()
    }


Measured = Mapping[str, Any]
"""By name, `[P]` numbers and `[P, K]` curves."""


def measure(config: Config, row: Row, task: Task, pairs: Pairs) -> Callable[..., Any]:
    """Returns what measures second networks `[P, ...]` against the first ones."""

    def one(a: Theta, b: Theta) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for split, (x, y) in (("train", task.train), ("test", task.test)):
            line = match.barrier(
                lambda theta, x=x, y=y: task.loss(row.net.apply(theta, x), y),
                a,
                b,
                config.points,
            )
            found[f"{split}_losses"], found[f"{split}_barrier"] = (
                line.losses,
                line.height,
            )
        x, y = task.test
        half = match.between(a, b, jnp.asarray(0.5))
        for name, theta in (("ends", a), ("other", b), ("average", half)):
            found[f"{name}_error"] = task.error(row.net.apply(theta, x), y)
        off = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), a, b)
        found["distance"] = jnp.sqrt(sum(jax.tree.leaves(off), jnp.zeros(())))
        return found

    program = jax.jit(jax.vmap(one))
    return lambda second: jax.tree.map(np.asarray, program(pairs.first, second))
