"""The metanetwork: one `MixedPredictor` a seed, trained on a stream from disk.

All seeds are trained by one program, each on its own share of every batch; the step
that is kept is the one where the mean over seeds of tau on the validation split is
best.

All networks of a step are padded to one size, so that ranks within a step say nothing
of two sizes: a squared error on the scaled accuracy puts all scores on one scale.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import seeds
from experiments.devices import mesh_of
from experiments.predict_accuracy.chunks import UNOPTIMISED, cast
from experiments.predict_accuracy.objective import pairwise_loss
from experiments.predict_accuracy.train import cheap_key
from experiments.predict_mixed.config import Config
from experiments.predict_mixed.evaluate import Model, graded, truth_of
from experiments.predict_mixed.zoo import IMAGES, Column
from qejax import models, nets, train, zoo
from qejax._typing import Array, PRNGKeyArray
from qejax.nets import PadSize

WORDS = "one MixedPredictor for all architectures"
"""What the row is."""

Score = Callable[[Any, zoo.MixedZoo], np.ndarray]
"""From parameters `[S, ...]` and networks to scores `[S, B]`."""


def train_mixed(
    column: Column,
    ladder: tuple[PadSize, ...],
    config: Config,
    out: Path,
    tell: Callable[[float, float], None],
) -> Model:
    """Trains the seeds, or reads what an earlier run trained.

    Args:
        column: its training and validation splits are read.
        ladder: sizes that networks are padded to, those of the test included.
        config: of the run.
        out: where the checkpoints lie.
        tell: takes the share of the steps that are done, and the share that an earlier
            run had done.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    held = column.mixed.select("val")
    reader = make_reader(column.mixed.select("train"), ladder, config)
    score = _score(reader, ladder)
    result = _fit(
        reader,
        lambda params: graded(held, score(params, held)),
        _stream(column, ladder, config),
        config,
        out,
        tell,
    )
    return Model(
        "mixed",
        WORDS,
        seeds.num_params(result.params),
        lambda networks: score(result.params, networks),
        seeds.about(result),
    )


def make_reader(
    seen: zoo.MixedZoo, ladder: tuple[PadSize, ...], config: Config
) -> seeds.Reader:
    """Returns the predictor as pure functions of stored normal forms.

    Args:
        seen: training networks, by which its statistics are standardised.
        ladder: all sizes.
        config: of the run.
    """
    assert seen.normal is not None
    choices = models.MixedConfig(
        depth=config.rounds,
        hidden_units=config.hidden,
        dropout=(config.dropout, config.dropout),
    )
    size = functools.reduce(PadSize.joined, ladder)

    def build(rngs: nnx.Rngs) -> models.MixedPredictor:
        return models.MixedPredictor(size, config.channels, config=choices, rngs=rngs)

    module = seeds.with_constants(build)
    module.calibrate(seen.normal.statistics)
    graph, _, fitted = nnx.split(module, nnx.Param, ...)

    def scores(params: Any, normal: Any, key: PRNGKeyArray | None) -> Array:
        model = nnx.merge(graph, params, fitted)
        if key is None:
            return jax.vmap(lambda one: model.scores(models.Measured(*one)))(normal)
        keys = jax.random.split(key, len(normal.statistics))
        return jax.vmap(lambda one, k: model.scores(models.Measured(*one), k))(
            normal, keys
        )

    return seeds.Reader(
        init=seeds.start_of(build),
        scores=scores,
        read=lambda chain: module.measure(chain),
        prepare=lambda normal: cast(normal, np.float32),
        training=None,
        mesh=mesh_of(config),
    )


def _score(reader: seeds.Reader, ladder: tuple[PadSize, ...]) -> Score:
    """The mean over heads, of networks of any size of the ladder."""
    each = seeds.scores_of(reader, UNOPTIMISED)

    def score(params: Any, networks: zoo.MixedZoo) -> np.ndarray:
        found = np.zeros((len(jax.tree.leaves(params)[0]), len(networks)))
        # One batch a size.
        for batch in networks.batches(ladder, len(networks)):
            there = batch.there
            normal = jax.tree.map(lambda x, at=there: x[at], batch.normal)
            heads = each(params, reader.prepare(normal))
            found[:, batch.rows[there]] = heads.mean(-1)
        return found

    return score


def ladder_of(config: Config, *columns: Column) -> tuple[PadSize, ...]:
    """Returns sizes that hold every network of some columns."""
    each = [one for column in columns for one in column.mixed.each]
    return nets.ladder_of(each, config.sizes)


def scaled(accuracy: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Returns log odds of accuracies, standardised over `among`.

    Example:
        >>> scaled(np.array([0.5]), np.array([0.2, 0.8])).round(6).tolist()
        [0.0]
    """

    def odds(x: np.ndarray) -> np.ndarray:
        inside = np.clip(x, 0.5 / IMAGES, 1 - 0.5 / IMAGES)
        return np.log(inside / (1 - inside))

    known = odds(among)
    return (odds(accuracy) - known.mean()) / known.std()


def _stream(
    column: Column, ladder: tuple[PadSize, ...], config: Config
) -> zoo.Stream[Any]:
    """Batches of the training split, for ever, as they are trained on."""
    among = truth_of(column.mixed.select("train"))

    def take(batch: zoo.MixedBatch) -> dict[str, Any]:
        accuracy = batch.labels["test_accuracy"]
        return {
            "normal": cast(batch.normal, np.float32),
            "there": batch.there,
            "accuracy": accuracy.astype(np.float32),
            "target": scaled(accuracy, among).astype(np.float32),
        }

    return zoo.stream_mixed(
        column.root,
        "train",
        config.batch * config.seeds,
        ladder=ladder,
        seed=config.seed,
        epochs=None,
        shard=(jax.process_index(), jax.process_count()),
        take=take,
    )


def _fit(
    reader: seeds.Reader,
    evaluate: Callable[[Any], dict[str, float]],
    batches: zoo.Stream[Any],
    config: Config,
    out: Path,
    tell: Callable[[float, float], None],
) -> train.FitResult:
    """All seeds at once; each has the gradient that it would have alone."""
    begun: list[float] = []

    def progress(report: train.Progress) -> None:
        begun.append((report.step - 1) / report.steps)
        tell(report.step / report.steps, max(begun[0], 0.0))

    def one(params: Any, batch: Any, key: Any) -> Array:
        return _loss(reader.scores(params, batch["normal"], key), batch, config.anchor)

    each = seeds.losses_of(one)

    def total(params: Any, batch: Any, key: Any) -> tuple[Array, dict[str, Array]]:
        # In turn, so that what fills up a batch is shared out as well.
        parts = jax.tree.map(
            lambda x: x.reshape(config.batch, config.seeds, *x.shape[1:]).swapaxes(
                0, 1
            ),
            batch,
        )
        keys = jax.random.split(cheap_key(key), config.seeds)
        losses = each(params, parts, keys)
        return jnp.sum(losses), {"mean": jnp.mean(losses)}

    schedule = seeds.Schedule(
        config.seeds,
        config.seed,
        config.steps,
        config.batch,
        config.evaluate_every,
        config.learning_rate,
        config.weight_decay,
        select="kendall_tau",
    )
    result = train.fit_stream(
        total,
        seeds.starts(reader.init, config.seed, config.seeds),
        batches,
        train.FitConfig(
            steps=config.steps,
            batch_size=config.batch * config.seeds,
            eval_every=config.evaluate_every,
            seed=config.seed,
            select=schedule.select,
            ema=0.98,
        ),
        optimizer=seeds.optimizer(schedule),
        evaluate=evaluate,
        out=out,
        settings={"row": "mixed"},
        progress=progress,
        mesh=mesh_of(config),
    )
    tell(1.0, 0.0 if begun else 1.0)
    return result


def _loss(scores: Array, batch: Any, anchor: float) -> Array:
    """Every head ranks by itself, and is near the scaled accuracies.

    Args:
        scores: `[B, K]`.
        batch: `B` networks; those that are not there do not count.
        anchor: weight of the squared error.
    """
    there = batch["there"]
    some = jnp.any(there)
    # A share without a network: no pairs have no mean, and it has no gradient.
    ranks = jax.vmap(pairwise_loss, in_axes=(1, None, None, None))(
        scores, batch["accuracy"], IMAGES, there | ~some
    )
    squares = jnp.where(there[:, None], (scores - batch["target"][:, None]) ** 2, 0)
    error = jnp.sum(squares) / (scores.shape[1] * jnp.maximum(jnp.sum(there), 1))
    return jnp.where(some, jnp.mean(ranks), 0) + anchor * error
