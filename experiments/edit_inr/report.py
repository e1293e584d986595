"""What a run shows at its end: the table and one picture per row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.devices import save_figure
from experiments.edit_inr.table import lines

SHOWN = 8
"""Test images in a picture."""

HEADINGS = ("edit", "row", "MSE [-1,1]", "MSE [0,1]", "gap")
"""Columns of the table in a terminal; the README shows all."""


def show(metrics: Mapping[str, Any], console: Console) -> None:
    """Prints the final table."""
    title = "Test split, mean ± sd over seeds; gap: of edits of one function"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_edge=False)
    for heading in HEADINGS:
        side = "left" if heading in ("edit", "row") else "right"
        table.add_column(heading, justify=side, no_wrap=True)
    for row in lines(metrics):
        table.add_row(*(row[heading] for heading in HEADINGS))
    console.print(table)


def plot(
    name: str, shape: tuple[int, ...], panels: Mapping[str, np.ndarray], out: Path
) -> Path:
    """Writes `NAME.png`: a line of images for every panel.

    Args:
        name: of the file, the row of the table.
        shape: of the grid: a curve for one axis, an image for two, in colour for three
            channels.
        panels: by title, `[B, N, c]` in [0, 1]; those whose title ends in "error" are
            shown around zero.
        out: an existing directory.

    Returns:
        The file.
    """
    # Imported here: reading a finished run and --help need no plotting library.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    count = min(SHOWN, *(len(x) for x in panels.values()))
    figure, axes = plt.subplots(
        len(panels), count, figsize=(count, 1.05 * len(panels)), squeeze=False
    )
    for line, (title, images) in zip(axes, panels.items(), strict=True):
        error = title.endswith("error")
        style = {"cmap": "RdBu", "vmin": -1, "vmax": 1} if error else {}
        for axis, image in zip(line, images[:count], strict=True):
            _draw(axis, image.reshape(*shape, -1), style)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    figure.tight_layout(pad=0.3)
    path = out / f"{name}.png"
    save_figure(figure, path, dpi=80, bbox_inches="tight")
    plt.close(figure)
    return path


def _draw(axis: Any, signal: np.ndarray, style: dict[str, Any]) -> None:
    """One signal, `[*shape, c]`."""
    if signal.ndim == 2:
        axis.plot(signal)
        axis.set_ylim(style.get("vmin", 0), style.get("vmax", 1))
    elif signal.shape[-1] == 3 and not style:
        axis.imshow(np.clip(signal, 0, 1))
    else:
        grey = {"cmap": "gray", "vmin": 0, "vmax": 1}
        axis.imshow(signal.mean(-1), **(grey | style))
