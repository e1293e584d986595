"""What a run shows at its end: the table and one picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.classify_inr.evaluate import Tested
from experiments.classify_inr.table import lines
from experiments.devices import save_figure
from qejax import models, nets, zoo
from qejax.zoo import from_vectors

SHOWN = ("row", "accuracy %", "with probes %", "predictions changed")
"""Columns of the table in a terminal; the README shows all."""

SIGNALS = 8


def show(metrics: Mapping[str, Any], console: Console) -> None:
    """Prints the final table."""
    title = "Test split, mean ± sd over seeds"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_edge=False)
    for heading in SHOWN:
        side = "left" if heading == "row" else "right"
        table.add_column(heading, justify=side, no_wrap=True)
    for row in lines(metrics):
        table.add_row(*(row[heading] for heading in SHOWN))
    console.print(table)


def plot(
    metrics: Mapping[str, Any], tested: Tested, fits: zoo.Zoo, side: int, out: Path
) -> Path:
    """Writes `classes.png`: accuracies, validation curves, and some signals.

    Args:
        metrics: of the run.
        tested: what the test split says.
        fits: the zoo.
        side: points of the grid on which signals are drawn, along every axis.
        out: an existing directory.

    Returns:
        The file.
    """
    # Imported here: reading a finished run and --help need no plotting library.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(12, 6), layout="constrained")
    grid = figure.add_gridspec(2, SIGNALS, height_ratios=(2.2, 1))
    half = SIGNALS // 2
    curves = figure.add_subplot(grid[0, half:])
    rows = metrics["rows"]
    parts = [{n: r for n, r in rows.items() if r["probes"] == p} for p in (False, True)]
    parts = [part for part in parts if part]
    sizes = [len(part) + 1 for part in parts]
    inner = grid[0, :half].subgridspec(len(parts), 1, height_ratios=sizes)
    panels = [figure.add_subplot(inner[number]) for number in range(len(parts))]
    for axis, part in zip(panels, parts, strict=True):
        _bars(axis, part)
    panels[-1].set_xlabel("accuracy, %")
    panels[0].legend(fontsize="small", loc="lower right")
    for name, row in rows.items():
        steps = [int(step) for step in row["validation"]]
        seen = [100 * metric["accuracy"] for metric in row["validation"].values()]
        curves.plot(steps, seen, "--" if row["probes"] else "-", label=name)
    curves.set_xlabel("step")
    curves.set_ylabel("accuracy on the validation split, %")
    curves.legend(fontsize="x-small")
    test = fits.select("test")
    best = next(iter(tested.given))
    chosen = tested.given[best][0].argmax(-1)
    for number in range(min(SIGNALS, len(test))):
        axis = figure.add_subplot(grid[1, number])
        _draw(axis, test.take(np.array([number])), side)
        axis.set_title(f"{best}: {chosen[number]}", fontsize="small")
    path = out / "classes.png"
    save_figure(figure, path, dpi=80)
    plt.close(figure)
    return path


def _bars(axis: Any, rows: Mapping[str, Any]) -> None:
    """Accuracies of the rows that run the networks, or of those that do not."""
    at = np.arange(len(rows))
    for shift, part, label in (
        (-0.2, "test", "as stored"),
        (0.2, "test_moved", "moved, same functions"),
    ):
        values = [100 * row[part]["accuracy"] for row in rows.values()]
        errors = [100 * row[part]["accuracy_std"] for row in rows.values()]
        axis.barh(at + shift, values, 0.38, xerr=errors, label=label)
    probes = next(iter(rows.values()))["probes"]
    axis.set_title("with probes" if probes else "weights alone", fontsize="small")
    axis.set_yticks(at, list(rows))
    axis.set_xlim(0, 100)
    axis.invert_yaxis()


def _draw(axis: Any, one: zoo.Zoo, side: int) -> None:
    """One signal: a curve over one coordinate, an image over two."""
    shape = (side,) * models.input_shape(one.network)[0]
    theta = from_vectors(one.network.spec, one.vectors()[0])
    values = np.asarray(one.network.apply(theta, nets.grid(*shape)))
    if len(shape) == 1:
        axis.plot(values)
    else:
        colours = values.reshape(*shape, -1)
        low, high = colours.min(), colours.max()
        shown = (colours - low) / (high - low if high > low else 1)
        axis.imshow(shown[..., 0] if shown.shape[-1] == 1 else shown, cmap="gray")
    axis.axis("off")
