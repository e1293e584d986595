"""What a run shows at its end: the table and the three plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.devices import save_figure
from experiments.predict_accuracy.evaluate import Row, Tested, kendall_tau
from experiments.predict_accuracy.lines import COLUMNS, lines
from experiments.predict_accuracy.moved import EXPONENTS

SHOWN = ("row", "probes", "tau", "tau U[1,1e4]", "MAE")
"""Columns of the table in a terminal of 80 characters; the READMEs show all."""


def show(metrics: Mapping[str, Any], console: Console) -> None:
    """Prints the final table."""
    title = "Test split, mean ± sd over seeds"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_edge=False)
    rows = lines(metrics)
    for heading in SHOWN:
        left = heading in ("row", "probes")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    probes = [row["probes"] for row in rows]
    for i, row in enumerate(rows):
        last = i + 1 < len(rows) and probes[i] != probes[i + 1]
        style = "bold" if row["row"] in COLUMNS else None
        shown = (row[heading] for heading in SHOWN)
        table.add_row(*shown, style=style, end_section=last)
    console.print(table)


def plot(rows: Sequence[Row], tested: Mapping[str, Tested], out: Path) -> list[Path]:
    """Writes `scatter.png`, `learning_curve.png` and `robustness.png`.

    Args:
        rows: of the table.
        tested: by name of the row.
        out: an existing directory.

    Returns:
        The files.
    """
    # Imported here: reading a finished run and --help need no plotting library.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    files = []
    for name, draw in (
        ("scatter", _scatter),
        ("learning_curve", _learning_curve),
        ("robustness", _robustness),
    ):
        figure = draw(plt, rows, tested)
        files.append(out / f"{name}.png")
        save_figure(figure, files[-1], dpi=120, bbox_inches="tight")
        plt.close(figure)
    return files


def _scatter(plt: Any, rows: Sequence[Row], tested: Mapping[str, Tested]) -> Any:
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.5), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], COLUMNS, strict=True):
        result = tested[name]
        mean = result.predicted[0].mean(axis=0)
        for bucket in dict.fromkeys(result.bucket.tolist()):
            mine = result.bucket == bucket
            axis.plot(result.truth[mine], mean[mine], ".", ms=4, alpha=0.6)
        axis.axline((0.5, 0.5), slope=1, color="0.6", lw=1, zorder=0)
        low, high = float(result.truth.min()), float(result.truth.max())
        axis.set_xlim(low - 0.02, high + 0.02)
        axis.set_ylim(low - 0.02, high + 0.02)
        axis.set_title(name.replace("_", " "))
        axis.set_xlabel("measured test accuracy")
    buckets = tested[next(iter(COLUMNS))].bucket.tolist()
    axes[0, 0].legend(list(dict.fromkeys(buckets)))
    axes[0, 0].set_ylabel("predicted, mean over seeds")
    return figure


def _learning_curve(plt: Any, rows: Sequence[Row], tested: Mapping[str, Tested]) -> Any:
    del tested
    figure, axis = plt.subplots(figsize=(6, 4))
    for row in rows:
        if not row.curves:
            continue
        steps, _ = next(iter(row.curves.values()))
        tau = np.mean([curve for _, curve in row.curves.values()], axis=0)
        (line,) = axis.plot(steps, tau.mean(axis=0), label=row.name)
        low, high = tau.min(axis=0), tau.max(axis=0)
        axis.fill_between(steps, low, high, color=line.get_color(), alpha=0.15)
    axis.set_xlabel("step")
    axis.set_ylabel("Kendall tau, validation split")
    axis.legend(fontsize="small")
    axis.set_title("mean over seeds and architectures; band: lowest to highest seed")
    return figure


def _robustness(plt: Any, rows: Sequence[Row], tested: Mapping[str, Tested]) -> Any:
    figure, axis = plt.subplots(figsize=(6, 4))
    # The usual ten colours come round again before the rows end.
    axis.set_prop_cycle(color=plt.get_cmap("tab20").colors)
    for row in rows:
        result = tested[row.name]
        tau = [
            np.mean([kendall_tau(result.truth, p) for p in result.predicted[k]])
            for k in EXPONENTS
        ]
        style = "-" if row.name in COLUMNS else "--"
        axis.plot(EXPONENTS, tau, style, marker=".", label=row.name)
    axis.set_xticks(EXPONENTS, [f"U[1, 1e{k}]" for k in EXPONENTS])
    axis.set_xlabel("scales of units, condition number of heads; same functions")
    axis.set_ylabel("Kendall tau, test split")
    axis.legend(fontsize="small", bbox_to_anchor=(1.02, 1), loc="upper left")
    return figure
