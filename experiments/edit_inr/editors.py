"""Trains the editors of one row on one edit, all seeds in one program."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from experiments import seeds
from experiments.devices import mesh_of
from experiments.edit_inr.config import Config
from experiments.edit_inr.images import Subject
from experiments.orbits import move
from experiments.predict_accuracy.chunks import (
    UNOPTIMISED,
    cast,
    compiled_once,
    in_chunks,
)
from qejax import nets, spaces
from qejax._devices import fetch
from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.models import Editor, EditorConfig
from qejax.spaces import WeightSpec

MOVE_KEY = 43
"""Folded into the seed for what moves networks."""


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


def make_editor(row: str, spec: WeightSpec, config: Config, rngs: nnx.Rngs) -> Editor:
    """Returns the editor of a row, untrained."""
    kind: Any = row
    choices = EditorConfig(depth=config.depth, waves=config.waves)
    return Editor(spec, config.width(row), kind, config=choices, rngs=rngs)


def make_pure(row: str, subject: Subject, config: Config) -> tuple[Pure, Any]:
    """Returns the functions of a row, and what it reads of the training split.

    Constants come from the training split.
    """

    def build(rngs: nnx.Rngs) -> Editor:
        return make_editor(row, subject.network.spec, config, rngs)

    module = seeds.with_constants(build)
    prepare = compiled_once(jax.vmap(module.prepare))
    thetas = subject.splits["train"].thetas
    prepared = in_chunks(prepare, thetas, mesh=mesh_of(config))
    module.fit_scale(prepared["features"])
    graph, _, fitted = nnx.split(module, nnx.Param, ...)

    def edit(params: Any, one: Any) -> Theta:
        return nnx.merge(graph, params, fitted).edit(one)

    return Pure(seeds.start_of(build), edit, module.prepare), prepared


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
    schedule = seeds.Schedule(
        config.seeds,
        config.seed,
        config.steps,
        config.batch,
        config.evaluate_every,
        config.learning_rate,
        weight_decay=0.0,
        select="mse",
        mode="min",
        mesh=mesh_of(config),
    )
    result = seeds.fit_seeds(
        pure.init,
        data,
        _loss(pure, subject, config),
        schedule,
        _evaluate(pure, edit, subject, config),
        out,
        {"row": row, "edit": edit},
        tell,
    )
    params = fetch(result.params)
    return Trained(
        pure=pure,
        params=params,
        num_params=seeds.num_params(params),
        **seeds.about(result),
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
        return in_chunks(lambda part: chunk(params, part), thetas, mesh=mesh_of(config))

    return draw


def moved_test(subject: Subject, config: Config) -> Theta:
    """Returns other weights of all test networks, moved in float64, as float32."""
    key = jax.random.fold_in(jax.random.key(config.seed), MOVE_KEY)
    thetas = cast(subject.splits["test"].thetas, np.float64)
    return cast(move(key, subject.network.spec, thetas, config.spread), np.float32)


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
) -> Callable[[Any, Any, PRNGKeyArray], Array]:
    """Of one seed: the mean squared error at some coordinates, or at all."""
    grid = nets.grid(*config.shape)

    def loss(params: Any, part: Any, key: PRNGKeyArray) -> Array:
        x, y = grid, part["target"]
        if 0 < config.points < len(grid):
            chosen = jax.random.randint(key, (config.points,), 0, len(grid))
            x, y = grid[chosen], y[:, chosen]
        images = jax.vmap(lambda one: subject.render(pure.edit(params, one), x))(
            part["prepared"]
        )
        return jnp.mean((images - y) ** 2)

    return loss


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
