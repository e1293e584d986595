"""The public NFN SIREN zoo: sine networks fitted to images in [-1, 1].

`siren_X_wts/PREFIX_LABELs/netINDEX.pth`, with extra fits of the training images under
`PREFIX_augN_LABELs`; tensors `net.0.linear.weight`, ..., `net.2.weight`. An index
counts the training and then the test file of the image set. Split by it: below 45,000
train, below 50,000 validation, then test.

Source: Zhou et al. 2023, arXiv:2302.14040.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from qejax.zoo._listing import Found, Problem, in_memory, named
from qejax.zoo._splits import split_runs
from qejax.zoo._zoo import TEST, TRAIN, VAL, Zoo
from qejax.zoo.formats._fits import Fit, Layout, listing_of
from qejax.zoo.formats._protocols import CLEAN, Codes, check_protocol

LAYOUT = Layout("nfn_siren", "net.{}.linear", "net.{}", "signed")

LIMITS = (45_000, 50_000)
"""Images below the first train, below the second validate."""

IMAGES = {"cifar": 60_000}
"""Of a set X in its training and its test file; of others, such as MNIST, `OTHERS`."""

OTHERS = 70_000

FAITHFUL = "faithful_nfn"

NFN_SIREN: dict[str, Codes] = {
    FAITHFUL: lambda signals, seed: np.select(
        [signals < LIMITS[0], signals < LIMITS[1]], [TRAIN, VAL], TEST
    ),
    CLEAN: split_runs,
}
"""Codes from the indices of images, and a seed."""


def list_nfn_siren(
    directory: str | Path,
    prefix: str = "randinit_smaller",
    copies: int = 0,
    split_seed: int = 0,
    protocol: str = FAITHFUL,
) -> Found:
    """Lists the networks of an NFN SIREN directory.

    Args:
        directory: a folder `siren_X_wts`, or one that holds one such.
        prefix: of the folders of labels.
        copies: extra fits of training images to read, those of `PREFIX_aug0` up.
        split_seed: of the protocol "clean".
        protocol: "faithful_nfn" splits by the index of the image, as published; "clean"
            splits images at random. Extra fits are in the split of their image.

    Returns:
        Bucket `fits` by image and copy. The label is `class`; `hyper` are `signal` (the
        index of the image) and `copy`.

    Raises:
        FileNotFoundError: if there are no such networks, or none of an image of the
            set.
        ValueError: if none of the files that are looked at is a network.
    """
    directory = Path(directory)
    check_protocol(directory, protocol, NFN_SIREN)
    inside = sorted(directory.glob("siren_*_wts"))
    root = inside[0] if len(inside) == 1 else directory
    names = [prefix, *(f"{prefix}_aug{n}" for n in range(copies))]
    fits: list[Fit] = []
    problems: list[Problem] = []
    for copy, name in enumerate(names):
        _collect(root, name, copy, fits, problems)
    if not fits and problems:
        raise ValueError(f"{problems[0].why} There is no other file.")
    if not fits:
        raise FileNotFoundError(
            f"{root}: expected folders {prefix}_LABELs of files netINDEX.pth, found "
            f"{sorted(path.name for path in root.glob('*'))[:4]}."
        )
    fits.sort(key=lambda fit: (fit.signal, fit.copy, fit.label))
    fits, outside = _of_images(root, fits)
    signals = np.array([fit.signal for fit in fits])
    codes = NFN_SIREN[protocol](signals, split_seed)
    listing = listing_of(LAYOUT, root, fits, signals.astype(str), codes)
    advice = "remove the files to go on without them"
    return Found({"fits": listing}, (*problems, *outside), protocol, advice)


def load_nfn_siren(directory: str | Path, *args: Any, **options: Any) -> Zoo:
    """Returns the networks of `list_nfn_siren` in memory; see there for options.

    Raises:
        FileNotFoundError: as `list_nfn_siren`.
        ValueError: if a file cannot be read, does not fit the others, is of an image
            that the set does not have, or holds what is not finite; names the first,
            expected and found, and how many there are.
    """
    return in_memory(list_nfn_siren(directory, *args, **options))["fits"]


def _of_images(root: Path, fits: list[Fit]) -> tuple[list[Fit], list[Problem]]:
    """Those of images of the set, and all others."""
    names = re.fullmatch(r"siren_(\w+)_wts", root.name)
    count = IMAGES.get(names[1], OTHERS) if names else OTHERS
    outside = [fit for fit in fits if fit.signal >= count]
    shown = [fit.path.relative_to(root).as_posix() for fit in outside]
    if len(outside) == len(fits):
        raise FileNotFoundError(
            f"{root}: expected indices below {count:,}, training and then test "
            f"images, got none below in {len(fits)} files: {named(shown)}."
        )
    problems = [
        Problem(
            name,
            f"{fit.path}: expected an index below {count:,}, of training and then test "
            f"images, got {fit.signal}.",
        )
        for name, fit in zip(shown, outside, strict=True)
    ]
    return fits[: len(fits) - len(outside)], problems


def _collect(
    root: Path, name: str, copy: int, fits: list[Fit], problems: list[Problem]
) -> None:
    """Adds the files of one fit of every image; one of an image, and one copy of it."""
    seen: dict[int, Path] = {}
    for folder in sorted(root.glob(f"{name}_[0-9]s")):
        for path in sorted(folder.glob("net*.pth")):
            shown = path.relative_to(root).as_posix()
            index = re.fullmatch(r"net(\d{1,9})\.pth", path.name)
            if index is None:
                why = f"{path}: expected files called netINDEX.pth, got {path.name!r}."
                problems.append(Problem(shown, why))
                continue
            number, label = int(index[1]), int(folder.name[-2])
            if seen.setdefault(number, path) != path:
                why = (
                    f"{path}: expected one network of image {number} under {name!r}, "
                    f"got another one in {seen[number].parent.name!r}."
                )
                problems.append(Problem(shown, why))
                continue
            fits.append(Fit(path, f"{number}_{copy}", label, number, copy))
