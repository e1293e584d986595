"""What one run of the experiment is made of, and its presets.

Question: of two networks that were trained apart, how high is the loss between them
once one is aligned to the other, by permutations alone and by the whole group?

====== ===========================================================================
Run    `python -m experiments.align`
Device 2 CPU cores, no network access
Time   half an hour, nearly all of it compiling
Numbers in `experiments/results/align_*.json`, mean and sd over pairs
Source Ainsworth et al. 2023, arXiv:2209.04836 (permutations, barriers)
====== ===========================================================================
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments import flags
from experiments.align.networks import NETWORKS, REGISTRY


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run; every field is a flag of the command line.

    Attributes:
        out: where the run writes; re-running with the same `out` shows what it found.
        task: "teacher", the outputs of a random network of the same architecture, or
            "digits", embedded in scikit-learn.
        networks: rows of the table, names of `networks.NETWORKS`.
        seed: decides everything random.
        seeds: pairs of networks per row, each of two initialisations.
        samples: inputs of the teacher to train on, and as many to measure on.
        steps: of Adam.
        batch: inputs per step.
        learning_rate: peak; decays to 0 by a cosine.
        points: between two networks, both ends included.
        pairs: aligned in one program: the trained ones, and these with the second one
            moved along its orbit, by another element each time.
        spread: of the scales and matrices that move them.
        repeats: of the timing, of which the median counts.
        optimise: what is timed; compiling is nearly all of a run, and takes two thirds
            of the time without.
    """

    out: Path = Path("runs/align_registry")
    task: Literal["teacher", "digits"] = "teacher"
    networks: tuple[str, ...] = tuple(REGISTRY)
    seed: int = 0
    seeds: int = 3
    samples: int = 256
    steps: int = 400
    batch: int = 64
    learning_rate: float = 1e-2
    points: int = 11
    pairs: int = 32
    spread: float = 3.0
    repeats: int = 5
    optimise: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot run, before anything is trained."""
        flags.check_positive(self, _POSITIVE)
        flags.check_some(self, "networks", tuple(NETWORKS))
        if self.pairs < 2 * self.seeds:
            raise ValueError(
                f"--pairs should be at least twice --seeds ({self.seeds}), so that "
                f"every pair is moved once, got {self.pairs}."
            )
        if self.points < 3:
            raise ValueError(
                f"--points should be at least 3, both ends and one between, got "
                f"{self.points}."
            )
        if self.learning_rate <= 0:
            raise ValueError(
                f"--learning-rate should be positive, got {self.learning_rate}."
            )
        of_digits = [n for n in self.networks if n.startswith("digits")]
        if len(of_digits) not in (0, len(self.networks)) or bool(of_digits) != (
            self.task == "digits"
        ):
            raise ValueError(
                f"--task {self.task}: expected networks that read its inputs, got "
                f"{list(self.networks)}."
            )


_POSITIVE = "seeds samples steps batch spread repeats".split()

_REGISTRY = Config()
_DIGITS = dataclasses.replace(
    _REGISTRY,
    out=Path("runs/align_digits"),
    task="digits",
    networks=tuple(name for name in NETWORKS if name not in REGISTRY),
    steps=600,
    learning_rate=3e-3,
    points=25,
    repeats=3,
    optimise=True,
)
_SMOKE = dataclasses.replace(
    _REGISTRY,
    out=Path("runs/align_smoke"),
    networks=("linear, no hidden layer", "one hidden layer"),
    seeds=1,
    samples=32,
    steps=5,
    batch=8,
    points=3,
    pairs=2,
    repeats=1,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "registry": (
        "Tiny networks of every kind and group, and their teachers.",
        _REGISTRY,
    ),
    "digits": ("MLPs, a CNN and a transformer on 8 x 8 digits.", _DIGITS),
    "smoke": ("Two networks in seconds; numbers mean nothing.", _SMOKE),
}
"""Presets by name: what it is, and its config. The first is the default."""
