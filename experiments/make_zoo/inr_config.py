"""What one zoo of coordinate networks is made of, and the presets.

Question: none; other experiments ask theirs of what this one makes.

====== ===========================================================================
Run    `python -m experiments.make_zoo --task inr`
Device 2 CPU cores, no network access
Source Sitzmann et al. 2020, arXiv:2006.09661 (SIRENs); Zhou et al. 2023,
       arXiv:2302.14040 (convention `signed`); Navon et al. 2023, arXiv:2301.12780
       (convention `unit`); see README.md for what differs
====== ===========================================================================
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.devices import OnDevices
from qejax import zoo

SHAPES: dict[str, tuple[int, int]] = {
    "digits": (8, 8),
    "mnist": (28, 28),
    "fashion_mnist": (28, 28),
    "cifar10": (32, 32),
}
"""Height and width of the images."""

COLOURED = ("cifar10",)
"""Data sets whose images have colours."""


@dataclass(frozen=True, kw_only=True)
class InrConfig(OnDevices):
    """One zoo of fits; every field is a flag of the command line.

    Attributes:
        signals: `digits` (embedded), `sounds` (made), or images prepared by TFDS.
        tfds: directory of prepared TFDS data sets; `TFDS_DATA_DIR` by default.
        train_signals: the first of the training images.
        val_signals: the training images that follow them.
        test_signals: the first of the test images.
        rgb: fits three channels; by default images with colours are made grey.
        points: of a sound.
        sounds_seed: decides the sounds.
        out: where the run writes; the zoo itself is in `zoo` there.
        seed: decides starts and sampled coordinates.
        convention: `signed` (values in [-1, 1]) or `unit` (values in [0, 1] around an
            offset of 0.5, biases 0 at the start).
        hidden: widths of the hidden layers.
        activation: one for all hidden layers, or one for each: `sine(30)`, `tanh`,
            `gaussian(10)`, `relu`.
        octaves: of the encoding of coordinates; `relu` wants some.
        copies: fits of every signal, from starts of their own.
        learning_rate: of Adam.
        max_steps: after which a fit is given up.
        psnr: at which a fit stops, in dB.
        check: steps between two measurements of it.
        sample: coordinates in a step, drawn anew; 0 for all.
        together: fits in one loop of steps; a few on a CPU, `chunk` on a GPU.
        chunk: fits in one program and one file; a multiple of `together`.
    """

    signals: Literal["digits", "mnist", "fashion_mnist", "cifar10", "sounds"] = "digits"
    tfds: Path | None = None
    train_signals: int = 1297
    val_signals: int = 200
    test_signals: int = 300
    rgb: bool = False
    points: int = 256
    sounds_seed: int = 0
    out: Path = Path("runs/make_zoo/inr")
    seed: int = 0
    convention: Literal["signed", "unit"] = "signed"
    hidden: tuple[int, ...] = (32, 32)
    activation: tuple[str, ...] = ("sine(30)",)
    octaves: int = 0
    copies: int = 1
    learning_rate: float = 1e-3
    max_steps: int = 1000
    psnr: float = 40.0
    check: int = 20
    sample: int = 0
    together: int = 4
    chunk: int = 256

    def __post_init__(self) -> None:
        """Refuses what cannot be fitted, before anything is read or written."""
        least = dict.fromkeys(("train_signals", "val_signals", "test_signals"), 0)
        for name, low in (*least.items(), ("points", 2), ("sounds_seed", 0)):
            if getattr(self, name) < low:
                raise ValueError(
                    f"--{name.replace('_', '-')} should be at least {low}, got "
                    f"{getattr(self, name)}."
                )
        if not self.num_signals:
            raise ValueError(
                "--train-signals, --val-signals, --test-signals: expected at least one "
                "signal in all, got 0."
            )
        if self.rgb and self.signals not in COLOURED:
            raise ValueError(
                f"--rgb: expected signals with colours, one of {list(COLOURED)}, got "
                f"--signals {self.signals}. Leave it out."
            )
        if len(self.activation) not in (1, len(self.hidden)):
            raise ValueError(
                f"--activation: expected one, or one for each of {len(self.hidden)} "
                f"hidden layers, got {len(self.activation)}."
            )
        self.recipe()

    @property
    def num_signals(self) -> int:
        """Signals of all splits."""
        return self.train_signals + self.val_signals + self.test_signals

    def recipe(self) -> zoo.FitConfig:
        """Returns how the networks are fitted.

        Raises:
            ValueError: if a field is out of range; names it.
        """
        several = len(self.activation) != 1
        return zoo.FitConfig(
            shape=SHAPES.get(self.signals, (self.points,)),
            channels=3 if self.rgb else 1,
            convention=self.convention,
            hidden=self.hidden,
            activation=self.activation if several else self.activation[0],
            octaves=self.octaves,
            copies=self.copies,
            learning_rate=self.learning_rate,
            max_steps=self.max_steps,
            psnr=self.psnr,
            check=self.check,
            sample=self.sample,
            together=self.together,
            chunk=self.chunk,
            seed=self.seed,
        )


_PLACE = Path("runs/make_zoo")
# On 8 x 8 points sines of 30 would swing between the pixels: their share of the
# highest frequency that the grid can tell is that of sine(30) on 28 x 28.
_DIGITS = InrConfig(out=_PLACE / "inr_digits", activation=("sine(8)",))
_MNIST = InrConfig(
    signals="mnist",
    train_signals=10_000,
    val_signals=1_000,
    test_signals=2_000,
    out=_PLACE / "inr_mnist",
)
_CIFAR10 = dataclasses.replace(
    _MNIST,
    signals="cifar10",
    train_signals=9_000,
    rgb=True,
    out=_PLACE / "inr_cifar10",
)
_SOUNDS = InrConfig(
    signals="sounds",
    train_signals=2_000,
    val_signals=500,
    test_signals=500,
    out=_PLACE / "inr_sounds",
)
_SMOKE = dataclasses.replace(
    _DIGITS,
    train_signals=12,
    val_signals=4,
    test_signals=8,
    out=_PLACE / "inr_smoke",
    hidden=(8, 8),
    learning_rate=3e-3,
    max_steps=100,
    psnr=21.0,
    chunk=12,
)

INR_PRESETS: dict[str, tuple[str, InrConfig]] = {
    "inr_digits": ("SIRENs of all 1,797 digits, 8 x 8.", _DIGITS),
    "inr_mnist": (
        "SIRENs of 13,000 images of MNIST through TFDS, values in [-1, 1].",
        _MNIST,
    ),
    "inr_mnist_unit": (
        "The same in the convention and with the rate of Navon et al.",
        dataclasses.replace(
            _MNIST,
            convention="unit",
            learning_rate=5e-4,
            out=_PLACE / "inr_mnist_unit",
        ),
    ),
    "inr_fashion": (
        "As `inr_mnist`, of Fashion-MNIST.",
        dataclasses.replace(
            _MNIST, signals="fashion_mnist", out=_PLACE / "inr_fashion"
        ),
    ),
    "inr_cifar10": (
        "SIRENs of 12,000 images of CIFAR-10 in colour through TFDS.",
        _CIFAR10,
    ),
    "inr_sounds": ("SIRENs of 3,000 sounds in ten classes.", _SOUNDS),
    "inr_smoke": ("A few poor fits of digits, in seconds.", _SMOKE),
}
"""Presets by name: what it is, and its config. The first is the default."""
