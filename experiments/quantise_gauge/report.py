"""What a run shows at its end: the table, and accuracy against bits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.devices import save_figure
from experiments.quantise_gauge.table import WORDS, lines, settings
from experiments.terminal import print_table


def show(metrics: Mapping[str, Any], console: Console) -> None:
    """Prints the final table."""
    title = f"Accuracy after rounding, {metrics['float']:.4f} before"
    print_table(title, lines(metrics), console)


def plot(metrics: Mapping[str, Any], out: Path) -> Path:
    """Writes `accuracy.png`: accuracy against bits, a panel for every kind of step.

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

    names = settings(metrics)
    pers = list(dict.fromkeys(name.split("/")[1] for name in names))
    figure, axes = plt.subplots(1, len(pers), figsize=(9, 3.6), squeeze=False)
    for axis, per in zip(axes[0], pers, strict=True):
        own = [name for name in names if name.endswith(per)]
        for row, found in metrics["rows"].items():
            style = "-" if "learned" in row or row == "weights" else "--"
            axis.plot(
                [name.split("/")[0] for name in own],
                [found["accuracy"][name] for name in own],
                style,
                marker="o",
                markersize=3,
                label=WORDS[row],
            )
        axis.axhline(metrics["float"], color="grey", linewidth=0.8)
        axis.set_title(f"one step per {per}", fontsize=9)
        axis.set_xlabel("bits")
    axes[0][0].set_ylabel("test accuracy")
    axes[0][-1].legend(fontsize=6)
    figure.tight_layout()
    path = out / "accuracy.png"
    save_figure(figure, path, dpi=90)
    plt.close(figure)
    return path
