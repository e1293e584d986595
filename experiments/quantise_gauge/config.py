"""What one run of the experiment is made of, and its presets.

Question: networks of one function round differently. Can a map that was trained on
others choose weights that rounding hurts less than by the rules of practitioners?

====== ===========================================================================
Run    `python -m experiments.quantise_gauge`
Device 2 CPU cores, no network access
Numbers in `experiments/results/quantise_gauge_*.json`, mean and sd over 3 seeds
Source Nagel et al. 2019, arXiv:1906.04721; Meller et al. 2019, arXiv:1902.01917;
       Ashkboos et al. 2024, arXiv:2404.00456 (the rules)
====== ===========================================================================
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments import flags
from experiments.devices import OnDevices

Kind = Literal["mlp", "cnn", "transformer"]

RULES: dict[str, tuple[str, ...]] = {
    "none": (),
    "equalised": ("equalised",),
    "absmax": ("absmax",),
    "balanced": ("cleared", "balanced"),
    "absorbed": ("absorbed",),
    "hadamard": ("absorbed", "hadamard"),
}
"""Rows of the table that are made by hand, and the rules of `gauges.RULES` they are."""

MAPS = ("weights", "strict", "descent", "descent32", "learned", "learned32")
"""Rows that are maps:

- `weights`, `strict`: trained, they read nothing but weights;
- `descent`, `learned`: down the slope of the loss of rounding, on random inputs, by the
  map as it is initialised and as it is trained;
- `descent32`, `learned32`: the same on a few real inputs.
"""

ROWS = (*RULES, *MAPS)


@dataclass(frozen=True, kw_only=True)
class Config(OnDevices):
    """One run; every field is a flag of the command line.

    Attributes:
        out: where the run writes; re-running with the same `out` resumes.
        zoos: where zoos that are made are kept, shared by all runs.
        kind: of the networks: "mlp", "cnn" or "transformer".
        networks: that are trained for the zoo.
        zoo_steps: range of their stopping steps.
        cut_off: least test accuracy of the networks that are kept.
        seed: decides everything random.
        seeds: maps trained per row, and draws of inputs.
        rows: of the table, names of `ROWS`.
        bits: that weights are rounded to.
        trained_bits: that maps are trained for.
        rounds: of a map that reads weights.
        descent: of a map that goes down a slope: gradients that it may take.
        hidden: width of the maps.
        inputs: on which the loss of rounding is told, for one network.
        steps: optimiser steps of `learned`; of `weights` and `strict` three times that.
        batch: networks in a step of one map, at most its share of those for training.
        learning_rate: peak of the schedule.
        evaluate_every: steps between two evaluations on the validation split.
        spread: of the scales that move test networks along their orbits.
    """

    out: Path = Path("runs/quantise_gauge")
    zoos: Path = Path("runs/zoos")
    kind: Kind = "mlp"
    networks: int = 512
    zoo_steps: tuple[int, int] = (100, 1500)
    cut_off: float = 0.7
    seed: int = 0
    seeds: int = 3
    rows: tuple[str, ...] = ROWS
    bits: tuple[int, ...] = (8, 4, 3)
    trained_bits: tuple[int, ...] = (4, 3)
    rounds: int = 3
    descent: int = 20
    hidden: int = 32
    inputs: int = 32
    steps: int = 600
    batch: int = 48
    learning_rate: float = 3e-3
    evaluate_every: int = 100
    spread: float = 10.0

    def __post_init__(self) -> None:
        """Refuses what cannot run, before anything is trained."""
        flags.check_positive(self, _POSITIVE)
        flags.check_some(self, "rows", ROWS)
        for name in ("bits", "trained_bits"):
            got = getattr(self, name)
            inside = set(got) <= set(range(2, 17))
            if not got or len(set(got)) < len(got) or not inside:
                raise ValueError(
                    f"{flags.flag(name)} should be numbers of bits in 2..16, each "
                    f"once, got {list(got)}."
                )
        flags.check_selected(self)
        if self.learning_rate <= 0:
            raise ValueError(
                f"--learning-rate should be positive, got {self.learning_rate}."
            )


_POSITIVE = (
    "networks seeds rounds descent hidden inputs steps batch evaluate_every spread"
).split()

_MLP = Config(out=Path("runs/quantise_gauge_mlp"))
_CNN = dataclasses.replace(
    _MLP,
    out=Path("runs/quantise_gauge_cnn"),
    kind="cnn",
    networks=400,
    steps=150,
    batch=24,
    evaluate_every=50,
)
_TRANSFORMER = dataclasses.replace(
    _MLP,
    out=Path("runs/quantise_gauge_transformer"),
    kind="transformer",
    networks=400,
    zoo_steps=(300, 2000),
    steps=150,
    batch=24,
    evaluate_every=50,
)
_SMOKE = dataclasses.replace(
    _MLP,
    out=Path("runs/quantise_gauge_smoke"),
    networks=30,
    zoo_steps=(40, 60),
    cut_off=0.0,
    seeds=1,
    rows=("none", "equalised", "strict", "learned32"),
    bits=(4,),
    trained_bits=(4,),
    rounds=1,
    descent=2,
    hidden=4,
    inputs=4,
    steps=4,
    batch=4,
    evaluate_every=2,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "mlp": ("ReLU networks of 64-32-32-10 that read digits.", _MLP),
    "cnn": ("ReLU CNNs that read digits.", _CNN),
    "transformer": ("Encoders of the Small Transformer Zoo on digits.", _TRANSFORMER),
    "smoke": ("The first in seconds; numbers mean nothing.", _SMOKE),
}
"""Presets by name: what it is, and its config. The first is the default."""
