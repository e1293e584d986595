"""What one run of the experiment is made of, and its presets.

Question: can a metanetwork edit an image by changing the weights of the coordinate
network that holds it, and does the edit depend on which weights stand for the image?

====== ===========================================================================
Run    `python -m experiments.edit_inr`
Device 2 CPU cores, no network access
Time   16 minutes, the zoo included
Numbers in `experiments/results/edit_inr_*.json`, mean and sd over 3 seeds
Source Zhou et al. 2023, arXiv:2302.14040 (the task, dilation and contrast)
====== ===========================================================================
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments import flags
from experiments.devices import OnDevices
from experiments.edit_inr.edits import EDITS

ROWS = ("strict", "gauge", "relative", "signed", "canonical")
"""Of the table: kinds of `models.Editor`."""


@dataclass(frozen=True, kw_only=True)
class Config(OnDevices):
    """One run; every field is a flag of the command line.

    Attributes:
        out: where the run writes; re-running with the same `out` resumes.
        zoo: a folder made by `qejax.zoo.fit`; without one, fits to the digits are made.
        zoos: where those are kept, shared by all runs.
        seed: decides everything random, the fits included.
        seeds: editors trained per row of the table.
        shape: of the grid that images are rendered on.
        signals: digits that are fitted; 0 for all.
        hidden: widths of the fits.
        activation: of the fits.
        octaves: of their coordinates.
        convention: of the values that are fitted, "signed" in [-1, 1] or "unit" in
            [0, 1] with an offset of 0.5.
        fit_steps: most steps of a fit.
        edits: that are learned, one editor each, names of `edits.EDITS`.
        rows: of the table, names of `ROWS`.
        train: most networks to train on; 0 for all.
        channels: by row, in the order of `ROWS`.
        depth: layers, or rounds of messages.
        waves: frequencies of weights that read inputs.
        steps: optimiser steps per editor.
        batch: networks per step.
        points: of the grid in a step, drawn anew; 0 for all.
        learning_rate: peak of the schedule.
        evaluate_every: steps between two evaluations on the validation split.
        moved: test networks that are moved along their orbits for the function gap.
        spread: of the scales that move them.
    """

    out: Path = Path("runs/edit_inr")
    zoo: Path | None = None
    zoos: Path = Path("runs/zoos")
    seed: int = 0
    seeds: int = 3
    shape: tuple[int, ...] = (8, 8)
    signals: int = 0
    hidden: tuple[int, ...] = (16, 16)
    activation: str = "sine(10)"
    octaves: int = 0
    convention: Literal["signed", "unit"] = "signed"
    fit_steps: int = 1000
    edits: tuple[str, ...] = tuple(EDITS)
    rows: tuple[str, ...] = ("strict", "signed", "canonical")
    train: int = 0
    channels: tuple[int, ...] = (9, 9, 6, 18, 18)
    depth: int = 2
    waves: int = 16
    steps: int = 300
    batch: int = 64
    points: int = 0
    learning_rate: float = 3e-3
    evaluate_every: int = 50
    moved: int = 16
    spread: float = 10.0

    def __post_init__(self) -> None:
        """Refuses what cannot run, before anything is trained."""
        flags.check_positive(self, _POSITIVE)
        for name, known in (("edits", tuple(EDITS)), ("rows", ROWS)):
            flags.check_some(self, name, known)
        if len(self.channels) != len(ROWS) or min(self.channels) < 1:
            raise ValueError(
                f"--channels should be one number above 0 for each of {list(ROWS)}, "
                f"got {list(self.channels)}."
            )
        flags.check_selected(self)
        if self.learning_rate <= 0:
            raise ValueError(
                f"--learning-rate should be positive, got {self.learning_rate}."
            )

    def width(self, row: str) -> int:
        """Returns the channels of a row."""
        return self.channels[ROWS.index(row)]


_POSITIVE = "seeds depth fit_steps steps batch evaluate_every moved spread".split()


_DIGITS = Config(out=Path("runs/edit_inr_digits"))
_UNIT = dataclasses.replace(
    _DIGITS, out=Path("runs/edit_inr_digits_unit"), convention="unit"
)
_RELU = dataclasses.replace(
    _DIGITS,
    out=Path("runs/edit_inr_digits_relu"),
    activation="relu",
    octaves=3,
    edits=("dilate",),
    rows=("strict", "gauge", "relative", "canonical"),
    channels=(10, 10, 9, 16, 24),
)
_MNIST = dataclasses.replace(
    _DIGITS,
    out=Path("runs/edit_inr_mnist"),
    zoo=Path("runs/make_zoo/inr_mnist/zoo"),
    shape=(28, 28),
    edits=("dilate",),
    rows=("strict", "signed"),
    waves=32,
    steps=500,
    evaluate_every=100,
    points=256,
    channels=(11, 11, 8, 26, 23),
)
_MNIST_UNIT = dataclasses.replace(
    _MNIST,
    out=Path("runs/edit_inr_mnist_unit"),
    zoo=Path("runs/make_zoo/inr_mnist_unit/zoo"),
    convention="unit",
)
_SMOKE = dataclasses.replace(
    _DIGITS,
    out=Path("runs/edit_inr_smoke"),
    seeds=1,
    signals=40,
    hidden=(4, 4),
    fit_steps=20,
    edits=("dilate",),
    rows=("strict", "canonical"),
    channels=(2, 2, 2, 2, 2),
    depth=1,
    waves=2,
    steps=4,
    batch=8,
    evaluate_every=2,
    moved=2,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "digits": ("Sine networks of 8 x 8 digits, embedded; minutes.", _DIGITS),
    "digits_unit": ("The same, fitted in the convention of Navon et al.", _UNIT),
    "digits_relu": ("The same with ReLU and octaves: units scale.", _RELU),
    "mnist": (
        "Fits to MNIST; first `python -m experiments.make_zoo inr_mnist`.",
        _MNIST,
    ),
    "mnist_unit": (
        "The same in [0, 1]; first `python -m experiments.make_zoo inr_mnist_unit`.",
        _MNIST_UNIT,
    ),
    "smoke": ("The first in seconds; numbers mean nothing.", _SMOKE),
}
"""Presets by name: what it is, and its config. The first is the default."""
