"""A small training run in a process of its own, for tests that kill it.

`python killed_run.py OUT [--pause SECONDS] [--patience N]`: a small MLP on made-up
data, 120 steps, an evaluation every 10. It pauses after each dispatch, so that a test
can hit it in the middle, and saves at every dispatch. Prints the last step.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax

from qejax.train import (
    FitConfig,
    Progress,
    batch_sharding,
    fit,
    fit_stream,
    mae,
    r2,
)

STEPS, EVAL_EVERY = 120, 10


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 4)).astype(np.float32)
    y = np.sin(x @ rng.normal(size=4)).astype(np.float32)
    return {"x": x[:64], "y": y[:64]}, {"x": x[64:], "y": y[64:]}


def init(key):
    first, second = jax.random.split(key)
    return {
        "hidden": {"kernel": jax.random.normal(first, (4, 16)), "bias": jnp.zeros(16)},
        "out": {"kernel": jax.random.normal(second, (16,)) / 4},
    }


def predict(params, x):
    hidden = jax.nn.tanh(
        x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None]
    )
    return hidden @ params["out"]["kernel"]


def loss_fn(params, batch, key):
    noise = 0.01 * jax.random.normal(key, batch["y"].shape, batch["y"].dtype)
    error = predict(params, batch["x"]) - batch["y"] + noise
    return jnp.mean(error**2), {"abs": jnp.mean(jnp.abs(error))}


def streamed(data, batch_size, mesh):
    """The same examples batch by batch; of many processes each has its own of them."""
    rows = [{name: x[row] for name, x in data.items()} for row in range(64)]
    found = grain.MapDataset.source(rows).seed(0).shuffle().repeat(None)
    piece = batch_size // jax.process_count()
    own = slice(jax.process_index() * piece, (jax.process_index() + 1) * piece)
    found = found.batch(batch_size).map(lambda x: {k: v[own] for k, v in x.items()})
    found = found.to_iter_dataset()
    if mesh is not None and jax.process_count() == 1:
        found = grain.experimental.device_put(found, batch_sharding(mesh))
    return iter(found)


def run(
    out: Path | None,
    *,
    pause: float = 0.0,
    patience: int | None = None,
    steps: int = STEPS,
    progress=None,
    save_seconds: float = 0.0,
    batch_size: int = 10,
    mesh=None,
    stream: bool = False,
):
    train, val = make_data()
    jitted = jax.jit(predict)

    def evaluate(params):
        predicted = jitted(params, val["x"])
        return {"r2": r2(val["y"], predicted), "mae": mae(val["y"], predicted)}

    def wait(report: Progress) -> None:
        time.sleep(pause)
        if progress is not None:
            progress(report)

    data: Any = streamed(train, batch_size, mesh) if stream else train
    return (fit_stream if stream else fit)(
        loss_fn,
        init(jax.random.key(1)),
        data,
        FitConfig(
            steps=steps,
            batch_size=batch_size,
            eval_every=EVAL_EVERY,
            seed=3,
            select="r2",
            ema=0.9,
            patience=patience,
        ),
        optimizer=optax.adam(optax.cosine_decay_schedule(0.02, STEPS)),
        evaluate=evaluate,
        out=out,
        progress=wait,
        save_seconds=save_seconds,
        mesh=mesh,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    options = parser.parse_args()
    print(run(options.out, pause=options.pause).step)
