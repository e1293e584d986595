"""What making a zoo of coordinate networks shows at its end: a table and a picture."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.devices import save_figure
from experiments.predict_accuracy.progress import clock
from qejax import nets, zoo

SHOWN = (0.05, 0.5, 0.95)
"""Quantiles in the table."""

DRAWN = 8
"""Fits in the picture, from the worst to the best."""


def show(metrics: dict[str, Any], root: Path, console: Console) -> None:
    """Prints how good the fits of each split are, what went wrong, and the time."""
    title = f"Fits of {metrics['parameters']:,} weights"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    columns = [metrics["quantiles"].index(q) for q in SHOWN]
    names = [f"{100 * q:g} %" if q != 0.5 else "median" for q in SHOWN]
    headings = ["split", "fits", "short", *(f"dB {name}" for name in names)]
    headings += [f"steps {name}" for name in names]
    for heading in headings:
        justify = "left" if heading == "split" else "right"
        table.add_column(heading.replace(" ", "\n", 1), justify=justify, no_wrap=True)
    for name, entry in metrics["splits"].items():
        psnr = [f"{entry['psnr'][i]:.1f}" for i in columns]
        steps = [f"{entry['steps'][i]:.0f}" for i in columns]
        counts = (f"{entry['fits']:,}", f"{entry['short']:,}")
        table.add_row(name, *counts, *psnr, *steps)
    console.print(table)
    rate = metrics["fits_per_second"]
    speed = "all found there" if rate is None else f"{rate:.1f} fits/s"
    console.print(
        f"{metrics['fits']:,} fits: {metrics['short']:,} short of "
        f"{metrics['wanted_psnr']:g} dB, {metrics['diverged']:,} diverged and dropped, "
        f"{metrics['constant']:,} of constant signals\n"
        f"{clock(metrics['seconds'])} in all, {speed}; the zoo is {root}",
        highlight=False,
        soft_wrap=True,
    )


def rendered(config: zoo.FitConfig, fits: zoo.Zoo, rows: np.ndarray) -> np.ndarray:
    """Returns the signals that some fits draw on their grid.

    Returns:
        `[len(rows), *shape, channels]`, in [0, 1] where the fits are good.
    """
    thetas = jax.tree.map(lambda x: jnp.asarray(x[rows]), fits.thetas)
    grid = nets.grid(*config.shape)
    values = jax.jit(jax.vmap(fits.network.apply, (0, None)))(thetas, grid)
    rules = zoo.CONVENTIONS[config.convention]
    scaled = (np.asarray(values) - rules.low) / (rules.high - rules.low)
    return scaled.reshape(len(rows), *config.shape, config.channels)


def plot(
    config: zoo.FitConfig, fits: zoo.Zoo, signals: zoo.Signals, path: Path
) -> None:
    """Draws signals, the fits beside them and their errors, and how PSNR is spread.

    The fits are some from the worst PSNR to the best, evenly by rank.
    """
    # Imported here: --help needs no plotting library.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    psnr = np.asarray(fits.labels["psnr"])
    order = np.argsort(psnr, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, min(DRAWN, len(order))).astype(int)]
    shape = (len(rows), *config.shape, config.channels)
    truth = np.asarray(signals.values)[fits.hyper["signal"][rows]].reshape(shape)
    found = rendered(config, fits, rows)
    images = len(config.shape) == 2
    figure = plt.figure(figsize=(9, 5.5 if images else 4.5), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(2, 1))
    upper, lower = halves
    draw = _images if images else _curves
    draw(upper, truth, found, [f"{x:.1f} dB" for x in psnr[rows]])
    axis = lower.subplots()
    axis.hist(psnr, bins=40)
    axis.axvline(config.psnr, color="0.3", lw=1, ls="--")
    axis.set_xlabel("PSNR, dB; dashed: where a fit stops")
    axis.set_ylabel("fits")
    save_figure(figure, path, dpi=120)
    plt.close(figure)


def _images(
    figure: Any, truth: np.ndarray, found: np.ndarray, titles: list[str]
) -> None:
    """Signals, fits and absolute errors, a row each; errors have their own scale."""
    error = np.abs(found - truth).mean(-1)
    top = float(error.max()) or 1.0
    axes = figure.subplots(3, len(titles), squeeze=False)
    for column, title in enumerate(titles):
        for axis, image in zip(axes[:2, column], (truth, found), strict=True):
            shown = np.clip(image[column], 0, 1)
            axis.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=1)
        axes[2, column].imshow(error[column], cmap="magma", vmin=0, vmax=top)
        axes[0, column].set_title(title, fontsize="small")
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for axis, name in zip(axes[:, 0], ("signal", "fit", "error"), strict=True):
        axis.set_ylabel(name)
    axes[2, 0].set_ylabel(f"error\n(white: {top:.2g})", fontsize="small")


def _curves(
    figure: Any, truth: np.ndarray, found: np.ndarray, titles: list[str]
) -> None:
    """Signals under their fits in one row, errors in another."""
    error = (found - truth)[..., 0]
    top = float(np.abs(error).max()) or 1.0
    axes = figure.subplots(2, len(titles), squeeze=False, sharex=True, sharey="row")
    for column, title in enumerate(titles):
        upper, lower = axes[:, column]
        upper.plot(truth[column, :, 0], color="0.7", lw=3)
        upper.plot(found[column, :, 0], lw=0.8)
        upper.set_title(title, fontsize="small")
        lower.plot(error[column], lw=0.8, color="tab:red")
        lower.set_ylim(-top, top)
    axes[0, 0].set_ylabel("signal, fit")
    axes[1, 0].set_ylabel("error")
