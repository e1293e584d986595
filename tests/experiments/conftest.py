"""A zoo that is made in a second: networks with an "accuracy" that is easy to see."""

import jax
import numpy as np
import pytest

from experiments.predict_accuracy.buckets import Bucket
from experiments.predict_accuracy.readings import Readings
from qejax import nets


def make_bucket(name: str, count: int = 60, seed: int = 0) -> Bucket:
    """Untrained networks; the "accuracy" is an invariant of their weights."""
    network = nets.mlp((9, 4, 3, 3), activation=name)
    rng = np.random.default_rng(seed)
    keys = jax.random.split(jax.random.key(seed), count)
    thetas = jax.vmap(lambda k: network.init(k, "float32"))(keys)
    value = rng.uniform(-1, 1, count)
    thetas["layer_02"]["bias"] = 3 * np.outer(value, [1, -1, 0]).astype(np.float32)
    split = np.zeros(count, np.int8)
    split[::3], split[1::3] = 1, 2
    accuracy = 0.5 + 0.4 * value
    readings = Readings(network, (3, 3, 1), jax.tree.map(np.asarray, thetas), 4)
    return Bucket(name, readings, accuracy, split, images=500)


@pytest.fixture(scope="session")
def buckets() -> list[Bucket]:
    return [make_bucket("relu"), make_bucket("tanh", seed=1)]
