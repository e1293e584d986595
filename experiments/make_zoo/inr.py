"""Making a zoo of coordinate networks: fitted chunk by chunk, resumable, then shown."""

import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.devices import mesh_of
from experiments.finished import made
from experiments.make_zoo import signals
from experiments.make_zoo.inr_config import InrConfig
from experiments.make_zoo.inr_report import plot, show
from experiments.make_zoo.run import PLACES
from experiments.predict_accuracy.progress import Bars, Piece
from experiments.predict_accuracy.record import Log, plain, write_json
from qejax import zoo
from qejax._processes import gather_json, on_first

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
"""Of PSNR and steps, in `metrics.json`."""

SECONDS = 20.0
"""Of loading, compiling and storing."""

SECONDS_PER_OPERATION = 2e-10
"""Of a weight at a coordinate in a step of a fit, on two cores."""


def run(
    config: InrConfig, preset: str, command: str, console: Console | None = None
) -> dict[str, Any]:
    """Makes a zoo of fits, or goes on with it, or shows it if it is there.

    Writes `config.json`, `log.jsonl`, `metrics.json`, `fits.png` and the zoo, in
    `zoo`, under `config.out`.

    Args:
        config: of the zoo.
        preset: its name, for the record.
        command: that repeats the run, for the record.
        console: where progress and the table go.

    Returns:
        What `metrics.json` holds: counts, the ids of the first that are short,
        diverged or constant, PSNR and steps by split, and the time.

    Raises:
        ValueError: if there are too few signals, all fits diverge, or another zoo is
            there.
        FileNotFoundError: if there are no such images.
    """
    console = console or Console()
    out, recipe = config.out, config.recipe()
    about = made("make_zoo", preset, command, config, PLACES)
    # A finished zoo is shown; `fit` still refuses another one in its place.
    finished = on_first(
        lambda: (out / "metrics.json").exists() and (out / "zoo").exists()
    )
    with Bars(console) as bars:
        bars.plan.add("zoo", 1, SECONDS + SECONDS_PER_OPERATION * _operations(config))
        with bars.work("zoo", "zoo") as piece:
            given = signals.load(config)
            log = None if finished else Log(out / "log.jsonl", about["fingerprint"])
            pace = _Pace(piece, log)
            root = zoo.fit(recipe, given, out / "zoo", pace, mesh_of(config))
    if log is None:
        metrics = json.loads((out / "metrics.json").read_text())
    else:
        write_json(out / "config.json", about)
        fits = zoo.read(root)
        plot(recipe, fits, given, out / "fits.png")
        metrics = _metrics(recipe, root, fits, log.seconds, pace.rate)
        log.write("metrics", **metrics)
        write_json(out / "metrics.json", metrics)
    show(metrics, root, console)
    return metrics


def _operations(config: InrConfig) -> float:
    """Weights times coordinates, in all steps of all fits; half of them are taken."""
    recipe = config.recipe()
    widths = recipe.network().widths
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    points = recipe.sample or int(np.prod(recipe.shape))
    fits = config.num_signals * config.copies
    return 0.5 * fits * config.max_steps * weights * points


class _Pace:
    """Tells the bar and the log of every chunk, and how fast this call fits."""

    def __init__(self, piece: Piece, log: Log | None) -> None:
        self._piece, self._log = piece, log
        self._start = time.monotonic()
        self._fits = self._found = 0

    def __call__(self, report: zoo.FitProgress) -> None:
        if report.resumed:
            self._found, self._start = report.fits, time.monotonic()
        self._fits = report.fits
        share = report.fits / report.num_fits
        self._piece.advance(share, share if report.resumed else 0.0)
        self._last = time.monotonic()
        if self._log is not None:
            self._log.write("chunk", **report._asdict())

    @property
    def rate(self) -> float | None:
        """Fits per second of this call, compiling included; `None` if it made none.

        Of all processes: every one has to ask.
        """
        own = self._fits - self._found
        rates = gather_json(own / (self._last - self._start) if own else 0.0)
        return sum(rates) or None


def _metrics(
    config: zoo.FitConfig, root: Path, fits: zoo.Zoo, seconds: float, rate: float | None
) -> dict[str, Any]:
    """Counts and measures the fits of a finished zoo."""
    notes = zoo.notes(root)
    splits = {}
    for name, code in zoo.SPLITS.items():
        mine = fits.split == code
        if mine.any():
            psnr, steps = fits.labels["psnr"][mine], fits.labels["steps"][mine]
            splits[name] = {
                "fits": int(mine.sum()),
                "short": int(np.sum(psnr < config.psnr)),
                "psnr": np.quantile(psnr, QUANTILES).tolist(),
                "steps": np.quantile(steps, QUANTILES).tolist(),
            }
    return plain(
        {
            **{name: notes[name] for name in ("fits", *zoo.CASES)},
            **{f"{name}_ids": notes[f"{name}_ids"] for name in zoo.CASES},
            "splits": splits,
            "quantiles": QUANTILES,
            "wanted_psnr": config.psnr,
            "parameters": fits.network.spec.num_parameters,
            "seconds": round(seconds, 1),
            "fits_per_second": rate,
        }
    )
