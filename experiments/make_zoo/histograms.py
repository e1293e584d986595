"""How labels are spread: as a line of text, and as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.devices import save_figure
from qejax import zoo

MOST_BUCKETS = 8
"""Side by side; of more, all networks are in one histogram."""

MOST_LABELS = 12
ACROSS = 4
"""Histograms in a row of the picture."""

BINS, MOST_CLASSES = 20, 40
BARS = " ▁▂▃▄▅▆▇█"
EXACT = 2**24
"""From here on every float32 is a whole number."""


class Bins(NamedTuple):
    """Where a histogram has its `n` bars.

    Attributes:
        edges: `[n + 1]`.
        classes: `[n]`, different values that a bar stands for, where labels are whole
            numbers; else ones.
        whole: whether they are.
    """

    edges: np.ndarray
    classes: np.ndarray
    whole: bool


def bins_of(values: np.ndarray) -> Bins:
    """Returns bins in which labels that are equally frequent are equally high.

    Bins of equal width hold now two classes and now one, whatever their number.

    Args:
        values: finite, at least one.
    """
    low, high = float(values.min()), float(values.max())
    whole = bool((values == np.rint(values)).all()) and max(-low, high) < EXACT
    if not whole:
        edges = np.histogram_bin_edges(values, bins=BINS)
        return Bins(edges, np.ones(len(edges) - 1, np.int64), False)
    there = np.unique(values).astype(np.int64)
    unit = max(int(np.gcd.reduce(np.diff(there))), 1) if len(there) > 1 else 1
    count = (int(there[-1]) - int(there[0])) // unit + 1
    each = -(-count // MOST_CLASSES)
    starts = np.append(np.arange(0, count, each), count)
    return Bins(there[0] + unit * (starts - 0.5), np.diff(starts), True)


def heights(values: np.ndarray, bins: Bins) -> np.ndarray:
    """Returns how many values are in each bin, `[n]`; of whole numbers, for a class."""
    return np.histogram(values, bins=bins.edges)[0] / bins.classes


def bars(values: np.ndarray) -> str:
    """Returns a histogram as a line of text, from the least value to the largest.

    Example:
        >>> bars(np.array([0.0, 0.0, 0.0, 1.0])), len(bars(np.array([0.0, 0.5])))
        ('█▃', 20)
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    found = heights(values, bins_of(values))
    levels = np.ceil(found / max(found.max(), 1e-9) * (len(BARS) - 1)).astype(int)
    return "".join(BARS[level] for level in levels)


def columns_of(found: zoo.Found) -> dict[str, dict[str, np.ndarray]]:
    """Returns the values of every label by bucket; together, if buckets are many."""
    columns: dict[str, dict[str, np.ndarray]] = {}
    for name, one in found.listings.items():
        for label, values in one.labels.items():
            columns.setdefault(label, {})[name] = values
    if len(found.listings) <= MOST_BUCKETS:
        return columns
    return {
        label: {f"{len(parts)} buckets": np.concatenate(list(parts.values()))}
        for label, parts in columns.items()
    }


def plot(columns: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> None:
    """Draws a histogram of each of the first labels, buckets side by side.

    Args:
        columns: by label, by bucket; at least one.
        path: of the picture; its folder is made.
    """
    # Imported here: --help needs no plotting library.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    labels = list(columns)[:MOST_LABELS]
    rows, across = -(-len(labels) // ACROSS), min(len(labels), ACROSS)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (4 * across, 3 * rows)
    figure, axes = plt.subplots(
        rows, across, figsize=size, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(labels) :]:
        axis.set_axis_off()
    for axis, label in zip(axes.flat, labels, strict=False):
        parts = {name: x[np.isfinite(x)] for name, x in columns[label].items()}
        values = np.concatenate(list(parts.values()))
        if not len(values):
            continue
        bins = bins_of(values)
        place = [np.searchsorted(bins.edges[1:-1], x, "right") for x in parts.values()]
        axis.hist(
            list(parts.values()),
            bins=list(bins.edges),
            weights=[1 / bins.classes[at] for at in place],
            label=list(parts),
        )
        if bins.whole:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel(label)
        axis.set_ylabel("networks" if bins.classes.max() == 1 else "networks a value")
        if len(parts) > 1:
            axis.margins(y=0.05 + 0.1 * len(parts))  # room for the legend
            axis.legend(loc="upper center", ncols=2, fontsize="small")
        else:
            axis.set_title(next(iter(parts)), fontsize="medium")
    save_figure(figure, path, dpi=120)
    plt.close(figure)
