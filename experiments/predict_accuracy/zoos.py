"""The zoo of a run: trained here once, read in a public format, or prepared."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.checksum import MANIFEST, digest_of
from experiments.devices import mesh_of
from experiments.make_zoo import config as make_zoo
from experiments.predict_accuracy import data
from experiments.predict_accuracy.buckets import Bucket
from experiments.predict_accuracy.config import FORMATS, GENERATED, Config
from experiments.predict_accuracy.progress import Bars
from experiments.predict_accuracy.readings import Readings
from experiments.predict_accuracy.record import fingerprint
from qejax import models, nets, zoo

COMPILE_SECONDS, STEPS_PER_SECOND = 5.0, 50_000
"""Of one bucket, and training steps of one network each, on two cores."""

LABEL = "test_accuracy"
"""Of the zoo; what is predicted."""


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
            zoos = zoo.read_all(_generate(config, piece.advance))
        elif ":" in config.zoo:
            # Its own split, of what is left, is that of the literature.
            zoos = zoo.formats.load(config.zoo, cut_off=config.cut_off)
            return _buckets(zoos, config)
        else:
            zoos = _prepared(Path(config.zoo))
        kept = {
            name: zoo.keep_accurate(one, config.cut_off) for name, one in zoos.items()
        }
        return _buckets(kept, config)


def _prepared(place: Path) -> dict[str, zoo.Zoo]:
    """Returns the buckets of a prepared zoo; says what makes one if there is none."""
    if not (place / MANIFEST).is_file():
        made = {made.out / "zoo": name for name, (_, made) in make_zoo.PRESETS.items()}
        raise FileNotFoundError(
            f"--zoo {place}: expected a prepared zoo with a file {MANIFEST}, found "
            f"none. Make it first: `python -m experiments.make_zoo "
            f"{made.get(place, 'PRESET')}`. A directory in a public format is given as "
            f"--zoo FORMAT:DIR, with a format of {list(FORMATS)}."
        )
    return zoo.read_all(place)


def digest(config: Config) -> str:
    """Returns the checksum of the files of a zoo that is given by its directory.

    Empty for a generated zoo, whose config decides its bytes, and for a missing one.
    """
    return "" if config.zoo in GENERATED else digest_of(config.zoo)


def _generate(config: Config, progress: Callable[[float, float], None]) -> Path:
    """Returns the place of the zoo; tells which share is done, and was found done."""
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
    begun: list[float] = []

    def tell(report: zoo.Progress) -> None:
        share = report.work / report.total_work
        begun.append(share if report.resumed else 0.0)
        progress(share, max(begun))

    root = zoo.generate(made, zoo.Data(*images), out, tell, mesh_of(config))
    if not begun:
        progress(1.0, 1.0)
    return root


def _buckets(zoos: dict[str, zoo.Zoo], config: Config) -> list[Bucket]:
    for name, one in zoos.items():
        if LABEL not in one.labels:
            raise ValueError(
                f"--zoo {config.zoo}, bucket {name!r}: expected a label {LABEL!r}, "
                f"found {sorted(one.labels)}."
            )
    return [
        Bucket(
            name=name,
            everything=Readings(
                one.network,
                models.input_shape(one.network),
                one.thetas,
                config.probes,
                mesh_of(config),
            ),
            accuracies=np.asarray(one.labels[LABEL], np.float64),
            split=one.split,
            images=config.images,
        )
        for name, one in zoos.items()
    ]
