"""What a run shows at its end: the table and one picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.align.table import WAYS, lines
from experiments.devices import save_figure
from experiments.terminal import print_table

COLUMNS = 5
"""Panels side by side."""


def show(metrics: Mapping[str, Any], console: Console) -> None:
    """Prints the final table."""
    rows = [
        {name: x for name, x in row.items() if name not in ("groups", "compiling")}
        for row in lines(metrics)
    ]
    print_table("Between two networks, mean ± sd over pairs", rows, console)


def plot(metrics: Mapping[str, Any], out: Path) -> Path:
    """Writes `barriers.png`: losses between networks, a panel a row.

    Args:
        metrics: of the run.
        out: an existing directory.

    Returns:
        The file.
    """
    # Imported here: reading a finished run and --help need no plotting library.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = metrics["rows"]
    columns = min(COLUMNS, len(rows))
    tall = -(-len(rows) // columns)
    figure, axes = plt.subplots(
        tall, columns, figsize=(2.6 * columns, 2 * tall), squeeze=False
    )
    for axis in axes.flat[len(rows) :]:
        axis.set_visible(False)
    for axis, (name, row) in zip(axes.flat, rows.items(), strict=False):
        _curves(axis, row["trained"])
        axis.set_title(name, fontsize=6)
        axis.tick_params(labelsize=6)
    axes.flat[0].legend(fontsize=5)
    figure.tight_layout(pad=0.4)
    path = out / "barriers.png"
    save_figure(figure, path, dpi=80)
    plt.close(figure)
    return path


def _curves(axis: Any, trained: Mapping[str, Any]) -> None:
    """Of networks as they were trained; dashed of moved ones."""
    for number, way in enumerate(way for way in WAYS[:4] if way in trained):
        for case, style in (("apart", "-"), ("moved", "--")):
            losses = trained[way][case]["test_losses"]
            at = np.linspace(0, 1, len(losses))
            label = way if case == "apart" else None
            axis.plot(at, losses, style, color=f"C{number}", label=label, lw=1)
    losses = np.asarray(trained["none"]["apart"]["test_losses"])
    top = max(trained[way]["apart"]["test_losses"][len(losses) // 2] for way in trained)
    axis.set_ylim(0, 1.6 * max(top, float(losses.max()), 1e-3))
