"""What one run of the experiment is made of, and its presets.

Question: can a metanetwork tell from a low-rank adapter alone which task it was trained
on and how well, and does the answer survive a change of basis between its two factors?

====== ===========================================================================
Run    `python -m experiments.read_adapters`
Device 2 CPU cores, no network access
Time   6 minutes, the zoo included
Numbers in `experiments/results/read_adapters.json`, mean and sd over 3 seeds
Source Hu et al. 2021, arXiv:2106.09685 (adapters)
====== ===========================================================================
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from experiments import flags
from experiments.devices import OnDevices
from experiments.read_adapters.tasks import TASKS

ROWS = tuple(
    "strict gauge relative canonical mlp_products mlp_canonical mlp_raw mlp_raw_copies "
    "trees_canonical trees_raw".split()
)
"""Of the table: predictors by kind, MLPs, boosted trees."""


@dataclass(frozen=True, kw_only=True)
class Config(OnDevices):
    """One run; every field is a flag of the command line.

    Attributes:
        out: where the run writes; re-running with the same `out` resumes.
        zoos: where zoos are kept, shared by all runs.
        seed: decides everything random, the zoo included.
        seeds: metanetworks trained per row of the table.
        tasks: that adapters are trained on, names of `tasks.TASKS`.
        adapters: in the zoo, all tasks together.
        dim: width of the base transformer.
        depth: its blocks.
        base_steps: training steps of the base.
        targets: layers of the base with an adapter, in every block.
        rank: of the adapters.
        zoo_steps: range of training steps of an adapter, log-uniform.
        zoo_rates: range of its learning rate, log-uniform.
        rows: of the table, names of `ROWS`.
        channels: of those on raw weights.
        layers: of those.
        canonical_channels: of the one on the normal form; with these it has about as
            many parameters.
        rounds: of messages there.
        steps: optimiser steps per metanetwork.
        batch: adapters per step.
        learning_rate: peak of the schedule.
        dropout: in the heads.
        evaluate_every: steps between two evaluations on the validation split.
        trees: most boosting iterations of boosted trees.
        spread: condition number of the matrices that move test adapters.
    """

    out: Path = Path("runs/read_adapters")
    zoos: Path = Path("runs/zoos")
    seed: int = 0
    seeds: int = 3
    tasks: tuple[str, ...] = tuple(TASKS)
    adapters: int = 1000
    dim: int = 16
    depth: int = 2
    base_steps: int = 1500
    targets: tuple[str, ...] = ("query", "value", "up", "down")
    rank: int = 2
    zoo_steps: tuple[int, int] = (8, 400)
    zoo_rates: tuple[float, float] = (1e-3, 1e-1)
    rows: tuple[str, ...] = ROWS
    channels: int = 8
    layers: int = 1
    canonical_channels: int = 32
    rounds: int = 2
    steps: int = 300
    batch: int = 64
    learning_rate: float = 2e-3
    dropout: float = 0.3
    evaluate_every: int = 50
    trees: int = 150
    spread: float = 100.0

    def __post_init__(self) -> None:
        """Refuses what cannot run, before anything is trained."""
        flags.check_positive(self, _POSITIVE)
        for name, known in (("tasks", tuple(TASKS)), ("rows", ROWS)):
            flags.check_some(self, name, known)
        flags.check_ranges(self, ("zoo_steps", "zoo_rates"))
        if self.adapters < 20 * len(self.tasks):
            raise ValueError(
                f"--adapters should be at least 20 per task, so that the validation "
                f"split of a tenth has two of each, got {self.adapters} for "
                f"{len(self.tasks)} tasks."
            )
        flags.check_selected(self)
        flags.check_rates(self)


_POSITIVE = (
    "seeds adapters dim depth base_steps rank channels layers canonical_channels "
    "rounds steps batch evaluate_every trees spread"
).split()


_FULL = Config()
_SMOKE = dataclasses.replace(
    _FULL,
    out=Path("runs/read_adapters_smoke"),
    seeds=1,
    tasks=("rotated_180", "parity"),
    adapters=60,
    depth=1,
    base_steps=60,
    zoo_steps=(4, 12),
    targets=("query", "down"),
    channels=2,
    canonical_channels=2,
    rounds=1,
    steps=6,
    batch=16,
    evaluate_every=3,
    trees=5,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "full": ("A thousand adapters for eight tasks on 8 x 8 digits.", _FULL),
    "smoke": ("The same in a minute; numbers mean nothing.", _SMOKE),
}
"""Presets by name: what it is, and its config. The first is the default."""
