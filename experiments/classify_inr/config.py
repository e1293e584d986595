"""What one run of the experiment is made of, and its presets.

Question: what class is a signal of, read from the weights of a coordinate network that
was fitted to it, and does the answer survive what changes no function: flipped signs,
shifted phases, permuted units?

====== ===========================================================================
Run    `python -m experiments.classify_inr`
Device 2 CPU cores, no network access
Time   8 minutes, the zoo included
Numbers in `experiments/results/classify_inr_*.json`, mean and sd over 3 seeds
Source Navon et al. 2023, arXiv:2301.12780; Zhou et al. 2023, arXiv:2302.14040;
       attention: Zhou et al. 2023, arXiv:2305.13546
====== ===========================================================================
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from experiments import flags
from experiments.devices import OnDevices

COMPARED = (
    "signed",
    "canonical",
    "relative",
    "gauge",
    "strict",
    "mlp_canonical",
    "mlp_raw",
    "probes",
)
"""Rows of the ablation."""

MIXERS = ("signed", "signed_plain", "signed_attention")
"""Rows that differ in what a message is."""

ROWS = (
    *COMPARED,
    *MIXERS[1:],
    "signed_warped",
    "signed_probes",
    "signed_probes_warped",
    "probes_warped",
)
"""All rows; those with "probes" in their names run the networks."""


@dataclass(frozen=True, kw_only=True)
class Config(OnDevices):
    """One run; every field is a flag of the command line.

    Attributes:
        out: where the run writes; re-running with the same `out` resumes.
        zoo: a prepared folder of fits or FORMAT:DIRECTORY; empty for digits, fitted
            here.
        images: digits that are fitted here, the first ones; 0 for all.
        networks: training networks, the first ones; 0 for all.
        copies: fits of a training image to learn from; extra ones are left out.
        seed: decides everything random, the zoo of digits included.
        seeds: metanetworks trained per row of the table.
        rows: of the table, names of `ROWS`.
        channels: of "signed".
        waves: frequencies at which weights that read coordinates are read, of all
            kinds but "signed_plain" and MLPs.
        depth: rounds of messages, and layers of the kinds on raw weights.
        heads: of "signed_attention".
        attention_channels: of "signed_attention"; about as many parameters as "signed".
        layer_channels: of "strict" and "gauge"; about as many parameters.
        relative_channels: of "relative", likewise.
        graph_channels: of "canonical"; about as many parameters.
        turn: largest angle of a moved signal, degrees.
        zoom: largest change of a length of a moved signal, as a factor 1 + zoom.
        shift: largest shift of a moved signal, of its half width.
        probes: learned coordinates of the rows with probes.
        hidden: width of the heads.
        dropout: in the heads.
        steps: optimiser steps per metanetwork.
        layer_steps: of the kinds on raw weights, which are slower.
        probe_steps: of MLPs on values, which are faster.
        batch: networks per step.
        learning_rate: peak of the schedule.
        weight_decay: of matrices.
        evaluate_every: steps between two evaluations on the validation split.
    """

    out: Path = Path("runs/classify_inr")
    zoo: str = ""
    images: int = 0
    networks: int = 0
    copies: int = 1
    seed: int = 0
    seeds: int = 3
    rows: tuple[str, ...] = COMPARED
    channels: int = 32
    waves: int = 64
    depth: int = 2
    heads: int = 4
    attention_channels: int = 28
    layer_channels: int = 13
    relative_channels: int = 11
    graph_channels: int = 46
    turn: float = 12.0
    zoom: float = 0.12
    shift: float = 0.12
    probes: int = 128
    hidden: int = 128
    dropout: float = 0.3
    steps: int = 400
    layer_steps: int = 200
    probe_steps: int = 600
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    evaluate_every: int = 50

    def __post_init__(self) -> None:
        """Refuses what cannot be run, before anything is read or written."""
        flags.check_positive(self, _POSITIVE)
        if self.attention_channels % self.heads:
            raise ValueError(
                f"--heads should divide --attention-channels, got {self.heads} and "
                f"{self.attention_channels}."
            )
        unknown = [name for name in self.rows if name not in ROWS]
        if unknown or not self.rows:
            raise ValueError(
                f"--rows: expected some of {list(ROWS)}, got {unknown or 'none'}."
            )
        for name in ("images", "networks", "turn", "zoom", "shift"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"--{name} should be at least 0, got {getattr(self, name)}."
                )
        flags.check_rates(self)


_POSITIVE = (
    "seeds copies channels waves depth heads attention_channels layer_channels "
    "relative_channels graph_channels probes hidden steps layer_steps "
    "probe_steps batch evaluate_every"
).split()

_DIGITS = Config(out=Path("runs/classify_inr/digits"))
_MIXERS = dataclasses.replace(
    _DIGITS, out=Path("runs/classify_inr/digits_mixers"), rows=MIXERS
)
_COPIES = dataclasses.replace(
    _DIGITS,
    out=Path("runs/classify_inr/digits_copies"),
    copies=4,
    rows=("signed", "canonical", "mlp_canonical", "probes"),
)
_MNIST = dataclasses.replace(
    _DIGITS,
    out=Path("runs/classify_inr/mnist"),
    zoo="runs/make_zoo/inr_mnist/zoo",
    rows=("signed", "mlp_canonical", "mlp_raw", "probes"),
    channels=48,
    heads=6,
    attention_channels=42,
    layer_channels=15,
    relative_channels=14,
    graph_channels=59,
    probes=256,
    hidden=512,
    steps=2000,
    layer_steps=600,
    probe_steps=3000,
    learning_rate=1e-3,
    evaluate_every=200,
)
_WARPED = dataclasses.replace(
    _MNIST,
    out=Path("runs/classify_inr/mnist_warped"),
    rows=("signed_warped", "probes_warped"),
)
_SMOKE = dataclasses.replace(
    _DIGITS,
    out=Path("runs/classify_inr/smoke"),
    images=100,
    seeds=1,
    channels=2,
    waves=2,
    depth=1,
    heads=2,
    attention_channels=2,
    layer_channels=2,
    relative_channels=2,
    graph_channels=2,
    probes=4,
    hidden=4,
    steps=4,
    layer_steps=2,
    probe_steps=4,
    batch=20,
    evaluate_every=2,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "digits": ("1,797 networks fitted to 8 x 8 digits, made here.", _DIGITS),
    "digits_mixers": ("The same networks, ways to pass messages.", _MIXERS),
    "digits_copies": ("Four fits of every training image.", _COPIES),
    "mnist": (
        "13,000 networks fitted to MNIST; first `python -m experiments.make_zoo "
        "inr_mnist`.",
        _MNIST,
    ),
    "mnist_warped": (
        "The same, learned from networks moved by their weights, too.",
        _WARPED,
    ),
    "smoke": ("A few digits in seconds; numbers mean nothing.", _SMOKE),
}
"""Presets by name: what it is, and its config. The first is the default."""
