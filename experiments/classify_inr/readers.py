"""The metanetworks: classifiers by kind, with and without probes, and flat MLPs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments import seeds
from experiments.classify_inr import warps
from experiments.classify_inr.config import Config
from experiments.classify_inr.evaluate import Row, labels_of, thetas_of
from experiments.devices import mesh_of
from experiments.predict_accuracy.chunks import cast
from qejax import models, nets, train, zoo
from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.nets import Network
from qejax.spaces import canonical_form

WIDTHS = (256, 128)
"""Of the hidden layers of MLPs."""


class Flat(models.FlatMLP):
    """An MLP on flat weights, as they are or in normal form."""

    def __init__(
        self,
        network: Network,
        classes: int,
        *,
        normal: bool,
        dropout: float,
        rngs: nnx.Rngs,
    ) -> None:
        spec = network.spec
        super().__init__(spec, WIDTHS, outputs=classes, dropout=dropout, rngs=rngs)
        self.normal = normal

    def measure(self, theta: Theta) -> dict[str, Any]:
        """Returns the flat entries of one network."""
        read = canonical_form(self.spec, theta).theta if self.normal else theta
        return super().measure(read)


@dataclass(frozen=True)
class Kind:
    """One row before it is trained.

    Attributes:
        name: of the row.
        model: what it is, in words.
        build: `(network, classes, config, rngs) -> module`.
        probes: whether it runs the networks.
        steps: field of the config that says for how many steps it is trained.
        warped: whether it learns from signals that are turned, zoomed and shifted anew
            in every step.
    """

    name: str
    model: str
    build: Callable[[Network, int, Config, nnx.Rngs], Any]
    probes: bool = False
    steps: str = "steps"
    warped: bool = False


def _classifier(
    quasi: models.Quasi,
    size: str,
    probes: bool = False,
    waves: bool = True,
    heads: bool = False,
) -> Callable[[Network, int, Config, nnx.Rngs], models.Classifier]:
    def build(
        network: Network, classes: int, config: Config, rngs: nnx.Rngs
    ) -> models.Classifier:
        choices = models.ClassifierConfig(
            depth=config.depth,
            waves=config.waves if waves else 0,
            heads=config.heads if heads else 0,
            probes=config.probes if probes else 0,
            hidden=config.hidden,
            dropout=config.dropout,
        )
        return models.Classifier(
            network.spec,
            classes,
            getattr(config, size) if size else 0,
            quasi,
            network=network,
            config=choices,
            rngs=rngs,
        )

    return build


def _flat(normal: bool) -> Callable[[Network, int, Config, nnx.Rngs], Flat]:
    return lambda network, classes, config, rngs: Flat(
        network, classes, normal=normal, dropout=config.dropout, rngs=rngs
    )


KINDS = {
    row.name: row
    for row in (
        Kind(
            "signed",
            "messages that keep signs, frequencies of weights",
            _classifier("signed", "channels"),
        ),
        Kind(
            "canonical",
            "message passing on the normal form",
            _classifier("canonical", "graph_channels"),
        ),
        Kind(
            "relative",
            "quasi-equivariant, relative alpha",
            _classifier("relative", "relative_channels"),
            steps="layer_steps",
        ),
        Kind(
            "gauge",
            "quasi-equivariant, the paper's shared alpha",
            _classifier("gauge", "layer_channels"),
            steps="layer_steps",
        ),
        Kind(
            "strict",
            "strictly equivariant layers",
            _classifier("strict", "layer_channels"),
            steps="layer_steps",
        ),
        Kind("mlp_canonical", "MLP on the normal form", _flat(normal=True)),
        Kind("mlp_raw", "MLP on raw weights", _flat(normal=False)),
        Kind(
            "probes",
            "MLP on values at learned coordinates",
            _classifier("signed", "", probes=True),
            probes=True,
            steps="probe_steps",
        ),
        Kind(
            "signed_plain",
            "messages that keep signs",
            _classifier("signed", "channels", waves=False),
        ),
        Kind(
            "signed_attention",
            "messages weighted by attention over units",
            _classifier("signed", "attention_channels", heads=True),
        ),
        Kind(
            "signed_warped",
            "as signed, also learned from moved signals",
            _classifier("signed", "channels"),
            warped=True,
        ),
        Kind(
            "signed_probes",
            "as signed, with values at learned coordinates",
            _classifier("signed", "channels", probes=True),
            probes=True,
        ),
        Kind(
            "signed_probes_warped",
            "as signed_probes, also learned from moved signals",
            _classifier("signed", "channels", probes=True),
            probes=True,
            warped=True,
        ),
        Kind(
            "probes_warped",
            "as probes, also learned from moved signals",
            _classifier("signed", "", probes=True),
            probes=True,
            steps="probe_steps",
            warped=True,
        ),
    )
}
"""Rows by name."""


def train_row(
    kind: Kind,
    fits: zoo.Zoo,
    config: Config,
    out: Path,
    tell: Callable[[float, float], None],
) -> Row:
    """Trains the seeds of a row, or reads what an earlier run trained.

    Args:
        kind: what to train.
        fits: the zoo; its training and validation splits are read.
        config: of the run.
        out: where the checkpoints of this row lie.
        tell: takes the share of the steps that are done, and the share that an earlier
            run had done.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with the state saved.
    """
    truth = labels_of(fits, "train")
    classes = int(truth.max()) + 1

    def build(rngs: nnx.Rngs) -> Any:
        return kind.build(fits.network, classes, config, rngs)

    thetas = thetas_of(fits, "train")
    reader = seeds.make_reader(build, thetas, truth, mesh_of(config))
    read, loss = reader.training, seeds.of_scores(reader, _loss)
    if kind.warped:
        read = cast(thetas, np.float32)
        loss = _of_warped(reader, fits.network, config)
    scores = seeds.scores_of(reader)
    prepared = cast(reader.prepare(thetas_of(fits, "val")), np.float32)
    known = labels_of(fits, "val")

    def evaluate(params: Any) -> dict[str, float]:
        found = scores(params, prepared)
        right = [train.accuracy(known, one) for one in found]
        return {"accuracy": float(np.mean(right))}

    schedule = seeds.Schedule(
        config.seeds,
        config.seed,
        getattr(config, kind.steps),
        config.batch,
        config.evaluate_every,
        config.learning_rate,
        config.weight_decay,
        select="accuracy",
        mesh=mesh_of(config),
    )
    result = seeds.fit_seeds(
        reader.init,
        {"prepared": read, "class": truth.astype(np.int32)},
        loss,
        schedule,
        evaluate,
        out,
        {"row": kind.name},
        tell,
    )
    params = seeds.widened(result.params)
    return Row(
        name=kind.name,
        model=kind.model,
        probes=kind.probes,
        params=seeds.num_params(params),
        answer=lambda thetas: scores(params, reader.prepare(thetas)),
        extra=seeds.about(result),
    )


def _of_warped(
    reader: seeds.Reader, network: Network, config: Config
) -> Callable[[Any, Any, PRNGKeyArray], Array]:
    """The loss of one seed on moved signals, drawn anew; weights are "prepared"."""
    (axes,) = models.input_shape(network)

    def loss(params: Any, part: Any, key: PRNGKeyArray) -> Array:
        own, other = jax.random.split(key)

        def read(key: PRNGKeyArray, theta: Theta) -> Any:
            matrix, shift = warps.draw(key, axes, config)
            return reader.read(nets.warp(network, theta, matrix, shift))

        keys = jax.random.split(own, len(part["class"]))
        prepared = jax.vmap(read)(keys, part["prepared"])
        return _loss(reader.scores(params, prepared, other), part)

    return loss


def _loss(scores: Array, labels: Any) -> Array:
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels["class"])
    return jnp.mean(losses)
