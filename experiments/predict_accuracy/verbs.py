"""What `predict_accuracy` does with a trained predictor: `score`."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from experiments.command import guarded
from experiments.devices import OnDevices
from experiments.make_zoo.verbs import Address, Options, Place

MODULE = "experiments.predict_accuracy"


@dataclass(frozen=True)
class Score(Options, OnDevices):
    """Predicts the accuracies of networks; nothing is trained.

    Attributes:
        predictor: folder of one predictor, or of several that are averaged: a run has
            them in `OUT/predictors/ROW`, `.../BUCKET` and `.../seed_N`.
        address: the networks: a prepared zoo, FORMAT:DIR, or DIR alone if one format
            fits.
        out: table of all predictions.
    """

    predictor: Place = Path()
    address: Address = ""
    out: Path = Path("runs/predict_accuracy/scores.csv")


def _score(config: Score, console: Console) -> None:
    from experiments.predict_accuracy.scoring import run

    run(config, console)


VERBS: dict[str, tuple[type, Callable[..., None]]] = {"score": (Score, _score)}
"""First words of the command line: the config, and what is done."""


def main(verb: str, args: list[str]) -> int:
    """Does what a verb says; returns the exit status.

    Args:
        verb: of `VERBS`.
        args: behind it.
    """
    kind, work = VERBS[verb]
    config = tyro.cli(kind, prog=f"python -m {MODULE} {verb}", args=args)
    line = shlex.join(["python", "-m", MODULE, verb, *args])
    return guarded(lambda console: work(config, console), line, together=True)
