"""Trains the metanetworks of one row: every seed, every bucket, one compilation each.

All seeds of a bucket are trained by one program that takes them in turn, so that it is
compiled once. They share nothing: each has parameters, an optimiser and a share of
every epoch of its own, and its order of examples is a random one. The step that is
kept is the one with the best mean tau on the validation split.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from experiments.devices import apart, mesh_of
from experiments.predict_accuracy.buckets import TRAIN, VALIDATION, Bucket
from experiments.predict_accuracy.chunks import compiled_once
from experiments.predict_accuracy.config import Config
from experiments.predict_accuracy.evaluate import Predict, kendall_tau
from experiments.predict_accuracy.functions import Scores, scorer
from experiments.predict_accuracy.objective import Scale, fit_scale, pairwise_loss
from experiments.predict_accuracy.readings import Readings
from experiments.predict_accuracy.record import fingerprint
from qejax import train
from qejax._devices import fetch
from qejax._typing import Array, PRNGKeyArray

WEIGHT_DECAY = 0.1
"""Of AdamW, on matrices."""

AVERAGE = 0.99
"""Decay of the averaged weights, the ones that are evaluated and kept."""

INIT_KEY = 21
"""Folded into the seed for the parameters at the start."""


@dataclass(frozen=True)
class Model:
    """A metanetwork on one bucket as pure functions, `K` heads.

    Attributes:
        name: of its row.
        steps: optimiser steps.
        init: `key -> params`.
        scores: `(params, inputs [B, ...], key) -> [B, K]`; no dropout if the key is
            None. The score of a network is the mean over heads.
        inputs: what it reads of a stack of networks, leaves `[B, ...]`; exact, nothing
            trained.
        training: inputs and accuracies to train on.
        module: `params -> module`, with the constants that go with them.
    """

    name: str
    steps: int
    init: Callable[[PRNGKeyArray], Any]
    scores: Callable[[Any, Any, PRNGKeyArray | None], Array]
    inputs: Callable[[Readings], Any]
    training: tuple[Any, np.ndarray]
    module: Callable[[Any], Any]


@dataclass(frozen=True)
class Trained:
    """The metanetworks of one row on one bucket.

    Attributes:
        model: what was trained.
        scores: of `scorer`.
        params: leaves `[S, ...]`.
        scales: from scores to accuracies, one per seed.
        steps: `[E]`, where the validation split was looked at.
        tau: `[S, E]`, on it.
    """

    model: Model
    scores: Scores
    params: Any
    scales: tuple[Scale, ...]
    steps: np.ndarray
    tau: np.ndarray

    @property
    def num_params(self) -> int:
        """Trainable parameters of one metanetwork."""
        leaves = jax.tree.leaves(self.params)
        return sum(leaf[0].size for leaf in leaves)

    def predictor(self) -> Predict:
        """Returns the function from networks to accuracies `[S, B]`."""

        def predict(readings: Readings) -> np.ndarray:
            raw = self.scores(self.params, self.model.inputs(readings))
            return np.stack([s(r) for s, r in zip(self.scales, raw, strict=True)])

        return predict


def cheap_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """Returns a key whose draws compile in half the time of the default kind's.

    For starting values and dropout: good random numbers, the same on every run on one
    kind of device, but not across kinds of devices.
    """
    data = jnp.tile(jax.random.key_data(key), 2)
    return jax.random.wrap_key_data(data, impl="unsafe_rbg")


def train_bucket(
    model: Model,
    bucket: Bucket,
    config: Config,
    out: Path,
    progress: Callable[[float, float], None],
) -> Trained:
    """Trains one model on one bucket, or reads what an earlier run trained.

    Args:
        model: what to train.
        bucket: its training and validation splits are read.
        config: of the run.
        out: where checkpoints of all rows lie.
        progress: told the share of the steps that are done, and the share that an
            earlier run had done.

    Returns:
        The metanetworks at their best validation step.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    data, mesh = _data(model), mesh_of(config)
    scores = scorer(model.scores, mesh)
    inputs = model.inputs(bucket.readings(VALIDATION))
    batch = min(config.batch, len(data["accuracy"]) // config.seeds)
    loop = train.FitConfig(
        steps=model.steps,
        batch_size=batch * config.seeds,
        eval_every=min(config.evaluate_every, model.steps),
        seed=config.seed,
        select="tau",
        ema=AVERAGE,
    )
    settings = {
        "model": model.name,
        "images": bucket.images,
        **{name: getattr(config, name) for name in _SETTINGS},
    }
    # Of what lies on disk: inputs that other devices compute differ by rounding.
    read = bucket.readings(TRAIN).thetas, data["accuracy"]
    key = fingerprint(settings, loop.__dict__, _checksum(read))
    begun: list[float] = []

    def tell(report: train.Progress) -> None:
        # The first dispatch after a start has one step.
        begun.append((report.step - 1) / report.steps)
        progress(report.step / report.steps, max(begun[0], 0.0))

    result = train.fit(
        _loss(model, config.seeds, bucket.images, mesh),
        _init(model, config),
        data,
        loop,
        optimizer=_optimizer(config, model.steps),
        evaluate=_evaluate(scores, inputs, bucket.accuracy(VALIDATION)),
        out=out / f"{model.name}-{bucket.name}-{key}",
        settings=settings,
        progress=tell,
        mesh=mesh,
    )
    if not begun:
        progress(1.0, 1.0)
    params = fetch(result.params)
    tau = [
        [row["eval"][f"tau_{s}"] for row in result.history] for s in range(config.seeds)
    ]
    return Trained(
        model=model,
        scores=scores,
        params=params,
        scales=_scales(scores(params, inputs), bucket),
        steps=np.array([row["step"] for row in result.history]),
        tau=np.array(tau, dtype=np.float64),
    )


_SETTINGS = (
    "seed",
    "seeds",
    "learning_rate",
    "quasi",
    "baseline_channels",
    "baseline_depth",
    "channels",
    "depth",
    "probes",
    "stream",
    "dropout",
    "precision",
)
"""Fields of the config that decide the numbers of a metanetwork, beside the loop's."""


def _data(model: Model) -> dict[str, Any]:
    inputs, accuracy = model.training
    return {"inputs": jax.tree.map(np.asarray, inputs), "accuracy": accuracy}


def _checksum(data: Any) -> list[float]:
    return [float(np.sum(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(data)]


def _init(model: Model, config: Config) -> Any:
    def init(key: PRNGKeyArray) -> Any:
        keys = jax.random.split(jax.random.fold_in(key, INIT_KEY), config.seeds)
        return jax.lax.map(lambda one: model.init(cheap_key(one)), keys)

    return compiled_once(init)(jax.random.key(config.seed))


def _loss(
    model: Model, seeds: int, images: int, mesh: Mesh | None
) -> Callable[[Any, Any, PRNGKeyArray], tuple[Array, dict[str, Array]]]:
    def loss(
        params: Any, batch: Any, key: PRNGKeyArray
    ) -> tuple[Array, dict[str, Array]]:
        parts = apart(batch, seeds, mesh)

        def one(seed: Any) -> Array:
            params, part, key = seed
            scores = model.scores(params, part["inputs"], key)
            # Each head ranks by itself.
            heads = jax.vmap(pairwise_loss, in_axes=(1, None, None))
            return heads(scores, part["accuracy"], images).mean()

        keys = jax.random.split(cheap_key(key), seeds)
        losses = jax.lax.map(one, (params, parts, keys))
        # A sum: every seed has the gradient that it would have alone.
        return jnp.sum(losses), {"mean": jnp.mean(losses)}

    return loss


def _optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    warmup = max(steps // 10, 1)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0,
        config.learning_rate,
        warmup,
        max(steps, warmup + 1),
        config.learning_rate * 0.02,
    )

    def decayed(params: Any) -> Any:
        return jax.tree.map(lambda p: p.ndim > 1, params)

    one = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.99, weight_decay=WEIGHT_DECAY, mask=decayed),
    )
    # Each seed clips and averages by itself.
    return optax.GradientTransformation(
        jax.vmap(one.init), jax.vmap(one.update, in_axes=(0, 0, 0))
    )


def _evaluate(
    scores: Scores, inputs: Any, truth: np.ndarray
) -> Callable[[Any], dict[str, float]]:
    def evaluate(params: Any) -> dict[str, float]:
        tau = [kendall_tau(truth, one) for one in scores(params, inputs)]
        return {"tau": float(np.mean(tau))} | {f"tau_{i}": t for i, t in enumerate(tau)}

    return evaluate


def _scales(scores: np.ndarray, bucket: Bucket) -> tuple[Scale, ...]:
    truth, known = bucket.accuracy(VALIDATION), bucket.accuracy(TRAIN)
    return tuple(fit_scale(one, truth, known) for one in scores)
