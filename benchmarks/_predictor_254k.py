"""The predictor of 254,000 parameters that several benchmarks train.

Strict layers on raw weights of the convolutional networks of the Small CNN Zoo, three
layers of 16 channels, with as many feature channels as come closest to that size.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qejax import layers, models, nets

PARAMETERS = 254_000
NET = nets.cnn(1, (16, 16, 16), windows=3, strides=2)


class Training(NamedTuple):
    """What is trained.

    Attributes:
        params: a nested dict.
        loss_fn: of `train.fit`; a batch has "theta" and "label".
        read: from parameters and networks to scores, `[B]`.
        size: the number of parameters.
        channels: feature channels.
    """

    params: Any
    loss_fn: Callable[..., Any]
    read: Callable[[Any, Any], Any]
    size: int
    channels: int


def training(
    spec: Any = NET.spec,
    size: int = PARAMETERS,
    precision: layers.PrecisionName = "float32",
) -> Training:
    """Returns the predictor's parameters and loss.

    Args:
        spec: of the networks it reads.
        size: about how many parameters.
        precision: of `models.PredictorConfig`.
    """
    plain = models.PredictorConfig(statistics=(), sketches=(), precision=precision)
    channels, config = models.sizes_for(spec, "strict", size, config=plain)
    model = models.Predictor(spec, channels, "strict", config=config, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    params = nnx.to_pure_dict(params)

    def read(params: Any, thetas: Any) -> Any:
        return jax.vmap(nnx.merge(graph, params, rest))(thetas)

    def loss_fn(params: Any, batch: Any, key: Any) -> Any:
        del key
        error = jax.nn.sigmoid(read(params, batch["theta"])) - batch["label"]
        return jnp.mean(error**2), {}

    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Training(params, loss_fn, read, count, channels)


def random_networks(count: int, net: nets.Network = NET) -> dict[str, Any]:
    """Returns networks at their start with random labels: what a step costs is seen."""
    keys = jax.random.split(jax.random.key(0), count)
    thetas = jax.device_get(jax.jit(jax.vmap(net.init))(keys))
    labels = np.random.default_rng(0).uniform(size=count).astype(np.float32)
    return {"theta": thetas, "label": labels}
