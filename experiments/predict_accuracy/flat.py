"""The baseline that knows no symmetry: a plain MLP on all weights in one vector.

It is the one model here that is not invariant, so it alone is trained on moved copies
of the training networks; validation and test networks are never augmented.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.predict_accuracy.buckets import TRAIN, Bucket
from experiments.predict_accuracy.config import Config
from experiments.predict_accuracy.moved import move_zoo
from experiments.predict_accuracy.readings import Readings
from experiments.predict_accuracy.train import Model
from qejax._typing import Array, PRNGKeyArray

COPIES = 4
"""Versions of each training network: the stored one, then moved ones."""

TOP = 2.0
"""Largest scale of the moved copies, `U[1, 2]`."""

WIDTH = 128
"""Of its two hidden layers."""

MOVE_KEY = 31
"""Folded into the seed for the copies."""


class FlatMLP(nnx.Module):
    """Two hidden layers with dropout on a standardised vector of weights."""

    def __init__(self, size: int, dropout: float, *, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(size, WIDTH, rngs=rngs)
        self.second = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.last = nnx.Linear(WIDTH, 1, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x: Array, key: PRNGKeyArray | None) -> Array:
        """Returns scores `[B]` for weights `[B, P]`."""
        for number, layer in enumerate((self.first, self.second)):
            x = nnx.silu(layer(x))
            if key is not None:
                rngs = nnx.Rngs(dropout=jax.random.fold_in(key, number))
                x = self.dropout(x, rngs=rngs, deterministic=False)
        return self.last(x)[:, 0]


def flat_mlp(bucket: Bucket, config: Config) -> Model:
    """Returns the baseline for one bucket."""
    size = bucket.everything.network.spec.num_parameters
    weights = bucket.readings(TRAIN).flat
    mean, sd = weights.mean(axis=0), weights.std(axis=0)
    sd = np.where(sd > 0, sd, 1.0)

    def build(rngs: nnx.Rngs) -> FlatMLP:
        return FlatMLP(size, config.dropout, rngs=rngs)

    graph = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def init(key: PRNGKeyArray) -> Any:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param))

    def score(params: Any, inputs: Any, key: PRNGKeyArray | None) -> Array:
        return nnx.merge(graph, params)(inputs, key)

    def inputs(readings: Readings) -> Any:
        return jnp.asarray((readings.flat - mean) / sd, jnp.float32)

    def train_inputs(readings: Readings) -> Any:
        key = jax.random.fold_in(jax.random.key(config.seed), MOVE_KEY)
        spec = readings.network.spec
        moved = [
            readings.replaced(move_zoo(sub, spec, readings.thetas, TOP, permute=True))
            for sub in jax.random.split(key, COPIES - 1)
        ]
        return jnp.concatenate([inputs(version) for version in (readings, *moved)])

    return Model(
        name="flat_mlp",
        init=init,
        score=score,
        inputs=inputs,
        train_inputs=train_inputs,
        settings={"width": WIDTH, "dropout": config.dropout, "copies": COPIES},
    )
