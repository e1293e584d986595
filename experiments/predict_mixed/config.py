"""What one run of the experiment is made of, and its presets.

Question: does one metanetwork over networks of many architectures rank unseen networks
by test accuracy, and how much of that does the architecture alone say?

====== ===========================================================================
Run    `python -m experiments.predict_mixed`
Device 2 CPU cores, no network access
Time   6 minutes, and about 5 more for the zoo
Numbers in `experiments/results/predict_mixed.json`, mean and sd over 3 seeds
====== ===========================================================================
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from experiments import flags
from experiments.devices import OnDevices
from qejax.nets import CNNConfig, MLPConfig, NetConfig


def _cnn(channels: tuple[int, ...], activation: str) -> CNNConfig:
    strides = (2, *(1,) * (len(channels) - 1))
    return CNNConfig(1, channels, 3, strides, "SAME", activation)


ARCHITECTURES: dict[str, NetConfig] = {
    "mlp_relu_16": MLPConfig((64, 16, 10), "relu"),
    "mlp_relu_24_24": MLPConfig((64, 24, 24, 10), "relu"),
    "mlp_relu_12_12_12": MLPConfig((64, 12, 12, 12, 10), "relu"),
    "mlp_tanh_24": MLPConfig((64, 24, 10), "tanh"),
    "mlp_tanh_16_16": MLPConfig((64, 16, 16, 10), "tanh"),
    "mlp_gelu_32": MLPConfig((64, 32, 10), "gelu"),
    "mlp_gelu_16_12": MLPConfig((64, 16, 12, 10), "gelu"),
    "mlp_sigmoid_24": MLPConfig((64, 24, 10), "sigmoid"),
    "cnn_relu_8_8": _cnn((8, 8), "relu"),
    "cnn_relu_6_8_8": _cnn((6, 8, 8), "relu"),
    "cnn_tanh_8_8": _cnn((8, 8), "tanh"),
    "cnn_gelu_6_12": _cnn((6, 12), "gelu"),
}
"""Of 8 x 8 digits, by name: CNNs halve the image at once and end in its mean."""

ROWS = ("mixed", "trees_statistics", "trees_both", "trees_architecture")
"""Of the table: the metanetwork, then boosted trees by what they read."""


@dataclass(frozen=True, kw_only=True)
class Config(OnDevices):
    """One run; every field is a flag of the command line.

    Attributes:
        out: where the run writes, its zoo included; the same `out` resumes.
        seed: decides everything random, the zoo included.
        seeds: models trained per row and column of the table.
        architectures: in the zoo, names of `ARCHITECTURES`.
        unseen: those of them that the models of the second column never read.
        networks: of each architecture, diverged ones included.
        zoo_steps: range of training steps of a network, log-uniform.
        zoo_rates: range of its learning rate, log-uniform.
        rows: of the table, names of `ROWS`.
        sizes: that networks are padded to, at most.
        channels: odd and even features of a unit.
        rounds: of messages.
        hidden: width of the map that updates units.
        steps: optimiser steps per metanetwork.
        batch: networks per step and seed, all of one size.
        learning_rate: peak of the schedule.
        weight_decay: of matrices.
        dropout: in the heads.
        anchor: weight of the squared error that puts the sizes on one scale.
        evaluate_every: steps between two evaluations on the validation split.
        trees: most boosting iterations of boosted trees.
    """

    out: Path = Path("runs/predict_mixed")
    seed: int = 0
    seeds: int = 3
    architectures: tuple[str, ...] = tuple(ARCHITECTURES)
    unseen: tuple[str, ...] = ("mlp_tanh_16_16", "cnn_relu_6_8_8")
    networks: int = 80
    zoo_steps: tuple[int, int] = (16, 600)
    zoo_rates: tuple[float, float] = (5e-4, 2e-2)
    rows: tuple[str, ...] = ROWS
    sizes: int = 2
    channels: int = 8
    rounds: int = 1
    hidden: int = 32
    steps: int = 300
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    dropout: float = 0.3
    anchor: float = 0.5
    evaluate_every: int = 50
    trees: int = 400

    def __post_init__(self) -> None:
        """Refuses what cannot run, before anything is trained."""
        flags.check_positive(self, _POSITIVE)
        known = {
            "architectures": tuple(ARCHITECTURES),
            "unseen": self.architectures,
            "rows": ROWS,
        }
        for name, names in known.items():
            flags.check_some(self, name, names)
        if len(self.unseen) == len(self.architectures):
            raise ValueError(
                f"--unseen should leave an architecture to train on, got all "
                f"{len(self.unseen)}."
            )
        if self.networks < 20:
            raise ValueError(
                f"--networks should be at least 20, so that the validation split of a "
                f"tenth has two of each architecture, got {self.networks}."
            )
        flags.check_ranges(self, ("zoo_steps", "zoo_rates"))
        flags.check_selected(self)
        flags.check_rates(self)


_POSITIVE = (
    "seeds sizes channels rounds hidden steps batch evaluate_every trees".split()
)


_FULL = Config()
_SMOKE = dataclasses.replace(
    _FULL,
    out=Path("runs/predict_mixed_smoke"),
    seeds=1,
    architectures=("mlp_relu_16", "cnn_relu_8_8"),
    unseen=("cnn_relu_8_8",),
    sizes=1,
    networks=20,
    zoo_steps=(2, 12),
    channels=2,
    hidden=4,
    rounds=1,
    steps=6,
    batch=8,
    evaluate_every=3,
    trees=5,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "full": ("A thousand networks of twelve architectures on 8 x 8 digits.", _FULL),
    "smoke": ("The same in a minute; numbers mean nothing.", _SMOKE),
}
"""Presets by name: what it is, and its config. The first is the default."""
