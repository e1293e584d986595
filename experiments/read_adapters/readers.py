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

from experiments import seeds
from experiments.devices import mesh_of
from experiments.predict_accuracy.chunks import cast
from experiments.predict_accuracy.objective import pairwise_loss
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
from experiments.seeds import Reader
from qejax import layers, models, spaces, zoo
from qejax._typing import Array, Theta
from qejax.spaces import WeightSpec

IMAGES = 797
"""Over which test accuracies were measured."""

COPIES = 4
"""An MLP with copies reads each training adapter as it is and moved three times."""

COPY_KEY = 45
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


def make_reader(kind: Kind, adapters: zoo.Zoo, config: Config) -> tuple[Reader, Truth]:
    """Returns the pure functions of a row, and what is known of what it trains on."""
    spec, heads = adapters.network.spec, len(config.tasks) + 1
    thetas, truth = thetas_of(adapters, "train"), truth_of(adapters, "train")
    if kind.copies:
        thetas, truth = _with_copies(spec, thetas, truth, config)

    def build(rngs: nnx.Rngs) -> Any:
        return kind.build(spec, heads, config, rngs)

    return seeds.make_reader(build, thetas, truth.accuracy, mesh_of(config)), truth


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
    reader, truth = make_reader(kind, adapters, config)
    data = {
        "prepared": reader.training,
        "task": truth.task.astype(np.int32),
        "accuracy": truth.accuracy.astype(np.float32),
    }
    schedule = seeds.Schedule(
        config.seeds,
        config.seed,
        config.steps,
        config.batch,
        config.evaluate_every,
        config.learning_rate,
        weight_decay=0.1,
        select="both",
        mesh=mesh_of(config),
    )
    result = seeds.fit_seeds(
        reader.init,
        data,
        seeds.of_scores(reader, _loss),
        schedule,
        _evaluate(reader, adapters),
        out,
        {"row": kind.name},
        tell,
    )
    params, answer = seeds.widened(result.params), _answer(reader)
    return Row(
        name=kind.name,
        model=kind.model,
        params=seeds.num_params(params),
        answer=lambda thetas: answer(params, reader.prepare(thetas)),
        extra=seeds.about(result),
    )


def _loss(scores: Array, labels: Any) -> Array:
    logits, score = scores[:, :-1], scores[:, -1]
    task = optax.softmax_cross_entropy_with_integer_labels(logits, labels["task"])
    return task.mean() + pairwise_loss(score, labels["accuracy"], IMAGES)


def _answer(reader: Reader) -> Callable[[Any, Any], Answer]:
    """From parameters `[S, ...]` and what was prepared to answers, in their dtype."""
    scores = seeds.scores_of(reader)

    def answer(params: Any, prepared: Any) -> Answer:
        found = scores(params, prepared)
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
