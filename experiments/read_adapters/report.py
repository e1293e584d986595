"""What a run shows at its end: the table and one picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.devices import save_figure
from experiments.read_adapters.evaluate import Tested
from experiments.read_adapters.table import lines

SHOWN = ("row", "task %", "task %, moved", "tau", "tau, moved")
"""Columns of the table in a terminal of 80 characters; the README shows all."""


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


def plot(metrics: Mapping[str, Any], tested: Tested, tasks: Any, out: Path) -> Path:
    """Writes `adapters.png`: both questions, and scores of one row against the truth.

    Args:
        metrics: of the run.
        tested: what the test split says.
        tasks: their names.
        out: an existing directory.

    Returns:
        The file.
    """
    # Imported here: reading a finished run and --help need no plotting library.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), width_ratios=(1, 1, 1.1))
    rows = metrics["rows"]
    at = np.arange(len(rows))
    for axis, name, title in (
        (axes[0], "task_accuracy", "which task: accuracy"),
        (axes[1], "kendall_tau", "how well trained: Kendall tau"),
    ):
        for shift, part, label in (
            (-0.2, "test", "as stored"),
            (0.2, "test_moved", "moved, same functions"),
        ):
            values = [row[part][name] for row in rows.values()]
            errors = [row[part][f"{name}_std"] for row in rows.values()]
            axis.barh(at + shift, values, 0.38, xerr=errors, label=label)
        axis.set_yticks(at, list(rows) if axis is axes[0] else [])
        axis.invert_yaxis()
        axis.set_title(title)
    axes[0].axvline(1 / len(tasks), color="0.4", lw=1, ls=":")
    # Below the axes: bars may end anywhere inside.
    axes[0].legend(
        fontsize="small", loc="upper left", bbox_to_anchor=(0, -0.08), ncols=2
    )
    best = next(iter(tested.given))
    for number, task in enumerate(tasks):
        mine = tested.truth.task == number
        score = tested.given[best].score.mean(axis=0)[mine]
        axes[2].plot(tested.truth.accuracy[mine], score, ".", ms=4, label=task)
    axes[2].set_xlabel("measured test accuracy of the adapter")
    axes[2].set_ylabel(f"score of {best!r}, mean over seeds")
    axes[2].legend(fontsize="x-small")
    figure.tight_layout()
    path = out / "adapters.png"
    save_figure(figure, path, dpi=80)
    plt.close(figure)
    return path
