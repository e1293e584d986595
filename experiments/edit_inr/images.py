"""The networks of a run, what they render, and what they should render."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.devices import mesh_of
from experiments.edit_inr.config import Config
from experiments.edit_inr.edits import EDITS
from experiments.make_zoo.signals import digit_images
from experiments.predict_accuracy.chunks import compiled_once, in_chunks
from experiments.predict_accuracy.record import fingerprint
from qejax import nets, zoo
from qejax._typing import Array, Theta
from qejax.nets import Network

MADE_WITH = (
    "seed",
    "shape",
    "signals",
    "hidden",
    "activation",
    "octaves",
    "convention",
    "fit_steps",
)
"""Fields of a config that decide the fits that are made."""


@dataclass(frozen=True)
class Images:
    """Networks of one split and their images.

    Attributes:
        thetas: leaves `[B, ...]`.
        rendered: `[B, N, c]` in [0, 1] up to the error of the fit, not cut off.
        classes: `[B]`.
    """

    thetas: Theta
    rendered: np.ndarray
    classes: np.ndarray

    def target(self, edit: str, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the edited images `[B, N, c]`, of the rendered ones cut off."""
        count, _, channels = self.rendered.shape
        images = np.clip(self.rendered, 0, 1).reshape(count, *shape, channels)
        return EDITS[edit](images).reshape(self.rendered.shape).astype(np.float32)


@dataclass(frozen=True)
class Subject:
    """What all rows are trained and tested on.

    Attributes:
        network: the architecture.
        low: value of the network that is 0 in an image.
        high: value that is 1.
        splits: by name.
        fits: of the networks: the median of their PSNR, dB, and how many fell short of
            the one that was wanted, diverged and are left out, or fit a constant image.
    """

    network: Network
    low: float
    high: float
    splits: dict[str, Images]
    fits: dict[str, Any]

    def render(self, theta: Theta, grid: Array) -> Array:
        """Returns the image of one network in [0, 1], `[N, c]`."""
        return (self.network.apply(theta, grid) - self.low) / (self.high - self.low)


def place(config: Config) -> Path:
    """Returns the folder of the fits of a config."""
    if config.zoo is not None:
        return config.zoo
    made_with = {name: getattr(config, name) for name in MADE_WITH}
    return config.zoos / f"fits-{fingerprint(made_with)}"


def load(config: Config, tell: Callable[[float, float], None]) -> Subject:
    """Returns networks and images, fitted first where there is no zoo.

    Args:
        config: of the run.
        tell: takes the share of the fits that are done, and the share found done.

    Raises:
        ValueError: if the zoo is damaged, holds no coordinate networks, or was fitted
            on another grid.
        FileNotFoundError: if `--zoo` is no folder.
    """
    root = place(config)
    if config.zoo is None:
        _fit(config, root, tell)
    elif not root.is_dir():
        raise FileNotFoundError(
            f"--zoo {root}: expected a folder made by qejax.zoo.fit, found none. Make "
            f"it with `python -m experiments.make_zoo inr_mnist --tfds DIR`, or run "
            f"the preset 'digits', which makes its own."
        )
    fits = zoo.read(root)
    network = fits.network
    choices = network.config
    if not isinstance(choices, nets.CoordinateConfig):
        raise ValueError(
            f"--zoo {root}: expected coordinate networks, got networks of the "
            f"configuration {type(choices).__name__}. Make it with qejax.zoo.fit."
        )
    made_on = zoo.recipe(root).get("fit", {}).get("shape", config.shape)
    if tuple(made_on) != config.shape:
        raise ValueError(
            f"--zoo {root}: expected fits on a grid of {config.shape}, got {made_on}. "
            f"Pass --shape {' '.join(map(str, made_on))}."
        )
    (rules,) = [r for r in zoo.CONVENTIONS.values() if r.offset == choices.offset]
    notes = zoo.notes(root)
    about = {name: notes[name] for name in zoo.CASES if name in notes}
    about["psnr"] = float(np.median(fits.labels["psnr"]))
    subject = Subject(network, rules.low, rules.high, {}, about)
    grid = nets.grid(*config.shape)
    draw = compiled_once(jax.vmap(lambda theta: subject.render(theta, grid)))
    for split in zoo.SPLITS:
        part = fits.select(split)
        if split == "train" and config.train:
            part = part.take(np.arange(min(config.train, len(part))))
        found = in_chunks(draw, part.thetas, mesh=mesh_of(config))
        rendered = found.astype(np.float32)
        classes = part.labels["class"].astype(np.int64)
        subject.splits[split] = Images(part.thetas, rendered, classes)
    tell(1.0, 1.0)
    return subject


def _fit(config: Config, root: Path, tell: Callable[[float, float], None]) -> None:
    values, labels = digit_images(config.signals)
    choices = zoo.FitConfig(
        shape=config.shape,
        hidden=config.hidden,
        activation=config.activation,
        octaves=config.octaves,
        convention=config.convention,
        max_steps=config.fit_steps,
        seed=config.seed,
    )
    begun: list[float] = []

    def progress(report: zoo.FitProgress) -> None:
        share = report.fits / report.num_fits
        if report.resumed or not begun:
            begun[:] = [share if report.resumed else 0.0]
        tell(share, begun[0])

    zoo.fit(choices, zoo.Signals(values, labels), root, progress, mesh_of(config))
