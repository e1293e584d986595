"""`make_zoo inspect`: what a directory holds, whatever is wrong with some of it."""

import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.make_zoo.verbs import Inspect
from qejax import nets, zoo

SHOWN = 5
"""Of the networks that cannot be used."""

AT_ONCE = 256
BINS = 20
BARS = " ▁▂▃▄▅▆▇█"


class Look(NamedTuple):
    """What was seen of the weights of a bucket.

    Attributes:
        read: how many networks were looked into.
        problems: those that cannot be used.
        largest: absolute value of a weight.
    """

    read: int
    problems: list[zoo.Problem]
    largest: float


def run(config: Inspect, console: Console) -> dict[str, Look]:
    """Shows architectures, counts, labels, damaged networks, and draws the labels.

    Raises:
        ValueError: if the directory has no format at all; says why.
        FileNotFoundError: if it is not there.
    """
    found = listed(config)
    deadline = time.monotonic() + config.seconds
    looks = {}
    for number, (name, one) in enumerate(found.listings.items(), 1):
        # What a bucket does not take is for those behind it.
        left = (deadline - time.monotonic()) / (len(found.listings) - number + 1)
        looks[name] = look(one, time.monotonic() + left)
    console.print(_table(found, looks))
    for name, one in found.listings.items():
        for line in architectures(one):
            console.print(f"{name}, {line}", highlight=False)
        for label, values in one.labels.items():
            line = f"{name}, {label}: {bars(values)} {_range(values)}"
            console.print(line, highlight=False)
    problems = [*found.problems, *(p for one in looks.values() for p in one.problems)]
    counts = f"{len(problems)} networks cannot be used"
    console.print(f"{counts}; an import leaves them out" if problems else counts)
    for problem in problems[:SHOWN]:
        console.print(f"{problem.name}: {problem.why}", highlight=False, markup=False)
    plot(found, config.picture)
    console.print(f"drawn in {config.picture}", highlight=False)
    return looks


def listed(config: Inspect) -> zoo.Found:
    """Returns the networks of a prepared zoo, or of a directory in a public format."""
    if (Path(config.address) / "manifest.json").is_file():
        return zoo.list_prepared(config.address)
    address = zoo.formats.complete(config.address)
    return zoo.formats.list_networks(address, **config.given())


def look(listing: zoo.Listing, deadline: float) -> Look:
    """Reads weights, evenly spread, until all are read or it is time to stop."""
    read, largest = 0, 0.0
    problems: list[zoo.Problem] = []
    for rows in _spread(len(listing)):
        weights = listing.read(rows)
        why = dict(weights.problems)
        for at in np.flatnonzero(~np.isfinite(weights.vectors).all(axis=1)).tolist():
            why.setdefault(at, "weights should be finite in float32, got some not")
        problems += [zoo.Problem(str(listing.ids[rows[at]]), why[at]) for at in why]
        good = np.setdiff1d(np.arange(len(rows)), list(why))
        if len(good):
            largest = max(largest, float(np.abs(weights.vectors[good]).max(initial=0)))
        read += len(rows)
        if time.monotonic() > deadline:
            break
    return Look(read, problems, largest)


def _spread(count: int) -> Iterator[np.ndarray]:
    """Yields all rows, some at a time, each time from everywhere."""
    chunks = -(-count // AT_ONCE)
    for start in range(chunks):
        yield np.arange(start, count, chunks)


def architectures(listing: zoo.Listing) -> list[str]:
    """Returns a line for the architecture, or some for mixed ones, frequent ones first.

    Args:
        listing: of a bucket.
    """
    if not listing.mixed:
        return [architecture(listing.network.config)]
    counts = np.bincount(listing.places, minlength=len(listing.networks))
    order = np.argsort(-counts, kind="stable")[:SHOWN]
    names = [architecture(listing.networks[at].config) for at in order]
    shown = [f"{counts[at]:,} x {name}" for at, name in zip(order, names, strict=True)]
    return [f"{len(listing.networks):,} architectures, such as", *shown]


def architecture(config: nets.NetConfig) -> str:
    """Returns a network's kind, activations and sizes in a few words.

    Example:
        >>> architecture(nets.MLPConfig((64, 32, 32, 10)))
        'mlp: widths 64-32-32-10, activation relu x2'
    """
    defaults = {field.name: field.default for field in fields(config)}
    values: dict[str, Any] = config.to_dict()
    kind = values.pop("kind")
    told = [
        f"{name} {_short(value)}"
        for name, value in values.items()
        if name == "activation" or value not in (None, False, defaults.get(name))
    ]
    return f"{kind}: {', '.join(told)}"


def _short(value: Any) -> str:
    if isinstance(value, tuple | list):
        same = len(set(map(str, value))) == 1
        return (
            f"{_short(value[0])} x{len(value)}"
            if same
            else "-".join(_short(entry) for entry in value)
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(found: zoo.Found, looks: dict[str, Look]) -> Table:
    table = Table(box=box.SIMPLE)
    for heading in ("bucket", "networks", "runs", "weights", "looked into", "bad"):
        left = heading == "bucket"
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for name, one in found.listings.items():
        seen = looks[name]
        table.add_row(
            name,
            f"{len(one):,}",
            f"{len(np.unique(one.runs)):,}",
            f"{_sizes(one)}, |w| to {seen.largest:.3g}",
            f"{seen.read:,}",
            f"{len(seen.problems):,}",
        )
    return table


def _sizes(listing: zoo.Listing) -> str:
    low, high = listing.sizes.min(), listing.sizes.max()
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def bars(values: np.ndarray) -> str:
    """Returns a histogram as a line of text, from the least value to the largest.

    Example:
        >>> bars(np.array([0.0, 0.0, 0.0, 1.0]))[::19]
        '█▃'
    """
    counts, _ = np.histogram(values, bins=BINS)
    high = max(int(counts.max()), 1)
    heights = np.ceil(counts / high * (len(BARS) - 1)).astype(int)
    return "".join(BARS[height] for height in heights)


def _range(values: np.ndarray) -> str:
    low, middle, high = (float(q) for q in np.quantile(values, (0, 0.5, 1)))
    return f"{low:.3g} to {high:.3g}, median {middle:.3g}"


def plot(found: zoo.Found, path: Path) -> None:
    """Draws a histogram of every label, buckets side by side."""
    # Imported here: --help needs no plotting library.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    labels = list(
        dict.fromkeys(name for one in found.listings.values() for name in one.labels)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(
        1, max(len(labels), 1), figsize=(4 * max(len(labels), 1), 3), squeeze=False
    )
    for axis, label in zip(axes[0], labels, strict=False):
        columns = {
            name: one.labels[label]
            for name, one in found.listings.items()
            if label in one.labels
        }
        axis.hist(list(columns.values()), bins=BINS, label=list(columns))
        axis.set_xlabel(label)
        axis.set_ylabel("networks")
        axis.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
