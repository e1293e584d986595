"""The networks that are rounded, and the images that tell how much it hurts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.devices import mesh_of
from experiments.make_zoo.encoders import IMAGES, encoder
from experiments.predict_accuracy import data
from experiments.predict_accuracy.record import fingerprint
from experiments.quantise_gauge.config import Config
from qejax import models, nets, zoo
from qejax._typing import Array, Scalar, Theta
from qejax.nets import NetConfig, Network

CONFIGS: dict[str, Callable[[], dict[str, NetConfig]]] = {
    "mlp": lambda: {"relu": nets.mlp((64, 32, 32, 10), activation="relu").config},
    "cnn": lambda: {
        "relu": nets.cnn(1, (8, 16, 16), 3, padding="SAME", pools=(1, 2, 1)).config
    },
    "transformer": lambda: {"plain": encoder("plain", IMAGES["digits"], 4, 16, 2, 2)},
}
"""Architectures by kind, a bucket each."""

RECIPES: dict[str, dict[str, Any]] = {
    "mlp": {},
    "cnn": {},
    "transformer": {
        "batch": 32,
        "learning_rate": (3e-4, 1.5e-2),
        "inits": ("normal",),
        "init_scale": (0.1, 0.5),
        "weight_decay": (1e-8, 1e-2),
        "dropout": (0.0, 0.2),
        "train_fraction": (0.7, 1.0),
    },
}
"""How they are trained, where that is not the default of `zoo.ZooConfig`."""

POOL = 1024
"""Random inputs that are drawn from."""


class Inputs(NamedTuple):
    """What networks read.

    Attributes:
        train: `[1000, 8, 8, 1]`, of the images that networks were trained on.
        random: `[POOL, 8, 8, 1]`, smooth noise, no data.
        test: `[797, 8, 8, 1]`.
        labels: `[797]`, of the test images.
    """

    train: Array
    random: Array
    test: Array
    labels: Array


@dataclass(frozen=True)
class Subject:
    """What all rows are trained and tested on.

    Attributes:
        network: the architecture.
        splits: weights by split, leaves `[B, ...]`.
        inputs: that networks read.
    """

    network: Network
    splits: dict[str, Theta]
    inputs: Inputs


def load(config: Config, tell: Callable[[float, float], None]) -> Subject:
    """Returns networks and images; networks are trained first if they are not there.

    Args:
        config: of the run.
        tell: takes the share of the zoo that is done, and the share found done.

    Raises:
        ValueError: if no network is above the cut-off.
    """
    images = data.digits()
    train, test = (x.reshape(-1, 8, 8, 1) for x in (images.train_x, images.test_x))
    made = zoo.ZooConfig(
        buckets=CONFIGS[config.kind](),
        count=config.networks,
        seed=config.seed,
        steps=config.zoo_steps,
        **RECIPES[config.kind],
    )
    out = config.zoos / f"quantise-{fingerprint(made.to_dict())}"
    begun: list[float] = []

    def progress(report: zoo.Progress) -> None:
        share = report.work / report.total_work
        begun.append(share if report.resumed else 0.0)
        tell(share, max(begun))

    given = zoo.Data(train, images.train_y, test, images.test_y)
    root = zoo.generate(made, given, out, progress, mesh_of(config))
    (found,) = zoo.read_all(root).values()
    found = zoo.keep_accurate(found, config.cut_off)
    tell(1.0, 0.0 if begun else 1.0)
    random = models.probe_inputs((8, 8, 1), POOL)[0]
    inputs = Inputs(
        *(jnp.asarray(x) for x in (train, random, test, images.test_y.astype(np.int32)))
    )
    splits = {name: found.select(name).thetas for name in zoo.SPLITS}
    return Subject(found.network, splits, inputs)


def divergence(first: Array, second: Array) -> Scalar:
    """Returns the mean Kullback-Leibler divergence of classes, from logits `[N, K]`."""
    logs = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
    return jnp.mean(jnp.sum(jnp.exp(logs[0]) * (logs[0] - logs[1]), -1))
