"""What a run shows at its end: the table, and loss curves with and without maps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.devices import save_figure
from experiments.teleport.table import WORDS, lines
from experiments.terminal import print_table


def show(metrics: Mapping[str, Any], console: Console) -> None:
    """Prints the final table."""
    title = "Steps to the target loss"
    print_table(title, lines(metrics), console)


def plot(metrics: Mapping[str, Any], out: Path) -> Path:
    """Writes `curves.png`: loss against steps, a panel for every optimiser.

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

    found = metrics["optimisers"]
    figure, axes = plt.subplots(
        1, len(found), figsize=(1 + 4 * len(found), 3.8), squeeze=False, sharey=True
    )
    for axis, (optimiser, about) in zip(axes[0], found.items(), strict=True):
        for row, own in about["rows"].items():
            steps = [n * metrics["every"] for n in range(len(own["curve"]))]
            style = "-" if "learned" in row else "--"
            axis.plot(steps, own["curve"], style, linewidth=1, label=WORDS[row])
        axis.axhline(about["target"], color="grey", linewidth=0.8)
        axis.set_yscale("log")
        axis.set_title(optimiser, fontsize=9)
        axis.set_xlabel("steps")
    axes[0][0].set_ylabel("training loss")
    axes[0][-1].legend(fontsize=6)
    figure.tight_layout()
    path = out / "curves.png"
    save_figure(figure, path, dpi=90)
    plt.close(figure)
    return path
