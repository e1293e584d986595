"""What varies between the networks of a zoo, drawn and turned into coefficients.

Every optimiser is one row of coefficients of one update, and every initialisation two
numbers, so that one compiled program trains networks that share neither:

    m = b1 m + c g           u = m / (1 - d b1^t)
    v = b2 v + (1 - b2) g^2  w = v / (1 - d b2^t)
    theta = theta - lr u / (a (sqrt(w) + 1e-8) + 1 - a)

Draws come from NumPy with a seed of integers: the same on every backend.
"""

import math
from typing import NamedTuple

import numpy as np

from qejax.spaces import WeightSpec
from qejax.zoo._config import ZooConfig

DRAW_HYPER, DRAW_SUBSET, DRAW_ORDER = 1, 2, 3
"""Integers that tell the streams of random numbers apart."""


class Optimizer(NamedTuple):
    """One optimiser as coefficients of the shared update."""

    b1: float
    c: float
    b2: float
    adaptive: float
    debias: float
    rate: float
    """Factor on the learning rate that is drawn."""


OPTIMIZER_ROWS: dict[str, Optimizer] = {
    "sgd": Optimizer(0.0, 1.0, 0.0, 0.0, 0.0, 30.0),
    "momentum": Optimizer(0.9, 1.0, 0.0, 0.0, 0.0, 10.0),
    "adam": Optimizer(0.9, 0.1, 0.999, 1.0, 1.0, 1.0),
    "rmsprop": Optimizer(0.0, 1.0, 0.9, 1.0, 0.0, 1.0),
}
"""Optimisers by name. Adam: Kingma and Ba 2014, arXiv:1412.6980, algorithm 1."""

Column = dict[str, np.ndarray]


def draw_hyper(config: ZooConfig, bucket: int) -> Column:
    """Returns what each network of a bucket is trained with, `[count]` a column.

    Columns: `optimizer`, `init` (strings), `step` (int64), `init_scale`,
    `learning_rate` (after the optimiser's factor, before the schedule),
    `weight_decay`, `dropout`, `train_fraction` (float64).
    """
    rng = np.random.default_rng([config.seed, bucket, DRAW_HYPER])
    count = config.count

    def log_uniform(low: float, high: float) -> np.ndarray:
        if low == high:
            return np.full(count, low)
        return np.exp(rng.uniform(math.log(low), math.log(high), count))

    optimizer = rng.choice(np.array(config.optimizers), count)
    rate = np.array([OPTIMIZER_ROWS[name].rate for name in optimizer])
    if config.equal_rates:
        rate = np.ones(count)
    low, high = config.steps
    return {
        "optimizer": optimizer,
        "init": rng.choice(np.array(config.inits), count),
        "step": np.floor(log_uniform(low + 1, high + 2)).astype(np.int64) - 1,
        "init_scale": log_uniform(*config.init_scale),
        "learning_rate": rate * log_uniform(*config.learning_rate),
        "weight_decay": log_uniform(*config.weight_decay),
        "dropout": rng.uniform(*config.dropout, count) * rng.integers(0, 2, count),
        "train_fraction": rng.uniform(*config.train_fraction, count),
    }


def coefficients(hyper: Column) -> Column:
    """Returns the numbers that the compiled program takes, `[count]` float32 each."""
    rows = [OPTIMIZER_ROWS[name] for name in hyper["optimizer"]]
    columns = {
        name: np.array([getattr(row, name) for row in rows])
        for name in ("b1", "c", "b2", "adaptive", "debias")
    }
    names = ("init_scale", "learning_rate", "weight_decay", "dropout")
    columns |= {name: hyper[name] for name in names}
    columns["normal"] = np.char.endswith(hyper["init"], "normal")
    columns["glorot"] = np.char.startswith(hyper["init"], "glorot")
    columns["absolute"] = hyper["init"] == "normal"
    out = {name: column.astype(np.float32) for name, column in columns.items()}
    return out | {"stop": hyper["step"].astype(np.int32)}


def fans(spec: WeightSpec) -> dict[str, tuple[float, float]]:
    """Returns `(fan_in, fan_out)` of every kernel and table by path.

    Biases and the scales of norms have none. A row of a table is written as it is.
    """
    out = {}
    for leaf in spec.leaves:
        *layer, name = leaf.path.split("/")
        *window, n_out = leaf.stored
        if name in ("bias", "scale"):
            continue
        if name != "kernel":
            out[leaf.path] = (n_out, n_out)
        elif layer[-2:-1] == ["attention"]:
            # `[E, H, d]`, and `[H, d, E]` for what the heads write.
            cut = 2 if layer[-1] == "out" else 1
            sides = leaf.stored[:cut], leaf.stored[cut:]
            out[leaf.path] = (math.prod(sides[0]), math.prod(sides[1]))
        else:
            fan_in = math.prod(window)
            out[leaf.path] = (fan_in, n_out * fan_in / window[-1])
    return out


def subsets(config: ZooConfig, bucket: int, hyper: Column, size: int) -> np.ndarray:
    """Returns which of `size` training points each network sees, `[count, size]`.

    A random subset of its own, of `train_fraction * size` points, at least one.
    """
    rng = np.random.default_rng([config.seed, bucket, DRAW_SUBSET])
    kept = np.maximum(1, np.round(hyper["train_fraction"] * size)).astype(int)
    rank = np.argsort(rng.random((len(kept), size)), axis=1)
    return (rank < kept[:, None]).astype(np.float32)


def schedule(config: ZooConfig) -> np.ndarray | None:
    """Returns the factor on the rate at every step, `[steps]` float32.

    `None` where the rate is kept: the program is then the one without a schedule.
    """
    warm_up, length = config.schedule
    if not length:
        return None
    step = np.arange(max(config.steps[1], 1))
    decay = (1 + np.cos(np.pi * (step - warm_up) / (length - warm_up))) / 2
    rise = (step + 1) / max(warm_up, 1)
    return np.where(step < warm_up, rise, decay).astype(np.float32)


def minibatches(config: ZooConfig, bucket: int, chunk: int, size: int) -> np.ndarray:
    """Returns the points of every step, `[steps, batch]` int32: epochs of shuffles.

    All networks of a chunk walk through the data in one order; each skips what is not
    in its own subset.
    """
    rng = np.random.default_rng([config.seed, bucket, DRAW_ORDER, chunk])
    total = max(config.steps[1], 1) * config.batch
    epochs = [rng.permutation(size) for _ in range(math.ceil(total / size))]
    return np.concatenate(epochs)[:total].astype(np.int32).reshape(-1, config.batch)
