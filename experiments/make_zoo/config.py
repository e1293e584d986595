"""What one zoo of transformers is made of, and the presets.

Question: none; other experiments ask theirs of what this one makes.

====== ===========================================================================
Run    `python -m experiments.make_zoo transformers_digits`
Device 2 CPU cores, no network access
Source Tran et al. 2024, arXiv:2410.04209 (the Small Transformer Zoo); ranges are
       those of its published sweeps in the presets `transformers_published...`;
       see README.md for what differs
====== ===========================================================================
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.devices import OnDevices
from experiments.make_zoo.encoders import ENCODERS, IMAGES, encoder
from qejax import zoo

Images = Literal["digits", "mnist", "cifar10"]


@dataclass(frozen=True, kw_only=True)
class Config(OnDevices):
    """One zoo; every field is a flag of the command line.

    Every network draws its own value within each range.

    Attributes:
        images: `digits` (embedded), or `mnist` or `cifar10`, prepared by TFDS.
        tfds: directory of prepared TFDS data sets; `TFDS_DATA_DIR` by default.
        train_images: at most so many; 0 for all.
        test_images: on which accuracies are measured; 0 for all.
        out: where the run writes; the zoo itself is in `zoo` there.
        seed: decides everything random.
        encoders: a bucket for each, of `plain` (the published one), `pre`, `post`
            and `gated`.
        networks: in each bucket, diverged ones included.
        patch: side of the patches.
        dim: width of the stream.
        depth: blocks.
        heads: of attention.
        steps: range of the stopping step.
        batch: images in a minibatch.
        optimizers: of `sgd`, `momentum`, `adam` and `rmsprop`.
        learning_rate: range for Adam and RMSprop; momentum takes 10 times as much,
            SGD 30 times.
        equal_rates: whether momentum and SGD take no more than the others.
        schedule: steps of warm-up, and of warm-up and cosine decay; 0 0 for none.
        init_std: range of the standard deviation of initial kernels.
        weight_decay: range of the L2 coefficient.
        dropout: range of the rate behind hidden layers; half have none.
        train_fraction: range of the share of the images that a network sees.
        chunk: networks in one compiled program.
    """

    images: Images = "digits"
    tfds: Path | None = None
    train_images: int = 0
    test_images: int = 0
    out: Path = Path("runs/make_zoo")
    seed: int = 0
    encoders: tuple[str, ...] = ("plain",)
    networks: int = 1024
    patch: int = 4
    dim: int = 16
    depth: int = 2
    heads: int = 2
    steps: tuple[int, int] = (30, 2000)
    batch: int = 32
    optimizers: tuple[str, ...] = ("sgd", "momentum", "adam", "rmsprop")
    learning_rate: tuple[float, float] = (3e-4, 1.5e-2)
    equal_rates: bool = False
    schedule: tuple[int, int] = (0, 0)
    init_std: tuple[float, float] = (0.1, 0.5)
    weight_decay: tuple[float, float] = (1e-8, 1e-2)
    dropout: tuple[float, float] = (0.0, 0.2)
    train_fraction: tuple[float, float] = (0.7, 1.0)
    chunk: int = 64

    def __post_init__(self) -> None:
        """Refuses what cannot be trained, before anything is read or written."""
        for name in ("train_images", "test_images"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"--{name.replace('_', '-')} should be at least 0, got "
                    f"{getattr(self, name)}."
                )
        unknown = [name for name in self.encoders if name not in ENCODERS]
        if unknown or not self.encoders:
            raise ValueError(
                f"--encoders: expected some of {list(ENCODERS)}, got "
                f"{unknown or 'none'}."
            )
        self.recipe()

    def recipe(self) -> zoo.ZooConfig:
        """Returns how the networks are trained.

        Raises:
            ValueError: if a field is out of range; names it.
        """
        image = IMAGES[self.images]
        return zoo.ZooConfig(
            buckets={
                name: encoder(name, image, self.patch, self.dim, self.depth, self.heads)
                for name in self.encoders
            },
            count=self.networks,
            seed=self.seed,
            steps=self.steps,
            batch=self.batch,
            optimizers=self.optimizers,
            learning_rate=self.learning_rate,
            equal_rates=self.equal_rates,
            schedule=self.schedule,
            inits=("normal",),
            init_scale=self.init_std,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            train_fraction=self.train_fraction,
            chunk=self.chunk,
        )


_DIGITS = Config(out=Path("runs/make_zoo/transformers_digits"))
_VARIANTS = dataclasses.replace(
    _DIGITS,
    out=Path("runs/make_zoo/transformers_variants"),
    encoders=("pre", "post", "gated"),
    networks=384,
    steps=(10, 600),
)
_MNIST = Config(
    images="mnist",
    train_images=10_000,
    test_images=2_000,
    out=Path("runs/make_zoo/transformers_mnist"),
    dim=32,
)
# An epoch of 60,000 images is 468 steps. Ten of the 100 warm up.
_PUBLISHED = Config(
    images="mnist",
    out=Path("runs/make_zoo/transformers_published"),
    dim=32,
    steps=(468, 46_875),
    batch=128,
    learning_rate=(3e-5, 5e-3),
    equal_rates=True,
    schedule=(4_687, 46_875),
    init_std=(0.001, 0.5),
    train_fraction=(0.6, 0.9),
)
_PUBLISHED_ADAM = dataclasses.replace(
    _PUBLISHED,
    out=Path("runs/make_zoo/transformers_published_adam"),
    optimizers=("adam", "rmsprop"),
    learning_rate=(3e-4, 5e-2),
    init_std=(0.1, 0.5),
    train_fraction=(0.7, 1.0),
)
_PUBLISHED_SGD = dataclasses.replace(
    _PUBLISHED_ADAM,
    out=Path("runs/make_zoo/transformers_published_sgd"),
    optimizers=("sgd", "momentum"),
    learning_rate=(1e-3, 7e-2),
    init_std=(0.1, 0.3),
)
_SMOKE = dataclasses.replace(
    _DIGITS,
    out=Path("runs/make_zoo/smoke"),
    networks=20,
    dim=4,
    depth=1,
    steps=(0, 8),
    batch=8,
    chunk=10,
)

PRESETS: dict[str, tuple[str, Config]] = {
    "transformers_digits": (
        "1,024 encoders of the Small Transformer Zoo on 8 x 8 digits.",
        _DIGITS,
    ),
    "transformers_variants": (
        "Three other encoders on the digits, 384 of each: norms before and behind "
        "their layers, and gated layers with rotary embedding.",
        _VARIANTS,
    ),
    "transformers_mnist": (
        "Encoders as published, on MNIST through TFDS; made for a GPU.",
        _MNIST,
    ),
    "transformers_cifar10": (
        "The same on CIFAR-10 through TFDS.",
        dataclasses.replace(
            _MNIST, images="cifar10", out=Path("runs/make_zoo/transformers_cifar10")
        ),
    ),
    "transformers_published": (
        "The ranges of the first published sweep, on all of MNIST through TFDS; needs "
        "a GPU.",
        _PUBLISHED,
    ),
    "transformers_published_adam": (
        "Those of the second sweep for Adam and RMSprop.",
        _PUBLISHED_ADAM,
    ),
    "transformers_published_sgd": (
        "Those of the second sweep for SGD and momentum.",
        _PUBLISHED_SGD,
    ),
    "smoke": ("A few untrained encoders, in seconds.", _SMOKE),
}
"""Presets by name: what it is, and its config. The first is the default."""
