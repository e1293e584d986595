"""The zoo: one frozen transformer in one bucket, its adapters in another.

All adapters of a chunk are trained by one program, each on its own task, with its own
learning rate and number of steps; they share the order of minibatches.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.predict_accuracy.record import fingerprint
from experiments.predict_accuracy.train import cheap_key
from experiments.read_adapters.config import Config
from experiments.read_adapters.tasks import TASKS, Sets, Task, sets_of
from qejax import nets, zoo
from qejax._processes import on_first
from qejax._typing import Array, PRNGKeyArray, Theta

BASE, ADAPTERS = "base", "adapters"
"""Buckets."""

CHUNK, MINIBATCH = 64, 32
"""Adapters that are trained together, and images of a step."""

BASE_KEY, ADAPTER_KEY = 41, 42
"""Folded into the seed."""

MADE_WITH = (
    "seed tasks adapters dim depth base_steps targets rank zoo_steps zoo_rates"
).split()
"""Fields of the config that decide the bytes of the zoo."""


def load(
    config: Config, tell: Callable[[float, float], None]
) -> tuple[zoo.Zoo, zoo.Zoo]:
    """Returns the zoo of the base, one network, and that of its adapters.

    Both are trained and stored if they are not there yet. The network of the adapters
    can run: it has the weights that they adapt.

    Args:
        config: of the run.
        tell: takes the share that is done, and the share that was found done.

    Raises:
        ValueError: if a file of the zoo is damaged; names it.
    """
    root = place(config)
    if on_first((root / "manifest.json").is_file):
        tell(1.0, 1.0)
    else:
        _make(config, root, lambda share: tell(0.9 * share, 0.0))
    found = zoo.read_all(root)
    base, adapters = found[BASE], found[ADAPTERS]
    net = adapters.network
    assert isinstance(net, nets.Adapter)
    weights = jax.tree.map(lambda leaf: leaf[0], base.thetas)
    return base, replace(adapters, network=net.with_base(weights))


def place(config: Config) -> Path:
    """Returns the folder of the zoo of a config."""
    made_with = {name: getattr(config, name) for name in MADE_WITH}
    return config.zoos / f"adapters-{fingerprint(made_with)}"


def _make(config: Config, root: Path, tell: Callable[[float], None]) -> None:
    """Trains and stores both buckets."""
    key = jax.random.key(config.seed)
    plain, sets = sets_of(Task()), sets_of(*(TASKS[name] for name in config.tasks))
    net = nets.transformer(
        config.dim, config.depth, 2, 2 * config.dim, image=(8, 8, 1), patch=4
    )
    base_key = cheap_key(jax.random.fold_in(key, BASE_KEY))
    weights = _train_base(net, base_key, plain, config)
    adapter = nets.adapter(net, weights, config.rank, config.targets)
    hyper = _draw(config)
    trained = _train(adapter, jax.random.fold_in(key, ADAPTER_KEY), sets, hyper, tell)
    thetas, right = trained
    finite = np.all(
        [np.isfinite(x).reshape(len(x), -1).all(1) for x in jax.tree.leaves(thetas)],
        axis=0,
    )
    rows = np.flatnonzero(finite)
    base_right = float(_accuracy(net, weights, plain.test_x[0], plain.test_y[0]))
    zoos = {
        BASE: zoo.Zoo(
            network=net,
            thetas=jax.tree.map(lambda leaf: np.asarray(leaf)[None], weights),
            labels={"test_accuracy": np.array([base_right], np.float32)},
            hyper={"step": np.array([config.base_steps])},
            split=np.zeros(1, np.int8),
            source="trained:digits",
            ids=np.array(["base"]),
        ),
        ADAPTERS: zoo.Zoo(
            network=adapter,
            thetas=jax.tree.map(lambda leaf: leaf[rows], thetas),
            labels={
                "task": hyper["task"][rows].astype(np.float32),
                "test_accuracy": right[rows],
            },
            hyper={
                "task": np.array(config.tasks)[hyper["task"][rows]],
                "learning_rate": hyper["rate"][rows],
                "step": hyper["step"][rows],
            },
            split=zoo.split_networks(len(rows), config.seed),
            source="trained:digits:adapters",
            ids=np.array([f"adapter_{row:05d}" for row in rows]),
        ),
    }
    notes = {ADAPTERS: {"tasks": config.tasks, "diverged": len(finite) - len(rows)}}
    made_with: dict[str, Any] = {name: getattr(config, name) for name in MADE_WITH}

    def store() -> None:
        root.parent.mkdir(parents=True, exist_ok=True)
        zoo.store(root, zoos, config=made_with, notes=notes)

    on_first(store)


def _draw(config: Config) -> dict[str, np.ndarray]:
    """What each adapter is trained with, `[B]` a column: tasks in turn, rest random."""
    rng = np.random.default_rng([config.seed, ADAPTER_KEY])
    count = config.adapters

    def log_uniform(low: float, high: float) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), count))

    low, high = config.zoo_steps
    return {
        "task": np.arange(count) % len(config.tasks),
        "rate": log_uniform(*config.zoo_rates),
        "step": np.floor(log_uniform(low, high + 1)).astype(np.int64),
    }


def _loss(net: nets.Network, theta: Theta, x: Array, y: Array) -> Array:
    logits = net.apply(theta, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def _accuracy(net: nets.Network, theta: Theta, x: Any, y: Any) -> Array:
    return jnp.mean(jnp.argmax(net.apply(theta, jnp.asarray(x)), -1) == jnp.asarray(y))


def _train_base(
    net: nets.Network, key: PRNGKeyArray, plain: Sets, config: Config
) -> Theta:
    """Adam with a cosine schedule, one program."""
    steps = config.base_steps
    adam = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    rng = np.random.default_rng([config.seed, BASE_KEY])
    order = rng.integers(0, plain.train_y.shape[1], (steps, 64))

    @jax.jit
    def program(key: PRNGKeyArray, x: Array, y: Array, order: Array) -> Theta:
        theta = net.init(key)

        def step(state: Any, at: Array) -> tuple[Any, None]:
            theta, moments = state
            slope = jax.grad(_loss, 1)(net, theta, x[at], y[at])
            change, moments = adam.update(slope, moments, theta)
            return (optax.apply_updates(theta, change), moments), None

        (theta, _), _ = lax.scan(step, (theta, adam.init(theta)), order)
        return theta

    return program(key, plain.train_x[0], plain.train_y[0], order)


def _train(
    net: nets.Adapter,
    key: PRNGKeyArray,
    sets: Sets,
    hyper: dict[str, np.ndarray],
    tell: Callable[[float], None],
) -> tuple[Theta, np.ndarray]:
    """All adapters and their test accuracies; those that stop together go together."""
    count, longest = len(hyper["step"]), int(hyper["step"].max())
    rng = np.random.default_rng(ADAPTER_KEY)
    order = rng.integers(0, sets.train_y.shape[1], (longest, MINIBATCH))
    program = _program(net)
    by_step = np.argsort(hyper["step"], kind="stable")
    # The last chunk is filled up, so that all have one shape.
    chunks = np.resize(by_step, (-(-count // CHUNK), CHUNK))
    work = np.cumsum([hyper["step"][rows].max() for rows in chunks])
    parts = []
    for rows, done in zip(chunks, work, strict=True):
        mine = {name: x[rows] for name, x in hyper.items()}
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.asarray(rows))
        parts.append(jax.device_get(program(keys, mine, sets, order)))
        tell(float(done / work[-1]))
    back = np.empty(count, np.int64)
    back[by_step] = np.arange(count)
    return jax.tree.map(lambda *xs: np.concatenate(xs)[:count][back], *parts)


def _program(net: nets.Adapter) -> Callable[..., tuple[Theta, Array]]:
    """Returns the compiled program that trains and scores a chunk."""
    adam = optax.scale_by_adam()

    @jax.jit
    def program(
        keys: PRNGKeyArray, hyper: dict[str, Array], sets: Sets, order: Array
    ) -> tuple[Theta, Array]:
        last = hyper["step"].max()

        def one(key: PRNGKeyArray, mine: dict[str, Array]) -> tuple[Theta, Array]:
            task = mine["task"]

            def step(t: Array, state: tuple[Theta, Any]) -> tuple[Theta, Any]:
                theta, moments = state
                at = order[t]
                x, y = sets.train_x[task, at], sets.train_y[task, at]
                slope = jax.grad(_loss, 1)(net, theta, x, y)
                change, moments = adam.update(slope, moments, theta)
                rate = jnp.where(t < mine["step"], mine["rate"], 0).astype(x.dtype)
                return jax.tree.map(lambda p, u: p - rate * u, theta, change), moments

            theta = net.init(key)
            theta, _ = lax.fori_loop(0, last, step, (theta, adam.init(theta)))
            x, y = sets.test_x[task], sets.test_y[task]
            return theta, _accuracy(net, theta, x, y).astype(jnp.float32)

        return jax.vmap(one)(keys, hyper)

    return program
