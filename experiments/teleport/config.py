"""What one run of the experiment is made of, and its presets.

Question: training sees the weights of a network and not only its function. Can a map
that was trained on other tasks choose weights from which it goes on faster?

====== ===========================================================================
Run    `python -m experiments.teleport`
Device 2 CPU cores, no network access
Numbers in `experiments/results/teleport_*.json`, mean and sd over 3 seeds
Source Zhao et al. 2022, arXiv:2205.10637 (teleportation, the gradient's norm)
====== ===========================================================================
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import flags
from experiments.devices import OnDevices

BASELINES = ("none", "balanced", "random", "ascent")
"""Rows in which nothing is trained on other networks."""

LEARNED = {
    "learned1": 1,
    "learned5": 5,
    "learned20": 20,
    "learned60": 60,
    "strict60": 60,
    "constant60": 60,
    "learned_descent": 5,
}
"""Rows that are trained, and the steps after which the loss is what they are for."""

DOWN = ("ascent", "descent", "learned_descent")
"""Rows that go along a slope on the orbit of the network itself."""

DESCENT_STEPS = 5
"""Of the loss that `descent` goes down."""

ROWS = (*BASELINES, "descent", *LEARNED)
"""Rows of the table:

- `none`, `balanced`, `random`: as it comes, shortest weights, a random element;
- `ascent`: up the norm of the gradient along the orbit;
- `learned1`, `learned5`, `learned20`, `learned60`, `strict60`: they read nothing but
  weights;
- `constant60`: one learned size for each hidden layer, from balanced weights; it reads
  nothing at all;
- `descent`, `learned_descent`: down the loss after a few steps, by the map as it is
  initialised and as it is trained.
"""

RATES: dict[str, tuple[float, ...]] = {
    "sgd": (0.05, 0.08, 0.125, 0.2, 0.32, 0.5, 0.8),
    "momentum": (0.01, 0.016, 0.025, 0.04, 0.063, 0.1, 0.16),
    "adam": (0.003, 0.005, 0.008, 0.0125, 0.02, 0.032, 0.05),
}
"""Learning rates of which every row has its best one, by optimiser."""


@dataclass(frozen=True, kw_only=True)
class Config(OnDevices):
    """One run; every field is a flag of the command line.

    Attributes:
        out: where the run writes; re-running with the same `out` resumes.
        seed: decides everything random.
        seeds: maps trained per row, data orders and draws.
        rows: of the table, names of `ROWS`.
        optimisers: names of `RATES`.
        networks: of the training, validation and test split, each of its own task.
        classes: that tasks sort the ten digits into.
        widths: of the hidden layers.
        gain: every layer's kernel is multiplied by a number of its own, log-uniform in
            `[1/gain, gain]`.
        batch: images in a step of training.
        told: images on which the loss is measured.
        steps: of training, at most.
        target: step of `none` at its best rate whose loss is the target.
        every: steps between two measurements.
        rounds: of maps that read weights.
        descent: rounds of maps that go down a slope.
        ascent: rounds up the norm of the gradient.
        climbs: what a round along a slope changes the logarithm of a size by, about;
            `ascent` and `descent` have their best one on the validation split.
        noise: standard deviations of the logarithms of sizes around which a loss is
            smoothed, of what units of a layer share and of what each has for itself.
        pairs: of points on both sides, for one network in one step.
        hidden: width of the maps.
        map_steps: optimiser steps of a map.
        map_batch: networks in a step of one map.
        learning_rate: of maps, peak of the schedule.
        evaluate_every: steps between two evaluations on the validation split.
        spread: of random scales, of the row and of what moves test networks.
    """

    out: Path = Path("runs/teleport")
    seed: int = 0
    seeds: int = 3
    rows: tuple[str, ...] = ROWS
    optimisers: tuple[str, ...] = tuple(RATES)
    networks: tuple[int, int, int] = (512, 42, 128)
    classes: int = 4
    widths: tuple[int, ...] = (32, 32)
    gain: float = 2.0
    batch: int = 32
    told: int = 256
    steps: int = 200
    target: int = 100
    every: int = 5
    rounds: int = 3
    descent: int = 3
    ascent: int = 5
    climbs: tuple[float, ...] = (0.02, 0.06, 0.2)
    noise: tuple[float, float] = (0.3, 0.1)
    pairs: int = 1
    hidden: int = 16
    map_steps: int = 100
    map_batch: int = 72
    learning_rate: float = 7e-4
    evaluate_every: int = 25
    spread: float = 3.0

    def __post_init__(self) -> None:
        """Refuses what cannot run, before anything is trained."""
        flags.check_positive(self, _POSITIVE)
        flags.check_some(self, "rows", ROWS)
        flags.check_some(self, "optimisers", tuple(RATES))
        if "none" not in self.rows:
            raise ValueError(
                f"--rows should have 'none', whose loss is the target, got "
                f"{list(self.rows)}."
            )
        if not 2 <= self.classes <= 10:
            raise ValueError(f"--classes should be in 2..10, got {self.classes}.")
        if self.steps % self.every or self.target % self.every:
            raise ValueError(
                f"--steps and --target should be multiples of --every ({self.every}), "
                f"got {self.steps} and {self.target}."
            )
        if self.target > self.steps:
            raise ValueError(
                f"--target should be at most --steps ({self.steps}), got {self.target}."
            )
        if self.map_batch > self.networks[0] // self.seeds:
            raise ValueError(
                f"--map-batch should be at most the share that each of {self.seeds} "
                f"maps has of the training networks "
                f"({self.networks[0] // self.seeds}), got {self.map_batch}."
            )
        if self.evaluate_every > self.map_steps:
            raise ValueError(
                f"--evaluate-every should be at most --map-steps ({self.map_steps}), "
                f"got {self.evaluate_every}: the map would never be selected."
            )
        if min(self.networks) < 1:
            raise ValueError(
                f"--networks should be at least 1 a split, got {list(self.networks)}."
            )
        for name in ("learning_rate", "climbs", "noise"):
            got = getattr(self, name)
            if not got or min(np.atleast_1d(got)) <= 0:
                raise ValueError(f"{flags.flag(name)} should be positive, got {got}.")


_POSITIVE = (
    "seeds gain batch told steps target every rounds descent ascent hidden map_steps "
    "map_batch evaluate_every spread pairs"
).split()

_DIGITS = Config(out=Path("runs/teleport_digits"))
_SMOKE = dataclasses.replace(
    _DIGITS,
    out=Path("runs/teleport_smoke"),
    seeds=1,
    rows=(
        "none",
        "balanced",
        "ascent",
        "learned5",
        "strict60",
        "constant60",
        "learned_descent",
    ),
    optimisers=("sgd",),
    networks=(8, 4, 8),
    widths=(8, 8),
    told=64,
    steps=20,
    target=10,
    rounds=1,
    descent=1,
    ascent=1,
    hidden=4,
    map_steps=4,
    map_batch=4,
    evaluate_every=2,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "digits": ("ReLU networks of 64-32-32-4 and tasks made of digits.", _DIGITS),
    "smoke": ("The same in seconds; numbers mean nothing.", _SMOKE),
}
"""Presets by name: what it is, and its config. The first is the default."""
