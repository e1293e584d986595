"""A zoo of networks that nobody trained."""

import numpy as np

from qejax import zoo
from qejax.nets import Network


def random_zoo(net: Network, count: int, seed: int = 0) -> zoo.Zoo:
    """Random weights, labels and hyper-parameters, all from the seed."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, net.spec.num_parameters)).astype(np.float32)
    return zoo.Zoo(
        network=net,
        thetas=zoo.from_vectors(net.spec, vectors),
        labels={"test_accuracy": rng.random(count).astype(np.float32)},
        hyper={
            "optimizer": rng.choice(np.array(["sgd", "adam"]), count),
            "learning_rate": rng.random(count),
            "step": rng.integers(0, 9, count),
        },
        split=zoo.split_networks(count),
        source="a test",
        ids=np.array([f"net_{k}" for k in range(count)]),
    )
