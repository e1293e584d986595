"""The metanetworks: predictors by kind, and MLPs that know less of the symmetry.

A metanetwork has `K + 1` heads: `K` logits of the task, and a score of how well the
adapter was trained. Both questions are trained at once, on one trunk. All seeds of a
row are trained by one program, each on its own share of every epoch; the step that is
kept is the one where the mean over seeds of accuracy and tau on the validation split
is best.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

from experiments.predict_accuracy.chunks import (
    UNOPTIMISED,
    cast,
    chunked,
    compiled_once,
    in_chunks,
)
from experiments.predict_accuracy.objective import pairwise_loss
from experiments.predict_accuracy.train import cheap_key
from experiments.read_adapters.config import Config
from experiments.read_adapters.evaluate import (
    Answer,
    Row,
    Truth,
    grade,
    move,
    thetas_of,
    truth_of,
)
from qejax import layers, models, spaces, train, zoo
from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.spaces import WeightSpec

IMAGES = 797
"""Over which test accuracies were measured."""

COPIES = 4
"""An MLP with copies reads each training adapter as it is and moved three times."""

INIT_KEY, COPY_KEY = 44, 45
"""Folded into the seed."""

WIDTHS = (128, 64)
"""Of the hidden layers of MLPs."""


Entries = Literal["weights", "normal", "products"]
"""What an MLP reads: the factors as they are, their normal form, or the products `a b`,
which are all that a network sees of its adapters."""


class Flat(models.FlatMLP):
    """An MLP on flat entries that answers both questions."""

    def __init__(
        self,
        spec: WeightSpec,
        outputs: int,
        *,
        entries: Entries,
        dropout: float,
        rngs: nnx.Rngs,
    ) -> None:
        bonds = layers.Bonds(spec, 1, rngs=rngs)
        read = bonds.spec if entries == "products" else spec
        super().__init__(read, WIDTHS, outputs=outputs, dropout=dropout, rngs=rngs)
        self.given, self.entries, self.bonds = spec, entries, bonds

    def measure(self, theta: Theta) -> dict[str, Any]:
        """Returns the flat entries of one network."""
        if self.entries == "weights":
            return super().measure(theta)
        if self.entries == "normal":
            return super().measure(spaces.canonical_form(self.given, theta).theta)
        found = self.bonds(layers.features(self.given, theta))
        return {"flat": jnp.concatenate([x.reshape(-1) for x in found.values()])}


@dataclass(frozen=True)
class Kind:
    """One row before it is trained.

    Attributes:
        name: of the row.
        model: what it is, in words.
        build: `(spec, heads, config, rngs) -> module`.
        copies: whether training adapters come with moved copies.
    """

    name: str
    model: str
    build: Callable[[WeightSpec, int, Config, nnx.Rngs], Any]
    copies: bool = False


def kinds(config: Config) -> list[Kind]:
    """Returns the metanetworks of a run, in the order of the table."""
    known = [
        *(Kind(name, words, _predictor(name)) for name, words in _WORDS.items()),
        Kind("mlp_products", "MLP on the products a b", _flat("products")),
        Kind("mlp_canonical", "MLP on the normal form", _flat("normal")),
        Kind("mlp_raw", "MLP on raw weights", _flat("weights")),
        Kind("mlp_raw_copies", "the same, moved copies", _flat("weights"), copies=True),
    ]
    return [kind for kind in known if kind.name in config.rows]


_WORDS: dict[models.Quasi, str] = {
    "strict": "strictly equivariant layers",
    "gauge": "the paper's shared group-valued map",
    "relative": "relative group-valued map",
    "canonical": "message passing on the normal form",
}


def _predictor(quasi: models.Quasi) -> Callable[..., models.Predictor]:
    def build(
        spec: WeightSpec, heads: int, config: Config, rngs: nnx.Rngs
    ) -> models.Predictor:
        normal = quasi == "canonical"
        choices = models.PredictorConfig(
            depth=config.rounds if normal else config.layers,
            heads=heads,
            dropout=(config.dropout, config.dropout),
        )
        channels = config.canonical_channels if normal else config.channels
        return models.Predictor(spec, channels, quasi, config=choices, rngs=rngs)

    return build


def _flat(entries: Entries) -> Callable[..., Flat]:
    def build(spec: WeightSpec, heads: int, config: Config, rngs: nnx.Rngs) -> Flat:
        rate = config.dropout
        return Flat(spec, heads, entries=entries, dropout=rate, rngs=rngs)

    return build


@dataclass(frozen=True)
class Reader:
    """A metanetwork as pure functions, its constants fitted.

    Attributes:
        init: `key -> params`.
        scores: `(params, prepared [B, ...], key or None) -> [B, K + 1]`.
        prepare: from weights to what it reads of them, float64; nothing trained.
        training: what it reads of the training adapters, and what is known of them.
    """

    init: Callable[[PRNGKeyArray], Any]
    scores: Callable[[Any, Any, PRNGKeyArray | None], Array]
    prepare: Callable[[Theta], Any]
    training: tuple[Any, Truth]


def make_reader(kind: Kind, adapters: zoo.Zoo, config: Config) -> Reader:
    """Returns the pure functions of a row; constants come from the training split."""
    spec, heads = adapters.network.spec, len(config.tasks) + 1

    def build(rngs: nnx.Rngs) -> Any:
        return kind.build(spec, heads, config, rngs)

    def init(key: PRNGKeyArray) -> Any:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param))

    graph, shapes, _ = nnx.split(
        nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param, ...
    )
    # Nothing that is measured depends on the parameters, so those can be zeros.
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    constants = compiled_once(lambda: nnx.split(build(nnx.Rngs(0)), nnx.Param, ...)[2])
    module = nnx.merge(graph, zeros, constants())
    thetas, truth = thetas_of(adapters, "train"), truth_of(adapters, "train")
    if kind.copies:
        thetas, truth = _with_copies(spec, thetas, truth, config)
    measure = chunked(module.measure, options=UNOPTIMISED)
    with jax.enable_x64(True):
        prepared = module.calibrate(measure(thetas), truth.accuracy)
        prepared = cast(prepared, np.float32)
    graph, _, fitted = nnx.split(module, nnx.Param, ...)
    standardise = chunked(module.standardise, options=UNOPTIMISED)

    def scores(params: Any, prepared: Any, key: PRNGKeyArray | None) -> Array:
        model = nnx.merge(graph, params, fitted)
        if key is None:
            return jax.vmap(lambda one: model.scores(one, None))(prepared)
        keys = jax.random.split(key, len(jax.tree.leaves(prepared)[0]))
        return jax.vmap(model.scores)(prepared, keys)

    return Reader(
        init, scores, lambda thetas: standardise(measure(thetas)), (prepared, truth)
    )


def _with_copies(
    spec: WeightSpec, thetas: Theta, truth: Truth, config: Config
) -> tuple[Theta, Truth]:
    key = jax.random.fold_in(jax.random.key(config.seed), COPY_KEY)
    rest = jax.tree.map(lambda leaf: np.concatenate([leaf] * (COPIES - 1)), thetas)
    moved = move(key, spec, rest, config.spread)
    copies = jax.tree.map(lambda *leaves: np.concatenate(leaves), thetas, moved)
    return copies, Truth(*(np.tile(column, COPIES) for column in truth))


def train_row(
    kind: Kind,
    adapters: zoo.Zoo,
    config: Config,
    out: Path,
    tell: Callable[[float, float], None],
) -> Row:
    """Trains the seeds of a row, or reads what an earlier run trained.

    Args:
        kind: what to train.
        adapters: the zoo; its training and validation splits are read.
        config: of the run.
        out: where the checkpoints of this row lie.
        tell: takes the share of the steps that are done, and the share that an earlier
            run had done.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    reader = make_reader(kind, adapters, config)
    prepared, truth = reader.training
    data = {
        "prepared": prepared,
        "task": truth.task.astype(np.int32),
        "accuracy": truth.accuracy.astype(np.float32),
    }
    share = min(config.batch, len(truth.task) // config.seeds)
    begun: list[float] = []

    def progress(report: train.Progress) -> None:
        begun.append((report.step - 1) / report.steps)
        tell(report.step / report.steps, max(begun[0], 0.0))

    def init(key: PRNGKeyArray) -> Any:
        keys = jax.random.split(jax.random.fold_in(key, INIT_KEY), config.seeds)
        return lax.map(lambda one: reader.init(cheap_key(one)), keys)

    result = train.fit(
        _loss(reader, config.seeds),
        compiled_once(init)(jax.random.key(config.seed)),
        data,
        train.FitConfig(
            steps=config.steps,
            batch_size=share * config.seeds,
            eval_every=config.evaluate_every,
            seed=config.seed,
            select="both",
            ema=0.99,
        ),
        optimizer=_optimizer(config),
        evaluate=_evaluate(reader, adapters),
        out=out,
        settings={"row": kind.name},
        progress=progress,
    )
    tell(1.0, 0.0 if begun else 1.0)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), result.params)
    answer = _answer(reader)

    return Row(
        name=kind.name,
        model=kind.model,
        params=sum(leaf[0].size for leaf in jax.tree.leaves(params)),
        answer=lambda thetas: answer(params, reader.prepare(thetas)),
        extra={
            "best_step": result.best_step,
            "validation": {row["step"]: row["eval"] for row in result.history},
        },
    )


def _loss(
    reader: Reader, seeds: int
) -> Callable[[Any, Any, PRNGKeyArray], tuple[Array, dict[str, Array]]]:
    def loss(
        params: Any, batch: Any, key: PRNGKeyArray
    ) -> tuple[Array, dict[str, Array]]:
        size = len(batch["task"]) // seeds
        parts = jax.tree.map(lambda a: a.reshape(seeds, size, *a.shape[1:]), batch)

        def one(seed: Any) -> Array:
            params, part, key = seed
            scores = reader.scores(params, part["prepared"], key)
            logits, score = scores[:, :-1], scores[:, -1]
            task = optax.softmax_cross_entropy_with_integer_labels(logits, part["task"])
            return task.mean() + pairwise_loss(score, part["accuracy"], IMAGES)

        keys = jax.random.split(cheap_key(key), seeds)
        losses = lax.map(one, (params, parts, keys))
        # A sum: every seed has the gradient that it would have alone.
        return jnp.sum(losses), {"mean": jnp.mean(losses)}

    return loss


def _optimizer(config: Config) -> optax.GradientTransformation:
    warmup = max(config.steps // 10, 1)
    top, steps = config.learning_rate, max(config.steps, warmup + 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, top, warmup, steps, 0.02 * top)

    def decayed(params: Any) -> Any:
        return jax.tree.map(lambda p: p.ndim > 2, params)

    one = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.99, weight_decay=0.1, mask=decayed),
    )
    # Each seed clips and averages by itself.
    return optax.GradientTransformation(
        jax.vmap(one.init), jax.vmap(one.update, in_axes=(0, 0, 0))
    )


def _answer(reader: Reader) -> Callable[[Any, Any], Answer]:
    """From parameters `[S, ...]` and what was prepared to answers, in their dtype."""

    @jax.jit
    def chunk(params: Any, prepared: Any) -> Array:
        one = lax.map(lambda p: reader.scores(p, prepared, None), params)
        return one.swapaxes(0, 1)

    def answer(params: Any, prepared: Any) -> Answer:
        wide = any(leaf.dtype == np.float64 for leaf in jax.tree.leaves(params))
        with jax.enable_x64(wide):
            found = in_chunks(lambda x: chunk(params, x), prepared).swapaxes(0, 1)
        logits = np.asarray(found[..., :-1], np.float64)
        total = np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        return Answer(logits - total, np.asarray(found[..., -1], np.float64))

    return answer


def _evaluate(reader: Reader, adapters: zoo.Zoo) -> Callable[[Any], dict[str, float]]:
    prepared = cast(reader.prepare(thetas_of(adapters, "val")), np.float32)
    truth, answer = truth_of(adapters, "val"), _answer(reader)

    def evaluate(params: Any) -> dict[str, float]:
        graded = grade(truth, answer(params, prepared))
        mean = {name: float(np.mean(values)) for name, values in graded.items()}
        return mean | {"both": (mean["task_accuracy"] + mean["kendall_tau"]) / 2}

    return evaluate
