"""The zoo of a run: trained here once, read in a public format, or prepared."""

from pathlib import Path

import numpy as np

from experiments.predict_accuracy import data
from experiments.predict_accuracy.buckets import Bucket
from experiments.predict_accuracy.config import GENERATED, Config
from experiments.predict_accuracy.progress import Bars
from experiments.predict_accuracy.readings import Readings
from experiments.predict_accuracy.record import fingerprint
from qejax import models, nets, zoo

COMPILE_SECONDS, STEPS_PER_SECOND = 5.0, 50_000
"""Of one bucket, and training steps of one network each, on two cores."""

IMAGES = {"small_cnn_zoo": 2000}
"""Test images behind an accuracy, by format, where the zoo does not say it.

Only the noise of the labels is computed from it; a public zoo scored on 10,000 images
has less than is assumed."""


def num_buckets(config: Config) -> int:
    """Returns how many metanetworks a row needs, as far as that is known before."""
    return len(config.activations) if config.zoo in GENERATED else 1


def plan(config: Config, bars: Bars) -> None:
    """Plans the zoo."""
    # Stopping steps are log-uniform: the mean is about a fifth of the longest.
    steps = config.networks * config.zoo_steps / 5
    each = COMPILE_SECONDS + steps / STEPS_PER_SECOND
    generated = config.zoo in GENERATED
    bars.plan.add("zoo", 1, num_buckets(config) * each if generated else 5.0)


def load(config: Config, bars: Bars) -> list[Bucket]:
    """Returns the buckets of a zoo, training it if it is not there yet.

    Raises:
        FileNotFoundError: if there is no zoo at `--zoo`.
        ValueError: if it cannot be read; names file, row or field.
    """
    with bars.work("zoo", "zoo") as piece:
        if config.zoo in GENERATED:
            root = _generate(config, lambda p: piece.advance(p.work / p.total_work))
            return _buckets(zoo.read_all(root), len(data.digits().test_y))
        if ":" in config.zoo:
            form, place = config.zoo.split(":", 1)
            found = zoo.formats.load_small_cnn_zoo(Path(place))
            return _buckets({_name(found): found}, IMAGES[form])
        return _buckets(zoo.read_all(Path(config.zoo)), len(data.digits().test_y))


def _generate(config: Config, progress) -> Path:
    images = data.digits()
    widths = (images.train_x.shape[1], *config.widths, 10)
    made = zoo.ZooConfig(
        buckets={
            name: nets.mlp(widths, activation=name).config
            for name in config.activations
        },
        count=config.networks,
        seed=config.seed,
        steps=(8, config.zoo_steps),
    )
    out = config.zoos / f"{config.zoo}-{fingerprint(made.to_dict())}"
    return zoo.generate(made, zoo.Data(*images), out, progress)


def _buckets(zoos: dict[str, zoo.Zoo], images: int) -> list[Bucket]:
    return [
        Bucket(
            name=name,
            everything=Readings(
                one.network, models.input_shape(one.network), one.thetas
            ),
            accuracies=np.asarray(one.labels["test_accuracy"], np.float64),
            split=one.split,
            images=images,
        )
        for name, one in zoos.items()
    ]


def _name(found: zoo.Zoo) -> str:
    return str(found.hyper["activation"][0]) if "activation" in found.hyper else "zoo"
