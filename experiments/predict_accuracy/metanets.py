"""The metanetworks of the table: which there are, and how each is built and trained."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from experiments.devices import mesh_of
from experiments.predict_accuracy.buckets import TRAIN, VALIDATION, Bucket
from experiments.predict_accuracy.chunks import (
    UNOPTIMISED,
    cast,
    chunked,
    compiled_once,
)
from experiments.predict_accuracy.config import Config
from experiments.predict_accuracy.evaluate import Row
from experiments.predict_accuracy.functions import OneScores, functions_of
from experiments.predict_accuracy.moved import move_zoo
from experiments.predict_accuracy.progress import Bars
from experiments.predict_accuracy.readings import Readings
from experiments.predict_accuracy.train import Model, Trained, train_bucket
from qejax import models
from qejax._typing import Array, PRNGKeyArray

COPIES, TOP = 4, 2.0
"""The flat MLP is trained on each network and 3 copies moved by scales `U[1, 2]`."""

STATISTICS, LAYERS = ((8.0, 0.006), (8.0, 0.006)), ((20.0, 0.02), (20.0, 0.25))
"""Seconds to compile and of a step of one seed, for metanetworks that read statistics
and for layers on the raw weights: small ones, and as large as the reported model."""

MOVE_KEY = 31
"""Folded into the seed for the copies."""


@dataclass(frozen=True)
class Metanet:
    """One kind of metanetwork.

    Attributes:
        name: of its row.
        model: what it is, in words.
        steps: optimiser steps.
        build: `(bucket, config, rngs) -> module`.
        scores: `(module, prepared, key) -> [K]`, of one network.
        probes: whether it runs the networks that it reads.
        augment: whether its training networks come with moved copies.
    """

    name: str
    model: str
    steps: int
    build: Callable[[Bucket, Config, nnx.Rngs], Any]
    scores: OneScores
    probes: bool = False
    augment: bool = False


def reported(
    probes: bool, **changed: Any
) -> Callable[[Bucket, Config, nnx.Rngs], models.Predictor]:
    """Returns how the reported model is built.

    Args:
        probes: whether it runs the networks that it reads.
        **changed: fields of its `PredictorConfig` that are not the usual ones.
    """

    def build(bucket: Bucket, config: Config, rngs: nnx.Rngs) -> models.Predictor:
        network = bucket.everything.network
        return models.Predictor(
            network.spec,
            config.channels,
            config.quasi,
            network=network,
            config=dataclasses.replace(_choices(bucket, config, probes), **changed),
            rngs=rngs,
        )

    return build


def _choices(bucket: Bucket, config: Config, probes: bool) -> models.PredictorConfig:
    return models.PredictorConfig(
        depth=config.depth,
        probes=config.probes if probes else 0,
        stream=config.stream if probes else 0,
        shape=bucket.everything.shape,
        dropout=(config.dropout, config.dropout),
        knots=config.knots,
        precision=config.precision,
    )


def _beside(
    quasi: models.Quasi,
) -> Callable[[Bucket, Config, nnx.Rngs], models.Predictor]:
    """Layers on the raw weights alone."""

    def build(bucket: Bucket, config: Config, rngs: nnx.Rngs) -> models.Predictor:
        spec = bucket.everything.network.spec
        small = models.PredictorConfig(
            depth=config.baseline_depth,
            dropout=(config.dropout, config.dropout),
            precision=config.precision,
        )
        channels = config.baseline_channels
        if channels == 0:
            channels, small = _equal(bucket, config, quasi, small)
        return models.Predictor(spec, channels, quasi, config=small, rngs=rngs)

    return build


def _equal(
    bucket: Bucket, config: Config, quasi: models.Quasi, given: models.PredictorConfig
) -> tuple[int, models.PredictorConfig]:
    """Returns the sizes that give as many parameters as the main model has."""
    size = models.num_parameters(lambda: reported(False)(bucket, config, nnx.Rngs(0)))
    spec = bucket.everything.network.spec
    return models.sizes_for(spec, quasi, size, config=given)


def _flat(bucket: Bucket, config: Config, rngs: nnx.Rngs) -> models.FlatMLP:
    spec = bucket.everything.network.spec
    return models.FlatMLP(
        spec, dropout=config.dropout, precision=config.precision, rngs=rngs
    )


def heads(module: Any, prepared: Any, key: PRNGKeyArray | None) -> Array:
    """Returns the score of every head, `[K]`."""
    return module.scores(prepared, key)


def _alone(module: Any, prepared: Any, key: PRNGKeyArray | None) -> Array:
    return module.read(prepared, key)[None]


_WORDS: dict[str, tuple[str, str]] = {
    "strict": ("strict", "strict monomial layers"),
    "gauge": ("paper_gauge_alpha", "quasi-equivariant, the paper's shared alpha"),
    "relative": ("relative", "quasi-equivariant, relative alpha"),
    "canonical": ("canonical", "message passing on the normal form"),
    "learned_gauge": (
        "learned_gauge",
        "message passing at a learned point of the orbit",
    ),
}
"""Row name and words by `quasi`."""


def metanets(config: Config) -> list[Metanet]:
    """Returns the metanetworks of a run, the two columns first."""
    steps = config.steps
    words = "normal form" if config.channels == 0 else _WORDS[config.quasi][1]
    words = f"{words}, exact statistics"
    with_probes = f"{words}, probes"
    rows = [
        Metanet("without_probes", words, steps, reported(False), heads),
        Metanet("with_probes", with_probes, steps, reported(True), heads, probes=True),
    ]
    for quasi in config.baseline_quasi:
        name, about = _WORDS[quasi]
        rows.append(Metanet(name, about, config.baseline_steps, _beside(quasi), heads))
    flat = "MLP on flat weights, moved copies"
    rows.append(Metanet("flat_mlp", flat, steps, _flat, _alone, augment=True))
    return rows


def estimate(net: Metanet, config: Config) -> float:
    """Seconds that one metanetwork takes on one bucket, measured on two cores."""
    layers = net.name in (_WORDS[kind][0] for kind in ("strict", "gauge", "relative"))
    compiling, step = (LAYERS if layers else STATISTICS)[config.baseline_channels == 0]
    return compiling + step * net.steps * config.seeds


def make_model(net: Metanet, bucket: Bucket, config: Config) -> Model:
    """Returns the pure functions of a metanetwork, its constants fitted.

    Constants (quantiles, templates, scales) come from the training split alone.
    """

    def build(rngs: nnx.Rngs) -> Any:
        return net.build(bucket, config, rngs)

    graph, *_ = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def init(key: PRNGKeyArray) -> Any:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key)), nnx.Param))

    # Compiled as a whole: one by one, the draws of all parameters take seconds.
    # Nothing that is measured depends on the parameters, so those can be zeros.
    _, shapes, _ = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param, ...)
    constants = compiled_once(lambda: nnx.split(build(nnx.Rngs(0)), nnx.Param, ...)[2])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    module = nnx.merge(graph, zeros, constants())
    training = bucket.readings(TRAIN)
    labels = bucket.accuracy(TRAIN)
    if net.augment:
        training, labels = _with_copies(training, config), np.tile(labels, COPIES)
    mesh = mesh_of(config)
    measure = _measure(module, mesh)
    with jax.enable_x64(True):
        prepared = cast(module.calibrate(measure(training), labels), np.float32)
    functions = functions_of(module, measure, net.scores, mesh)
    return Model(
        name=net.name,
        steps=net.steps,
        init=init,
        training=(prepared, np.asarray(labels, np.float32)),
        **functions._asdict(),
    )


def _measure(module: Any, mesh: Mesh | None) -> Callable[[Readings], Any]:
    """Returns what is exact about stacks of networks; what rows share is read once."""
    if not isinstance(module, models.Predictor):
        whole = chunked(module.measure, options=UNOPTIMISED, mesh=mesh)
        return lambda readings: whole(readings.thetas)
    names = (*module.config.statistics, *module.config.sketches)
    rest = chunked(lambda one: module.measure(*one), options=UNOPTIMISED, mesh=mesh)

    def measure(readings: Readings) -> Any:
        return rest((readings.thetas, {name: readings.known[name] for name in names}))

    return measure


def _with_copies(readings: Readings, config: Config) -> Readings:
    key = jax.random.fold_in(jax.random.key(config.seed), MOVE_KEY)
    spec = readings.network.spec
    versions = [readings.thetas] + [
        move_zoo(sub, spec, readings.thetas, TOP, permute=True)
        for sub in jax.random.split(key, COPIES - 1)
    ]
    return readings.replaced(
        jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *versions)
    )


def train_net(
    net: Metanet, buckets: list[Bucket], config: Config, bars: Bars
) -> dict[str, Trained]:
    """Trains a metanetwork on every bucket, or finds it trained; by bucket.

    Args:
        net: which.
        buckets: the zoo.
        config: of the run.
        bars: where progress goes; the row's name is a kind of its plan.
    """
    trained: dict[str, Trained] = {}
    for bucket in buckets:
        with bars.work(f"{net.name}, {bucket.name}", net.name) as piece:
            model = make_model(net, bucket, config)
            out = config.out / "ckpt"
            trained[bucket.name] = train_bucket(
                model, bucket, config, out, piece.advance
            )
    return trained


def make_row(net: Metanet, trained: dict[str, Trained], buckets: list[Bucket]) -> Row:
    """Returns the row of a trained metanetwork, with what alpha was told."""
    extra: dict[str, Any] = {}
    if net.name in (_WORDS["gauge"][0], _WORDS["relative"][0]):
        ratios = {b.name: _alpha_gradient(trained[b.name], b) for b in buckets}
        extra = {
            "alpha_gradient": max(ratios.values()),
            "alpha_gradient_by_bucket": ratios,
        }
    return Row(
        name=net.name,
        model=net.model,
        probes=net.probes,
        params=next(iter(trained.values())).num_params,
        predict={name: one.predictor() for name, one in trained.items()},
        curves={name: (one.steps, one.tau) for name, one in trained.items()},
        extra=extra,
    )


def _alpha_gradient(trained: Trained, bucket: Bucket) -> float:
    """Gradient of alpha over that of the rest of the trunk, of the first seed."""
    first = jax.tree.map(lambda p: p[0], trained.params)
    module = trained.model.module(first)
    thetas = bucket.readings(VALIDATION).thetas
    return models.alpha_gradient_report(module, thetas)["ratio"]
