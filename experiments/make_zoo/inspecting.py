"""`make_zoo inspect`: what a directory holds, whatever is wrong with some of it."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.make_zoo.histograms import (
    MOST_BUCKETS,
    MOST_LABELS,
    bars,
    columns_of,
    plot,
)
from experiments.make_zoo.showing import few, print_table
from experiments.make_zoo.verbs import Inspect
from qejax import nets, zoo

SHOWN = 5
"""Of the networks that cannot be used, and of many buckets or architectures."""

MOST_NAMES = 12
"""Of columns that are no labels, and of damaged files."""

AT_ONCE = 256

TABLE = "labels.csv"
RULE = "'class', 'psnr', and what ends in 'accuracy' (shares in [0, 1]) or 'loss'"
"""Which columns of it are labels."""


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
    wrong, found = listed(config.address, config.given())
    deadline = time.monotonic() + config.seconds
    looks = {}
    for number, (name, one) in enumerate(found.listings.items(), 1):
        # What a bucket does not take is for those behind it.
        left = (deadline - time.monotonic()) / (len(found.listings) - number + 1)
        looks[name] = look(one, time.monotonic() + left)
    shown = _shown(found)
    print_table(console, _table(found, looks, shown))

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    tell(_splits(found))
    for name in shown:
        for line in architectures(found.listings[name]):
            tell(f"{name}, {line}")
    columns = columns_of(found)
    for label in list(columns)[:MOST_LABELS]:
        for name, values in columns[label].items():
            tell(f"{name}, {label}: {bars(values)} {_range(values)}")
    if len(columns) > MOST_LABELS:
        tell(f"... and {len(columns) - MOST_LABELS} more labels")
    for line in _others(config, found):
        tell(line)
    problems = [*found.problems, *(p for one in looks.values() for p in one.problems)]
    counts = f"{len(problems)} networks cannot be used"
    tell(f"{counts}; an import leaves them out" if problems else counts)
    for problem in problems[:SHOWN]:
        tell(f"{problem.name}: {problem.why}")
    try:
        zoo.check_runs(found)
    except ValueError as error:
        tell(f"an import refuses these splits: {error}")
    for line in _damage(config, found, wrong):
        tell(line)
    if columns:
        plot(columns, config.picture)
    tell(f"drawn in {config.picture}" if columns else "no labels: nothing is drawn")
    return looks


def listed(
    place: str, options: Mapping[str, Any]
) -> tuple[dict[str, dict[str, str]], zoo.Found]:
    """Returns what there is: a prepared zoo, or a directory in a public format.

    Args:
        place: a prepared zoo, FORMAT:DIR, or DIR alone if one format fits.
        options: of the format.

    Returns:
        By bucket, files of a prepared zoo that are not as they were written, with what
        is wrong; and the networks of all others.
    """
    if (Path(place) / "manifest.json").is_file():
        wrong = zoo.wrong_files(place)
        return wrong, zoo.list_whole(place, wrong)
    address = zoo.formats.complete(place)
    return {}, zoo.formats.list_networks(address, **options)


def _shown(found: zoo.Found) -> list[str]:
    """The buckets that are shown one by one; of many, the largest."""
    listings = found.listings
    if len(listings) <= MOST_BUCKETS:
        return list(listings)
    return sorted(listings, key=lambda name: -len(listings[name]))[:SHOWN]


def _splits(found: zoo.Found) -> str:
    """How the networks of all buckets are split."""
    listings = found.listings.values()
    runs = len({run for one in listings for run in one.runs.tolist()})
    parts = [
        f"{name} {sum(int((one.split == code).sum()) for one in listings):,}"
        for name, code in zoo.SPLITS.items()
    ]
    total = sum(map(len, listings))
    return (
        f"{total:,} networks of {runs:,} training runs; split {found.protocol!r}: "
        f"{', '.join(parts)}"
    )


def _others(config: Inspect, found: zoo.Found) -> list[str]:
    """The columns that are no labels, and which would be."""
    names = list(dict.fromkeys(k for x in found.listings.values() for k in x.hyper))
    if not names:
        return []
    lines = [f"columns that are no labels: {few(names, MOST_NAMES)}"]
    folder = config.address.partition(":")[2] or config.address
    if any((Path(place) / TABLE).is_file() for place in (folder, config.address)):
        lines.append(f"labels of {TABLE} are {RULE}")
    return lines


def _damage(
    config: Inspect, found: zoo.Found, wrong: dict[str, dict[str, str]]
) -> list[str]:
    """What is not whole of a prepared zoo."""
    lines = [why for files in wrong.values() for why in files.values()]
    if not lines:
        return []
    entries = [zoo.notes(config.address, k) for k in zoo.buckets(config.address)]
    total = sum(entry["count"] for entry in entries)
    lost = total - sum(map(len, found.listings.values()))
    count = (
        f"{len(lines)} of {sum(len(entry['shards']) for entry in entries)} files are "
        f"not as they were written; {lost:,} of {total:,} networks are lost with them, "
        f"what is shown is of the others"
    )
    more = len(lines) - MOST_NAMES
    rest = [f"... and {more} more; `make_zoo verify` names all"] if more > 0 else []
    return [count, *lines[:MOST_NAMES], *rest]


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


def _table(found: zoo.Found, looks: dict[str, Look], shown: list[str]) -> Table:
    table = Table(box=box.SIMPLE)
    for heading in ("bucket", "networks", "runs", "weights", "looked into", "bad"):
        left = heading == "bucket"
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for name in shown:
        one, seen = found.listings[name], looks[name]
        table.add_row(
            name,
            f"{len(one):,}",
            f"{len(np.unique(one.runs)):,}",
            f"{_sizes([one])}, |w| to {seen.largest:.3g}",
            f"{seen.read:,}",
            f"{len(seen.problems):,}",
        )
    rest = [name for name in found.listings if name not in shown]
    if rest:
        ones = [found.listings[name] for name in rest]
        largest = max(looks[name].largest for name in rest)
        table.add_row(
            f"... {len(rest)} more",
            f"{sum(map(len, ones)):,}",
            f"{len({run for one in ones for run in one.runs.tolist()}):,}",
            f"{_sizes(ones)}, |w| to {largest:.3g}",
            f"{sum(looks[name].read for name in rest):,}",
            f"{sum(len(looks[name].problems) for name in rest):,}",
        )
    return table


def _sizes(listings: list[zoo.Listing]) -> str:
    low = min(int(one.sizes.min()) for one in listings)
    high = max(int(one.sizes.max()) for one in listings)
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def _range(values: np.ndarray) -> str:
    low, middle, high = (float(q) for q in np.quantile(values, (0, 0.5, 1)))
    return f"{low:.3g} to {high:.3g}, median {middle:.3g}"
