"""The public NFN SIREN zoo: sine networks fitted to images in [-1, 1].

`siren_X_wts/PREFIX_LABELs/netINDEX.pth`, with extra fits of the training images under
`PREFIX_augN_LABELs`; tensors `net.0.linear.weight`, ..., `net.2.weight`. An index
counts the training and then the test file of the image set. Split by it: below 45,000
train, below 50,000 validation, then test.

Source: Zhou et al. 2023, arXiv:2302.14040.
"""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qejax.zoo._zoo import TEST, TRAIN, VAL, Zoo
from qejax.zoo.formats._fits import Fit, named, zoo_of

LIMITS = (45_000, 50_000)
"""Images below the first train, below the second validate."""

IMAGES = {"cifar": 60_000}
"""Of a set X in its training and its test file; of others, such as MNIST, `OTHERS`."""

OTHERS = 70_000


def load_nfn_siren(
    directory: str | Path, prefix: str = "randinit_smaller", copies: int = 0
) -> Zoo:
    """Returns the networks of an NFN SIREN directory.

    A network of an image that the set does not have is left out. A warning names the
    first few of such files and counts them.

    Args:
        directory: a folder `siren_X_wts`, or one that holds one such.
        prefix: of the folders of labels.
        copies: extra fits of training images to read, those of `PREFIX_aug0` up.

    Returns:
        The zoo by image and copy. The label is `class`; `hyper` are `signal` (the index
        of the image) and `copy`. Extra fits are in the split of their image.

    Raises:
        FileNotFoundError: if there are no such networks, or none of an image of the
            set.
        ValueError: if a file cannot be read, does not fit the others, or holds what is
            not finite; names the first, expected and found, and how many there are.
    """
    directory = Path(directory)
    inside = sorted(directory.glob("siren_*_wts"))
    root = inside[0] if len(inside) == 1 else directory
    names = [prefix, *(f"{prefix}_aug{n}" for n in range(copies))]
    fits = [
        Fit(path, f"{index}_{copy}", label, index, copy, _by_index(index))
        for copy, name in enumerate(names)
        for path, label, index in _nfn_files(root, name)
    ]
    if not fits:
        raise FileNotFoundError(
            f"{root}: expected folders {prefix}_LABELs of files netINDEX.pth, found "
            f"{sorted(path.name for path in root.glob('*'))[:4]}."
        )
    fits.sort(key=lambda fit: (fit.signal, fit.copy))
    fits = _of_images(root, fits)
    return zoo_of("nfn_siren", root, fits, "net.{}.linear", "net.{}", "signed")


def _of_images(root: Path, fits: list[Fit]) -> list[Fit]:
    """Those of images of the set; warns of all others."""
    names = re.fullmatch(r"siren_(\w+)_wts", root.name)
    count = IMAGES.get(names[1], OTHERS) if names else OTHERS
    outside = [fit for fit in fits if fit.signal >= count]
    if not outside:
        return fits
    if len(outside) == len(fits):
        raise FileNotFoundError(
            f"{root}: expected indices below {count:,}, training and then test "
            f"images, got none below in {len(fits)} files: {named(root, fits)}."
        )
    warnings.warn(
        f"{root}: expected indices below {count:,}, training and then test images; "
        f"{len(outside)} of {len(fits)} files are left out: {named(root, outside)}.",
        stacklevel=3,
    )
    return fits[: len(fits) - len(outside)]


def _nfn_files(root: Path, name: str) -> Iterator[tuple[Path, int, int]]:
    for folder in root.glob(f"{name}_[0-9]s"):
        for path in folder.glob("net*.pth"):
            index = re.fullmatch(r"net(\d{1,9})\.pth", path.name)
            if index is None:
                raise ValueError(
                    f"{path}: expected files called netINDEX.pth, got {path.name!r}."
                )
            yield path, int(folder.name[-2]), int(index[1])


def _by_index(index: int) -> int:
    first, second = LIMITS
    return TRAIN if index < first else VAL if index < second else TEST


def load_nfn_siren_all(directory: str | Path, **options: Any) -> dict[str, Zoo]:
    """Returns `load_nfn_siren(directory, **options)` as bucket `fits`."""
    return {"fits": load_nfn_siren(directory, **options)}
