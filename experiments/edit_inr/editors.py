"""Trains the editors of one row on one edit, all seeds in one program."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

from experiments.edit_inr.config import Config
from experiments.edit_inr.images import Subject
from experiments.predict_accuracy.chunks import (
    UNOPTIMISED,
    cast,
    compiled_once,
    in_chunks,
)
from experiments.predict_accuracy.train import cheap_key
from qejax import nets, spaces, train
from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.models import Editor, EditorConfig

INIT_KEY, MOVE_KEY = 31, 43
"""Folded into the seed for the parameters at the start, and for what moves networks."""


@dataclass(frozen=True)
class Pure:
    """An editor as pure functions, its constants fitted.

    Attributes:
        init: `key -> params`.
        edit: `(params, prepared) -> theta`, of one network.
        prepare: of one network; nothing trained.
    """

    init: Callable[[PRNGKeyArray], Any]
    edit: Callable[[Any, Any], Theta]
    prepare: Callable[[Theta], Any]


@dataclass(frozen=True)
class Trained:
    """The editors of one row on one edit.

    Attributes:
        pure: their functions.
        params: leaves `[S, ...]`.
        num_params: trainable parameters of one.
        validation: mean squared error in [0, 1] by step.
        best_step: that was kept.
    """

    pure: Pure
    params: Any
    num_params: int
    validation: Mapping[int, Any]
    best_step: int


def make_pure(row: str, subject: Subject, config: Config) -> tuple[Pure, Any]:
    """Returns the functions of a row, and what it reads of the training split.

    Constants come from the training split.
    """
    kind: Any = row
    choices = EditorConfig(depth=config.depth, waves=config.waves)

    def build(rngs: nnx.Rngs) -> Editor:
        spec = subject.network.spec
        return Editor(spec, config.width(row), kind, config=choices, rngs=rngs)

    graph, shapes, _ = nnx.split(
        nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param, ...
    )
    # Nothing that is measured depends on the parameters, so those can be zeros.
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    constants = compiled_once(lambda: nnx.split(build(nnx.Rngs(0)), nnx.Param, ...)[2])
    module = nnx.merge(graph, zeros, constants())
    prepare = compiled_once(jax.vmap(module.prepare))
    prepared = in_chunks(prepare, subject.splits["train"].thetas)
    module.fit_scale(prepared["features"])
    graph, _, fitted = nnx.split(module, nnx.Param, ...)

    def init(key: PRNGKeyArray) -> Any:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param))

    def edit(params: Any, one: Any) -> Theta:
        return nnx.merge(graph, params, fitted).edit(one)

    return Pure(init, edit, module.prepare), prepared


def train_row(
    row: str,
    edit: str,
    subject: Subject,
    config: Config,
    out: Path,
    tell: Callable[[float, float], None],
) -> Trained:
    """Trains the seeds of a row on one edit, or reads what an earlier run trained.

    Args:
        row: kind of the editor.
        edit: what it should do.
        subject: its training and validation splits are read.
        config: of the run.
        out: where the checkpoints of this row and edit lie.
        tell: takes the share of the steps that are done, and the share that an earlier
            run had done.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    pure, prepared = make_pure(row, subject, config)
    data = {
        "prepared": prepared,
        "target": subject.splits["train"].target(edit, config.shape),
    }
    share = min(config.batch, len(data["target"]) // config.seeds)
    begun: list[float] = []

    def progress(report: train.Progress) -> None:
        begun.append((report.step - 1) / report.steps)
        tell(report.step / report.steps, max(begun[0], 0.0))

    def init(key: PRNGKeyArray) -> Any:
        keys = jax.random.split(jax.random.fold_in(key, INIT_KEY), config.seeds)
        return lax.map(lambda one: pure.init(cheap_key(one)), keys)

    result = train.fit(
        _loss(pure, subject, config),
        compiled_once(init)(jax.random.key(config.seed)),
        data,
        train.FitConfig(
            steps=config.steps,
            batch_size=share * config.seeds,
            eval_every=config.evaluate_every,
            seed=config.seed,
            select="mse",
            mode="min",
            ema=0.99,
        ),
        optimizer=_optimizer(config),
        evaluate=_evaluate(pure, edit, subject, config),
        out=out,
        settings={"row": row, "edit": edit},
        progress=progress,
    )
    tell(1.0, 0.0 if begun else 1.0)
    params = jax.tree.map(np.asarray, result.params)
    return Trained(
        pure=pure,
        params=params,
        num_params=sum(leaf[0].size for leaf in jax.tree.leaves(params)),
        validation={line["step"]: line["eval"] for line in result.history},
        best_step=result.best_step,
    )


def rendered(pure: Pure, subject: Subject, config: Config) -> Callable[..., np.ndarray]:
    """Returns `(params [S, ...], thetas [B, ...]) -> images [B, S, N, c]`, compiled."""
    grid = nets.grid(*config.shape)

    @jax.jit
    def chunk(params: Any, thetas: Theta) -> Array:
        def one(theta: Theta) -> Array:
            prepared = pure.prepare(theta)
            return lax.map(
                lambda p: subject.render(pure.edit(p, prepared), grid), params
            )

        return jax.vmap(one)(thetas)

    def draw(params: Any, thetas: Theta) -> np.ndarray:
        return in_chunks(lambda part: chunk(params, part), thetas)

    return draw


def function_gap(trained: Trained, subject: Subject, config: Config) -> float:
    """Returns how far edits of one function by two sets of weights are from another.

    The largest difference of a pixel in float64, over test networks and seeds, in
    standard deviations of the pixels.
    """
    thetas = subject.splits["test"].thetas
    count = min(config.moved, len(jax.tree.leaves(thetas)[0]))
    spec, grid = subject.network.spec, nets.grid(*config.shape)
    pure = trained.pure

    def both(key: PRNGKeyArray, theta: Theta, params: Any) -> tuple[Array, Array]:
        dtype = jax.tree.leaves(theta)[0].dtype
        g = spaces.sample(key, spec, config.spread, dtype)
        sides = [theta, spaces.act(spec, g, theta)]

        def draw(params: Any, theta: Theta) -> Array:
            return subject.render(pure.edit(params, pure.prepare(theta)), grid)

        one, other = (
            lax.map(lambda p, side=side: draw(p, side), params) for side in sides
        )
        return one, other

    with jax.enable_x64(True):
        key = jax.random.fold_in(jax.random.key(config.seed), MOVE_KEY)
        some = cast(jax.tree.map(lambda leaf: leaf[:count], thetas), np.float64)
        program = jax.jit(
            jax.vmap(both, (0, 0, None)), compiler_options=dict(UNOPTIMISED)
        )
        wide = cast(trained.params, np.float64)
        one, other = jax.device_get(program(jax.random.split(key, count), some, wide))
    return float(np.max(np.abs(one - other)) / np.std(one))


def _loss(
    pure: Pure, subject: Subject, config: Config
) -> Callable[[Any, Any, PRNGKeyArray], tuple[Array, dict[str, Array]]]:
    grid, seeds = nets.grid(*config.shape), config.seeds

    def loss(
        params: Any, batch: Any, key: PRNGKeyArray
    ) -> tuple[Array, dict[str, Array]]:
        size = len(batch["target"]) // seeds
        parts = jax.tree.map(lambda a: a.reshape(seeds, size, *a.shape[1:]), batch)

        def one(seed: Any) -> Array:
            params, part, key = seed
            x, y = grid, part["target"]
            if 0 < config.points < len(grid):
                chosen = jax.random.randint(key, (config.points,), 0, len(grid))
                x, y = grid[chosen], y[:, chosen]
            images = jax.vmap(lambda p: subject.render(pure.edit(params, p), x))(
                part["prepared"]
            )
            return jnp.mean((images - y) ** 2)

        keys = jax.random.split(cheap_key(key), seeds)
        losses = lax.map(one, (params, parts, keys))
        # A sum: every seed has the gradient that it would have alone.
        return jnp.sum(losses), {"mean": jnp.mean(losses)}

    return loss


def _optimizer(config: Config) -> optax.GradientTransformation:
    warmup = max(config.steps // 10, 1)
    top, steps = config.learning_rate, max(config.steps, warmup + 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, top, warmup, steps, 0.02 * top)
    one = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.99, weight_decay=0)
    )
    # Each seed clips by itself.
    return optax.GradientTransformation(
        jax.vmap(one.init), jax.vmap(one.update, in_axes=(0, 0, 0))
    )


def _evaluate(
    pure: Pure, edit: str, subject: Subject, config: Config
) -> Callable[[Any], dict[str, float]]:
    draw = rendered(pure, subject, config)
    images = subject.splits["val"]
    target = images.target(edit, config.shape)

    def evaluate(params: Any) -> dict[str, float]:
        return {"mse": float(errors(draw(params, images.thetas), target).mean())}

    return evaluate


def errors(images: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns mean squared errors in [0, 1] by seed, `[S]`.

    Args:
        images: `[B, S, N, c]`.
        target: `[B, N, c]`.
    """
    square = (images.astype(np.float64) - target[:, None]) ** 2
    return square.mean(axis=(0, 2, 3))
