"""The networks of a run: a zoo of fits, or digits that are fitted here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.classify_inr.config import Config
from experiments.devices import mesh_of
from experiments.make_zoo.signals import digit_images
from qejax import zoo

DIGITS = zoo.FitConfig(
    (8, 8), hidden=(16, 16), activation="sine(10)", psnr=35.0, chunk=64
)
"""How digits are fitted: all of them reach their PSNR."""


def load(config: Config, tell: Callable[[float, float], None]) -> zoo.Zoo:
    """Returns the networks that a run reads, with the training networks it asks for.

    Extra fits of one image are kept in the training split only, up to
    `config.copies`; validation and test networks are one fit an image.

    Args:
        config: of the run.
        tell: takes the share of the fits that are done, and of those found on disk.

    Raises:
        FileNotFoundError: if there is no such zoo.
        ValueError: if its networks have no class, or fewer networks or copies than
            asked for.
    """
    if config.zoo:
        fits = _given(config.zoo)
    else:
        fits = zoo.read(_fitted(config, _root(config), tell))
    if "class" not in fits.labels:
        raise ValueError(
            f"--zoo {config.zoo}: expected networks with a label 'class', got "
            f"{list(fits.labels)}."
        )
    copy = fits.hyper.get("copy", np.zeros(len(fits), np.int64))
    training = fits.split == zoo.SPLITS["train"]
    if copy[training].max(initial=0) + 1 < config.copies:
        raise ValueError(
            f"--copies {config.copies}: expected as many fits of a training image, "
            f"found {copy[training].max(initial=0) + 1}."
        )
    kept = (copy == 0) | (training & (copy < config.copies))
    fits = fits.take(np.flatnonzero(kept))
    if not config.networks:
        return fits
    rows = fits.rows("train")
    if len(rows) < config.networks:
        raise ValueError(
            f"--networks {config.networks}: expected as many training networks, found "
            f"{len(rows)}."
        )
    others = np.flatnonzero(fits.split != zoo.SPLITS["train"])
    return fits.take(np.sort(np.concatenate([rows[: config.networks], others])))


def notes(config: Config) -> dict[str, int]:
    """Returns how many fits of a prepared zoo fell short, diverged, had no signal.

    Empty of a zoo that was not fitted by `qejax.zoo.fit`.
    """
    if ":" in config.zoo:
        return {}
    found = zoo.notes(config.zoo or _root(config))
    return {name: found[name] for name in zoo.CASES if name in found}


def _root(config: Config) -> Path:
    """The folder of the digits of a config."""
    name = f"digits_{config.seed}_{config.copies}_{config.images}"
    return config.out.parent / name


def _given(address: str) -> zoo.Zoo:
    if ":" in address:
        (fits,) = zoo.formats.load(address).values()
        return fits
    if not Path(address).exists():
        raise FileNotFoundError(
            f"--zoo {address}: expected a prepared zoo, found nothing. Make one with "
            f"`python -m experiments.make_zoo inr_mnist --tfds DIR`."
        )
    return zoo.read(address)


def _fitted(config: Config, root: Path, tell: Callable[[float, float], None]) -> Path:
    values, labels = digit_images(config.images)
    recipe = replace(DIGITS, copies=config.copies, seed=config.seed)

    def report(progress: zoo.FitProgress) -> None:
        share = progress.fits / progress.num_fits
        tell(share, share if progress.resumed else 0.0)

    given = zoo.Signals(values, labels)
    return zoo.fit(recipe, given, root, report, mesh_of(config))
