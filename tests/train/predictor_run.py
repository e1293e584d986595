"""A predictor trained for 50 steps, each of them evaluated: one loss a step."""

from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from qejax import models, nets, train

NET = nets.mlp((2, 3, 2))
STEPS, EXAMPLES, BATCH = 50, 64, 16


def run(mesh: Any) -> train.FitResult:
    """Trains it on networks at their start, whose labels are of their weights."""
    keys = jax.random.split(jax.random.key(0), EXAMPLES)
    thetas = jax.device_get(jax.vmap(NET.init)(keys))
    label = np.tanh(np.abs(thetas["layer_00"]["kernel"]).sum((1, 2)) / 8)
    config = models.PredictorConfig(
        depth=1, embed=4, hidden=8, heads=2, rank=2, carried=2
    )
    model = models.Predictor(NET.spec, 3, config=config, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def read(params: Any, thetas: Any) -> Any:
        return jax.vmap(nnx.merge(graph, params, rest))(thetas)

    def loss_fn(params: Any, batch: Any, key: Any) -> Any:
        del key
        return ((read(params, batch["theta"]) - batch["label"]) ** 2).mean(), {}

    return train.fit(
        loss_fn,
        nnx.to_pure_dict(params),
        {"theta": thetas, "label": label.astype(np.float32)},
        train.FitConfig(
            steps=STEPS, batch_size=BATCH, eval_every=1, select="mae", mode="min"
        ),
        optimizer=optax.adam(1e-3),
        evaluate=lambda params: {"mae": train.mae(label, read(params, thetas))},
        mesh=mesh,
    )
