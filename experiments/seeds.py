"""Metanetworks of one row of a table: all seeds trained by one program.

Every seed has a share of its own of every epoch, and the gradient that it would have
alone. The step that is kept is the one where the mean over seeds is best on validation.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh

from experiments.devices import apart
from experiments.predict_accuracy.chunks import (
    UNOPTIMISED,
    cast,
    chunked,
    compiled_once,
    in_chunks,
)
from experiments.predict_accuracy.train import cheap_key
from qejax import train
from qejax._devices import fetch
from qejax._typing import Array, PRNGKeyArray, Theta

INIT_KEY = 44
"""Folded into the seed."""


@dataclass(frozen=True)
class Reader:
    """A metanetwork as pure functions, its constants fitted.

    Attributes:
        init: `key -> params`.
        scores: `(params, prepared [B, ...], key or None) -> [B, K]`.
        read: `theta -> prepared` of one network, in its dtype; nothing trained.
        prepare: from weights to what it reads of them, float64; nothing trained.
        training: what it reads of the training networks, float32.
        mesh: whose devices read and score.
    """

    init: Callable[[PRNGKeyArray], Any]
    scores: Callable[[Any, Any, PRNGKeyArray | None], Array]
    read: Callable[[Theta], Any]
    prepare: Callable[[Theta], Any]
    training: Any
    mesh: Mesh | None = None


class Schedule(NamedTuple):
    """How the seeds of a row are trained.

    Attributes:
        seeds: their number, `S`.
        seed: of the first.
        steps: optimiser steps.
        batch: networks in a step of one seed.
        evaluate_every: steps between two evaluations.
        learning_rate: peak, after a tenth of the steps; then a cosine to a fiftieth.
        weight_decay: of matrices.
        select: metric whose best evaluation is kept.
        mode: whether that is the largest or the smallest.
        mesh: whose devices share batches.
    """

    seeds: int
    seed: int
    steps: int
    batch: int
    evaluate_every: int
    learning_rate: float
    weight_decay: float
    select: str
    mode: Literal["max", "min"] = "max"
    mesh: Mesh | None = None


def with_constants(build: Callable[[nnx.Rngs], Any]) -> Any:
    """Returns a module with its constants, and zeros for parameters.

    Nothing that is measured of networks depends on the parameters.
    """
    graph, shapes, _ = nnx.split(
        nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param, ...
    )
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    constants = compiled_once(lambda: nnx.split(build(nnx.Rngs(0)), nnx.Param, ...)[2])
    return nnx.merge(graph, zeros, constants())


def start_of(build: Callable[[nnx.Rngs], Any]) -> Callable[[PRNGKeyArray], Any]:
    """Returns `key -> params` of a module."""
    return lambda key: nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param))


def make_reader(
    build: Callable[[nnx.Rngs], Any],
    thetas: Theta,
    labels: np.ndarray,
    mesh: Mesh | None = None,
) -> Reader:
    """Returns the pure functions of a row; constants come from the training networks.

    Args:
        build: of a module with `measure`, `calibrate`, `standardise` and `scores`.
        thetas: of the training networks, float64, leaves `[B, ...]`.
        labels: `[B]`, for `calibrate`.
        mesh: whose devices read.
    """
    module = with_constants(build)
    measure = chunked(module.measure, options=UNOPTIMISED, mesh=mesh)
    with jax.enable_x64(True):
        prepared = module.calibrate(measure(thetas), labels)
        prepared = cast(prepared, np.float32)
    graph, _, fitted = nnx.split(module, nnx.Param, ...)
    standardise = chunked(module.standardise, options=UNOPTIMISED, mesh=mesh)

    def scores(params: Any, prepared: Any, key: PRNGKeyArray | None) -> Array:
        model = nnx.merge(graph, params, fitted)
        if key is None:
            return jax.vmap(lambda one: model.scores(one, None))(prepared)
        keys = jax.random.split(key, len(jax.tree.leaves(prepared)[0]))
        return jax.vmap(model.scores)(prepared, keys)

    return Reader(
        init=start_of(build),
        scores=scores,
        read=lambda theta: module.standardise(module.measure(theta)),
        prepare=lambda thetas: standardise(measure(thetas)),
        training=prepared,
        mesh=mesh,
    )


def of_scores(
    reader: Reader, loss: Callable[[Array, Any], Array]
) -> Callable[[Any, Any, PRNGKeyArray], Array]:
    """Returns the loss of one seed from one of scores.

    Args:
        reader: of the row.
        loss: `(scores [B', K], part of the data) -> scalar`; the part has what was
            prepared under "prepared".
    """
    return lambda params, part, key: loss(
        reader.scores(params, part["prepared"], key), part
    )


def fit_seeds(
    init: Callable[[PRNGKeyArray], Any],
    data: Any,
    loss: Callable[[Any, Any, PRNGKeyArray], Array],
    schedule: Schedule,
    evaluate: Callable[[Any], dict[str, float]],
    out: Path,
    settings: dict[str, Any],
    tell: Callable[[float, float], None],
) -> train.FitResult:
    """Trains the seeds of a row, or reads what an earlier run trained.

    Args:
        init: `key -> params` of one seed.
        data: of the training networks, leaves `[B, ...]`.
        loss: `(params, part of the data, key) -> scalar`, of one seed.
        schedule: how.
        evaluate: from parameters `[S, ...]` to metrics on the validation split.
        out: where the checkpoints of this row lie.
        settings: which row it is.
        tell: takes the share of the steps that are done, and the share that an earlier
            run had done.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    share = min(schedule.batch, len(jax.tree.leaves(data)[0]) // schedule.seeds)
    begun: list[float] = []

    def progress(report: train.Progress) -> None:
        begun.append((report.step - 1) / report.steps)
        tell(report.step / report.steps, max(begun[0], 0.0))

    result = train.fit(
        _total(loss, schedule.seeds, schedule.mesh),
        starts(init, schedule.seed, schedule.seeds),
        data,
        train.FitConfig(
            steps=schedule.steps,
            batch_size=share * schedule.seeds,
            eval_every=schedule.evaluate_every,
            seed=schedule.seed,
            select=schedule.select,
            mode=schedule.mode,
            ema=0.99,
        ),
        optimizer=optimizer(schedule),
        evaluate=evaluate,
        out=out,
        settings=settings,
        progress=progress,
        mesh=schedule.mesh,
    )
    tell(1.0, 0.0 if begun else 1.0)
    return result


def starts(init: Callable[[PRNGKeyArray], Any], seed: int, count: int) -> Any:
    """Returns the parameters that seeds start from, leaves `[S, ...]`."""

    def draw(key: PRNGKeyArray) -> Any:
        keys = jax.random.split(jax.random.fold_in(key, INIT_KEY), count)
        return lax.map(lambda one: init(cheap_key(one)), keys)

    return compiled_once(draw)(jax.random.key(seed))


def _total(
    loss: Callable[[Any, Any, PRNGKeyArray], Array], seeds: int, mesh: Mesh | None
) -> Callable[[Any, Any, PRNGKeyArray], tuple[Array, dict[str, Array]]]:
    each = losses_of(loss)

    def total(
        params: Any, batch: Any, key: PRNGKeyArray
    ) -> tuple[Array, dict[str, Array]]:
        parts = apart(batch, seeds, mesh)
        losses = each(params, parts, jax.random.split(cheap_key(key), seeds))
        # A sum: every seed has the gradient that it would have alone.
        return jnp.sum(losses), {"mean": jnp.mean(losses)}

    return total


def losses_of(
    loss: Callable[[Any, Any, PRNGKeyArray], Array],
) -> Callable[[Any, Any, Any], Array]:
    """Returns the losses of all seeds, `[S]`, one seed after the other.

    Each seed goes forward and back before the next one: the gradient of a loop would
    store what every seed computed on its way, which takes half as long again.
    """

    @jax.custom_vjp
    def losses(params: Any, parts: Any, keys: Any) -> Array:
        return lax.map(lambda seed: loss(*seed), (params, parts, keys))

    def forward(params: Any, parts: Any, keys: Any) -> tuple[Array, Any]:
        both = jax.value_and_grad(loss)
        return lax.map(lambda seed: both(*seed), (params, parts, keys))

    def backward(grads: Any, weights: Array) -> tuple[Any, None, None]:
        def weighed(grad: Array) -> Array:
            return grad * weights.reshape(-1, *(1,) * (grad.ndim - 1))

        return jax.tree.map(weighed, grads), None, None

    losses.defvjp(forward, backward)
    return losses


def about(result: train.FitResult) -> dict[str, Any]:
    """Returns what `metrics.json` says of a training: its best step and all others."""
    return {
        "best_step": result.best_step,
        "validation": {row["step"]: row["eval"] for row in result.history},
    }


def num_params(params: Any) -> int:
    """Returns the trainable parameters of one seed, of leaves `[S, ...]`."""
    return sum(leaf[0].size for leaf in jax.tree.leaves(params))


def optimizer(schedule: Schedule) -> optax.GradientTransformation:
    """Returns AdamW for parameters `[S, ...]`; every seed clips by itself."""
    warmup = max(schedule.steps // 10, 1)
    top, steps = schedule.learning_rate, max(schedule.steps, warmup + 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, top, warmup, steps, 0.02 * top)

    def decayed(params: Any) -> Any:
        return jax.tree.map(lambda p: p.ndim > 2, params)

    one = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, b2=0.99, weight_decay=schedule.weight_decay, mask=decayed),
    )
    # Each seed clips and averages by itself.
    return optax.GradientTransformation(
        jax.vmap(one.init), jax.vmap(one.update, in_axes=(0, 0, 0))
    )


def scores_of(
    reader: Reader, options: dict[str, str] | None = None
) -> Callable[[Any, Any], np.ndarray]:
    """Returns `(params [S, ...], prepared) -> scores [S, B, K]`, in their dtype.

    Args:
        reader: of the row.
        options: of the compiler.
    """

    @functools.partial(jax.jit, compiler_options=options)
    def chunk(params: Any, prepared: Any) -> Array:
        one = lax.map(lambda p: reader.scores(p, prepared, None), params)
        return one.swapaxes(0, 1)

    def scores(params: Any, prepared: Any) -> np.ndarray:
        wide = any(leaf.dtype == np.float64 for leaf in jax.tree.leaves(params))
        with jax.enable_x64(wide):
            found = in_chunks(lambda x: chunk(params, x), prepared, mesh=reader.mesh)
            return found.swapaxes(0, 1)

    return scores


def widened(params: Any) -> Any:
    """Returns parameters in float64, as NumPy arrays: for answers on moved weights."""
    return jax.tree.map(np.float64, fetch(params))
