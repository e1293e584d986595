"""What one run of the experiment is made of, and its presets.

Question: how well can a network's test accuracy be predicted from its weights alone,
and with probes, compared with boosted trees on statistics?

====== ===========================================================================
Run    `python -m experiments.predict_accuracy digits`
Device 2 CPU cores, no network access
Time   4.8 minutes, the first time included
Numbers in `experiments/results/`, mean and sd over 3 seeds; see README.md
Source Tran et al. 2026, arXiv:2604.23720 (task, section 6.2);
       Unterthiner et al. 2020, arXiv:2002.11448 (zoo, boosted trees)
====== ===========================================================================
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments import flags
from experiments.devices import OnDevices
from qejax import nets

Quasi = Literal["strict", "gauge", "relative", "canonical", "learned_gauge"]

FORMATS = (
    "small_cnn_zoo",
    "small_cnn_augmented",
    "small_transformer_zoo",
    "cnn_wild_park",
    "modelzoos",
)
"""Public formats that `--zoo FORMAT:DIR` reads."""

GENERATED = ("digits",)
"""Zoos that the experiment trains itself."""


@dataclass(frozen=True, kw_only=True)
class Config(OnDevices):
    """One run; every field is a flag of the command line.

    Attributes:
        zoo: `digits` to train one (once), `FORMAT:DIR` for a public format, or the
            directory of a prepared zoo.
        out: where the run writes; re-running with the same `out` resumes.
        cut_off: networks below this accuracy are left out before the zoo is split.
        zoos: where generated zoos are kept, shared by all runs.
        seed: decides everything random, the generated zoo included.
        seeds: metanetworks trained per row of the table.
        images: test images that each accuracy was measured on; decides how soft the
            targets of training are, and nothing else.
        activations: of the generated zoo; one metanetwork for each.
        networks: in the generated zoo, per activation.
        widths: of the hidden layers of the generated networks.
        zoo_steps: training steps of the longest-trained generated network.
        quasi: kind of the reported model.
        baseline_quasi: kinds trained beside it, without probes.
        baseline_channels: of those; 0 gives them as many parameters as the reported
            model has, to 5 %.
        baseline_depth: layers of those.
        baseline_steps: optimiser steps of those.
        channels: feature channels of the reported model; 0 reads statistics only.
        depth: layers, or rounds of messages, of the metanetworks.
        probes: fixed random inputs that every row with probes runs networks on.
        stream: learned inputs of that column, whose activations are unit features.
        steps: optimiser steps per metanetwork.
        batch: networks per step.
        learning_rate: peak of the schedule.
        dropout: in the head.
        precision: of what is trained: `bfloat16` rounds the factors of products and
            sums them in float32; parameters stay float32.
        knots: of the reported models' heads; see `models.PredictorConfig`.
        evaluate_every: steps between two evaluations on the validation split.
        trees: boosting iterations of the boosted-trees baselines.
    """

    zoo: str = "digits"
    cut_off: float = 0.0
    out: Path = Path("runs/predict_accuracy")
    zoos: Path = Path("runs/zoos")
    seed: int = 0
    seeds: int = 3
    images: int = 797
    activations: tuple[str, ...] = ("relu", "tanh")
    networks: int = 700
    widths: tuple[int, ...] = (16, 16)
    zoo_steps: int = 1000
    quasi: Quasi = "canonical"
    baseline_quasi: tuple[Quasi, ...] = ("strict", "gauge", "relative")
    baseline_channels: int = 8
    baseline_depth: int = 1
    baseline_steps: int = 200
    channels: int = 0
    depth: int = 2
    probes: int = 64
    stream: int = 0
    steps: int = 450
    batch: int = 64
    learning_rate: float = 2e-3
    dropout: float = 0.3
    precision: Literal["float32", "bfloat16"] = "float32"
    knots: tuple[float, ...] = ()
    evaluate_every: int = 50
    trees: int = 300

    def __post_init__(self) -> None:
        """Refuses what cannot run, before anything is trained."""
        flags.check_positive(self, _POSITIVE)
        for name, low, high in _RANGES:
            if not low <= getattr(self, name) < high:
                raise ValueError(
                    f"--{name.replace('_', '-')} should be in [{low}, {high}), got "
                    f"{getattr(self, name)}."
                )
        if self.learning_rate <= 0:
            raise ValueError(
                f"--learning-rate should be positive, got {self.learning_rate}."
            )
        flags.check_selected(self)
        self._check_model()
        if self.zoo in GENERATED:
            self._check_generated()
        elif ":" in self.zoo and self.zoo.split(":")[0] not in FORMATS:
            raise ValueError(
                f"--zoo: expected FORMAT:DIR with a format of {list(FORMATS)}, got "
                f"{self.zoo!r}. A prepared zoo is given by its directory alone."
            )

    def _check_model(self) -> None:
        messages = self.quasi in ("canonical", "learned_gauge")
        if not messages and self.channels == 0:
            raise ValueError(
                f"--channels should be at least 1 with --quasi {self.quasi}, which "
                f"reads no statistics, got 0."
            )
        if self.stream and not (messages and self.channels):
            raise ValueError(
                f"--stream {self.stream} needs message passing: --quasi canonical or "
                f"learned_gauge, and --channels at least 1; got --quasi {self.quasi} "
                f"--channels {self.channels}."
            )

    def _check_generated(self) -> None:
        if not self.activations or len(set(self.activations)) < len(self.activations):
            raise ValueError(
                f"--activations should name each activation once, at least one, got "
                f"{self.activations}."
            )
        for name in self.activations:
            try:
                nets.MLPConfig((1, 1, 1), name)
            except ValueError as error:
                raise ValueError(f"--activations: {error}") from error
        if self.networks < 20:
            raise ValueError(
                f"--networks should be at least 20, so that a validation split of a "
                f"tenth has two networks to rank, got {self.networks}."
            )
        if not self.widths or min(self.widths) < 1:
            raise ValueError(
                f"--widths should be one or more positive widths, got {self.widths}."
            )


_POSITIVE = (
    "seeds images depth probes steps baseline_depth baseline_steps batch "
    "evaluate_every trees zoo_steps"
).split()
_RANGES = (
    ("channels", 0, 1024),
    ("stream", 0, 1024),
    ("dropout", 0, 1),
    ("cut_off", 0, 1),
)

_DIGITS = Config(out=Path("runs/predict_accuracy/digits"))
_PUBLIC = Config(
    zoo="small_cnn_zoo:../shared/data/zoos/small_cnn_zoo/cifar10_gs_relu",
    out=Path("runs/predict_accuracy/small_cnn_zoo"),
    images=2000,
    baseline_channels=0,
    baseline_depth=2,
    baseline_steps=450,
)
_PUBLIC_TRANSFORMERS = dataclasses.replace(
    _PUBLIC,
    zoo="small_transformer_zoo:../shared/data/zoos/small_transformer_zoo",
    out=Path("runs/predict_accuracy/small_transformer_zoo"),
    images=1000,
)
_TRANSFORMERS = dataclasses.replace(
    _DIGITS,
    zoo="runs/make_zoo/transformers_digits/zoo",
    out=Path("runs/predict_accuracy/transformers_digits"),
    baseline_channels=0,
    baseline_steps=300,
    # Cross-validated on training and validation splits: see README.md.
    knots=(-2.0, -1.0, -0.3, 0.3, 1.0, 2.0),
    steps=900,
    evaluate_every=100,
)
_SMOKE = dataclasses.replace(
    _DIGITS,
    out=Path("runs/predict_accuracy/smoke"),
    seeds=1,
    networks=40,
    widths=(4, 4),
    zoo_steps=30,
    baseline_channels=2,
    baseline_steps=4,
    probes=4,
    steps=4,
    batch=8,
    evaluate_every=2,
    trees=5,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "digits": ("ReLU and tanh networks trained here on 8 x 8 digits.", _DIGITS),
    "small_cnn_zoo": ("CNNs in the public Small CNN Zoo format.", _PUBLIC),
    "small_transformer_zoo": (
        "Transformers in the public Small Transformer Zoo format.",
        _PUBLIC_TRANSFORMERS,
    ),
    "transformers_digits": (
        "Transformers that `python -m experiments.make_zoo` trains on the digits.",
        _TRANSFORMERS,
    ),
    "smoke": ("The digits experiment in a few minutes; numbers mean nothing.", _SMOKE),
}
"""Presets by name: what it is, and its config. The first is the default."""
