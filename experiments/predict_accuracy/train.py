"""Trains the metanetworks of one row: every seed, every bucket, one compilation each.

All seeds of a bucket are trained by one program that takes them in turn, so that it is
compiled once. They share nothing: each has parameters, an optimiser and a share of
every epoch of its own, and its order of examples is a random one. The step that is
kept is the one with the best mean tau on the validation split.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.predict_accuracy.buckets import TRAIN, VALIDATION, Bucket
from experiments.predict_accuracy.config import Config
from experiments.predict_accuracy.evaluate import Predict, kendall_tau
from experiments.predict_accuracy.objective import Scale, fit_scale, pairwise_loss
from experiments.predict_accuracy.readings import Readings
from experiments.predict_accuracy.record import fingerprint
from qejax import train
from qejax._typing import Array, PRNGKeyArray

INIT_KEY = 21
"""Folded into the seed for the parameters at the start."""


@dataclass(frozen=True)
class Model:
    """A metanetwork as pure functions.

    Attributes:
        name: of its row.
        init: `key -> params`.
        score: `(params, inputs [B, ...], key) -> [B]`; no dropout if the key is None.
        inputs: what it reads of a stack of networks, leaves `[B, ...]`; no training
            happens here.
        train_inputs: the inputs to train on, `A` versions of each network of the
            training split in turn, leaves `[A * B, ...]`; `inputs` if None.
        settings: what else decides its numbers, for the fingerprint.
    """

    name: str
    init: Callable[[PRNGKeyArray], Any]
    score: Callable[[Any, Any, PRNGKeyArray | None], Array]
    inputs: Callable[[Readings], Any]
    train_inputs: Callable[[Readings], Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """The metanetworks of one row on one bucket.

    Attributes:
        model: what was trained.
        params: leaves `[S, ...]`.
        scales: from scores to accuracies, one per seed.
        steps: `[E]`, where the validation split was looked at.
        tau: `[S, E]`, on it.
    """

    model: Model
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
        scores = scorer(self.model)

        def predict(readings: Readings) -> np.ndarray:
            raw = np.asarray(scores(self.params, self.model.inputs(readings)))
            return np.stack([s(r) for s, r in zip(self.scales, raw, strict=True)])

        return predict


def scorer(model: Model) -> Callable[[Any, Any], Array]:
    """Returns the compiled function `(params [S, ...], inputs) -> scores [S, B]`."""

    @jax.jit
    def scores(params: Any, inputs: Any) -> Array:
        return jax.lax.map(lambda one: model.score(one, inputs, None), params)

    return scores


def train_bucket(
    model: Model,
    bucket: Bucket,
    config: Config,
    out: Path,
    progress: Callable[[float], None],
) -> Trained:
    """Trains one model on one bucket, or reads what an earlier run trained.

    Args:
        model: what to train.
        bucket: its training and validation splits are read.
        config: of the run.
        out: where checkpoints of all rows lie.
        progress: told the share of the steps that are done.

    Returns:
        The metanetworks at their best validation step.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    data, copies = _data(model, bucket)
    batch = min(config.batch, len(data["accuracy"]) // config.seeds)
    loop = train.FitConfig(
        steps=config.steps,
        batch_size=batch * config.seeds,
        eval_every=config.evaluate_every,
        seed=config.seed,
        select="tau",
        ema=config.average if config.average > 0 else None,
    )
    settings = {
        "model": model.settings,
        "copies": copies,
        **{name: getattr(config, name) for name in _SETTINGS},
    }
    key = fingerprint(settings, loop.__dict__, _checksum(data))
    result = train.fit(
        _loss(model, config.seeds, bucket.images),
        _init(model, config),
        data,
        loop,
        optimizer=_optimizer(config),
        evaluate=_evaluate(model, bucket),
        out=out / f"{model.name}-{bucket.name}-{key}",
        settings=settings,
        progress=lambda p: progress(p.step / p.steps),
    )
    params = jax.tree.map(np.asarray, result.params)
    tau = [
        [row["eval"][f"tau_{s}"] for row in result.history] for s in range(config.seeds)
    ]
    return Trained(
        model=model,
        params=params,
        scales=_scales(model, params, bucket),
        steps=np.array([row["step"] for row in result.history]),
        tau=np.array(tau, dtype=np.float64),
    )


_SETTINGS = ("seed", "seeds", "learning_rate", "weight_decay")


def _data(model: Model, bucket: Bucket) -> tuple[dict[str, Any], int]:
    readings, accuracy = bucket.readings(TRAIN), bucket.accuracy(TRAIN)
    inputs = (model.train_inputs or model.inputs)(readings)
    copies = len(jax.tree.leaves(inputs)[0]) // len(accuracy)
    return {
        "inputs": jax.tree.map(np.asarray, inputs),
        "accuracy": np.tile(accuracy.astype(np.float32), copies),
    }, copies


def _checksum(data: Any) -> list[float]:
    return [float(np.sum(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(data)]


def _init(model: Model, config: Config) -> Any:
    key = jax.random.fold_in(jax.random.key(config.seed), INIT_KEY)
    return jax.jit(jax.vmap(model.init))(jax.random.split(key, config.seeds))


def _loss(
    model: Model, seeds: int, images: int
) -> Callable[[Any, Any, PRNGKeyArray], tuple[Array, dict[str, Array]]]:
    def loss(
        params: Any, batch: Any, key: PRNGKeyArray
    ) -> tuple[Array, dict[str, Array]]:
        parts = jax.tree.map(lambda a: a.reshape(seeds, -1, *a.shape[1:]), batch)

        def one(seed: Any) -> Array:
            params, part, key = seed
            scores = model.score(params, part["inputs"], key)
            return pairwise_loss(scores, part["accuracy"], images)

        losses = jax.lax.map(one, (params, parts, jax.random.split(key, seeds)))
        # A sum: every seed has the gradient that it would have alone.
        return jnp.sum(losses), {"mean": jnp.mean(losses)}

    return loss


def _optimizer(config: Config) -> optax.GradientTransformation:
    warmup = max(config.steps // 10, 1)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0,
        config.learning_rate,
        warmup,
        max(config.steps, warmup + 1),
        config.learning_rate * 0.02,
    )

    def decayed(params: Any) -> Any:
        return jax.tree.map(lambda p: p.ndim > 1, params)

    one = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.99, weight_decay=config.weight_decay, mask=decayed),
    )
    # Each seed clips and averages by itself.
    return optax.GradientTransformation(
        jax.vmap(one.init), jax.vmap(one.update, in_axes=(0, 0, 0))
    )


def _evaluate(model: Model, bucket: Bucket) -> Callable[[Any], dict[str, float]]:
    scores, inputs = scorer(model), model.inputs(bucket.readings(VALIDATION))
    truth = bucket.accuracy(VALIDATION)

    def evaluate(params: Any) -> dict[str, float]:
        tau = [kendall_tau(truth, np.asarray(s)) for s in scores(params, inputs)]
        return {"tau": float(np.mean(tau))} | {f"tau_{i}": t for i, t in enumerate(tau)}

    return evaluate


def _scales(model: Model, params: Any, bucket: Bucket) -> tuple[Scale, ...]:
    inputs = model.inputs(bucket.readings(VALIDATION))
    truth, known = bucket.accuracy(VALIDATION), bucket.accuracy(TRAIN)
    scores = np.asarray(scorer(model)(params, inputs))
    return tuple(fit_scale(one, truth, known) for one in scores)
