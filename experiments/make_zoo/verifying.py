"""`make_zoo verify`: is a prepared zoo whole, and does it do what is recorded."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.make_zoo.verbs import Verify
from qejax import nets, spaces, zoo

GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue."""

SCALES = {"[-1, 1]": (2 / 255, -1.0), "[0, 1]": (1 / 255, 0.0)}
"""Ranges that images may have been given in: factor and offset on bytes."""

TRIED = 8
"""Networks by which the range is chosen."""

SHOWN = 3


class Verified(NamedTuple):
    """What was measured again of a bucket.

    Attributes:
        networks: how many.
        mean_error: mean absolute difference to what is recorded.
        max_error: largest.
        exact: networks without any difference.
    """

    networks: int
    mean_error: float
    max_error: float
    exact: int


def run(config: Verify, console: Console) -> dict[str, Verified]:
    """Checks checksums and, where there are images, what the networks do with them.

    Raises:
        ValueError: if a file is not as it was written, images do not fit, or a network
            does not do what is recorded; names it.
        FileNotFoundError: if the zoo or the images are not there.
    """
    if config.zoo == Path():
        raise ValueError("ZOO: expected the folder of a prepared zoo, got none.")
    _check_files(config, console)
    found = zoo.list_prepared(config.zoo, verify=False)
    files = sum(len(zoo.notes(config.zoo, name)["shards"]) for name in found.listings)
    total = sum(map(len, found.listings.values()))
    console.print(f"{files} files with their checksums, {total:,} networks as listed")
    if config.images is None:
        console.print("no images given (--images): what networks do was not measured")
        return {}
    done = {}
    for name, listing in found.listings.items():
        parts = list(zoo.apart(name, _some(listing, config.networks)).values())
        kind = isinstance(parts[0].network.config, nets.CoordinateConfig)
        if kind and len(parts) == 1:
            done[name] = _rendered(name, zoo.loaded(parts[0]), config, console)
        else:
            done[name] = _scored(name, parts, config, console)
    return done


def _check_files(config: Verify, console: Console) -> None:
    """Names every file that is not as it was written, before it raises."""
    wrong = zoo.wrong_files(config.zoo)
    lines = [why for files in wrong.values() for why in files.values()]
    for line in lines:
        console.print(line, highlight=False, markup=False)
    if lines:
        names = zoo.buckets(config.zoo)
        total = sum(len(zoo.notes(config.zoo, name)["shards"]) for name in names)
        raise ValueError(
            f"{config.zoo}: expected {total} files as they were written, got "
            f"{len(lines)} that are not, named above. `make_zoo inspect` shows what is "
            f"whole."
        )


def _some(listing: zoo.Listing, count: int) -> zoo.Listing:
    """So many networks of a bucket, evenly spread."""
    total = len(listing)
    return listing.take(
        np.unique(np.linspace(0, total - 1, count or total).astype(int))
    )


def _scored(
    name: str, parts: list[zoo.Listing], config: Verify, console: Console
) -> Verified:
    """Measures test accuracies again; compiles once for each architecture."""
    if "test_accuracy" not in parts[0].labels:
        raise ValueError(
            f"{config.zoo}, bucket {name!r}: expected a label 'test_accuracy', got "
            f"{list(parts[0].labels)}."
        )
    images, labels = load_images(config)

    def gaps(part: zoo.Listing, scale: str) -> np.ndarray:
        got = accuracies(zoo.loaded(part), images, labels, scale)
        return np.abs(got - part.labels["test_accuracy"])

    best = max(parts, key=lambda part: float(part.labels["test_accuracy"].max()))
    order = np.argsort(-best.labels["test_accuracy"], kind="stable")
    errors = {text: gaps(best.take(order[:TRIED]), text).mean() for text in SCALES}
    scale = min(errors, key=errors.__getitem__)
    gap = np.concatenate([gaps(part, scale) for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    found = Verified(
        len(gap), float(gap.mean()), float(gap.max()), int(np.sum(gap == 0))
    )
    console.print(
        f"{name}: accuracies of {found.networks:,} networks on {len(images):,} images "
        f"in {scale}: mean absolute error {found.mean_error:.1e}, largest "
        f"{found.max_error:.1e}, {found.exact:,} the same",
        highlight=False,
    )
    _check(name, ids, gap, config, "test accuracy")
    return found


def accuracies(
    one: zoo.Zoo, images: np.ndarray, labels: np.ndarray, scale: str
) -> np.ndarray:
    """Returns the share of images that each network has right, `[B]` float32.

    Args:
        one: classifiers.
        images: bytes `[N, height, width]` or with channels.
        labels: `[N]`.
        scale: of `SCALES`.

    Raises:
        ValueError: if images do not fit the networks.
    """
    factor, offset = SCALES[scale]
    x = _channels(one.network.config, images).astype(np.float32)
    x = jnp.asarray(x * np.float32(factor) + np.float32(offset))

    def right(theta: Any) -> jax.Array:
        return (one.network.apply(theta, x).argmax(-1) == labels).sum()

    counts = spaces.map_networks(right, one.thetas)
    return np.asarray(counts).astype(np.float32) / np.float32(len(labels))


def _channels(config: nets.NetConfig, images: np.ndarray) -> np.ndarray:
    """Images in colour or grey, as the networks take them."""
    if images.ndim == 3:
        images = images[..., None]
    wants = getattr(config, "in_channels", None)
    shape = getattr(config, "image", None)
    wants = shape[2] if wants is None and shape and len(shape) > 2 else wants
    if wants == 1 and images.shape[-1] == 3:
        return (images @ GREY)[..., None]
    if wants is not None and images.shape[-1] != wants:
        raise ValueError(
            f"--images: expected {wants} channels, as the networks take, got "
            f"{images.shape[-1]}."
        )
    return images


def _rendered(name: str, one: zoo.Zoo, config: Verify, console: Console) -> Verified:
    """Compares fits with what they were fitted to."""
    with _opened(config) as file:
        images, index = file["image"], file["index"]
    signals = images[..., None] if images.ndim == 3 else images
    shown = zoo.compare_signals(one, signals / 255, index)
    console.print(f"{name}: {shown}", highlight=False)
    there = shown.mse[~np.isnan(shown.mse)]
    if not len(there):
        raise ValueError(
            f"--images {config.images}: expected images that networks of bucket "
            f"{name!r} were fitted to, got none with an index of theirs."
        )
    _check(name, one.ids, np.nan_to_num(shown.mse), config, "mean squared error")
    return Verified(
        len(there),
        float(there.mean()) if len(there) else 0.0,
        float(there.max(initial=0)),
        int(np.sum(there == 0)),
    )


def _check(
    name: str, ids: np.ndarray, gap: np.ndarray, config: Verify, what: str
) -> None:
    bad = np.flatnonzero(gap > config.tolerance)
    if len(bad):
        raise ValueError(
            f"{config.zoo}, bucket {name!r}: {what} should be as recorded to "
            f"--tolerance {config.tolerance:g}, got a difference of {gap[bad[0]]:.2g} "
            f"for {', '.join(map(str, ids[bad[:SHOWN]]))} ({len(bad)} of "
            f"{len(ids)} networks). Are these the images it was measured on?"
        )


def load_images(config: Verify) -> tuple[np.ndarray, np.ndarray]:
    """Returns bytes `[N, ...]` and labels `[N]`, of a file or as TFDS prepared them.

    Raises:
        ValueError: if the file has no such arrays.
        FileNotFoundError: if it is not there.
    """
    assert config.images is not None
    if not config.images.endswith(".npz"):
        from experiments.make_zoo.data import prepared

        return prepared(config.images, config.tfds, "test", None)
    with _opened(config) as file:
        if not {"image", "label"} <= set(file.files):
            raise ValueError(
                f"{config.images}: expected arrays 'image' and 'label', got "
                f"{file.files}."
            )
        return file["image"], file["label"]


def _opened(config: Verify) -> Any:
    if not str(config.images).endswith(".npz"):
        raise ValueError(
            f"--images {config.images}: fits need a file .npz of the images with the "
            f"index of each, 'image' and 'index'."
        )
    return np.load(str(config.images), allow_pickle=False)
