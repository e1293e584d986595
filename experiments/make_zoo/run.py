"""Making a zoo: trained chunk by chunk, resumable, then counted and drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.devices import mesh_of, save_figure
from experiments.finished import made
from experiments.make_zoo import data
from experiments.make_zoo.config import Config
from experiments.predict_accuracy.progress import Bars, clock
from experiments.predict_accuracy.record import (
    Log,
    plain,
    write_json,
)
from qejax import zoo

CUT_OFFS = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Of the literature: how many networks are at least as good."""

PLACES = ("out", "tfds")
"""Fields of a config that decide where files lie, and no number."""

COMPILE_SECONDS, SECONDS_PER_STEP = 15.0, 2e-4
"""Of a bucket, and of a step of one small network, on two cores."""


def run(
    config: Config, preset: str, command: str, console: Console | None = None
) -> dict[str, Any]:
    """Makes a zoo, or goes on with it, or shows it if it is there.

    Writes `config.json`, `log.jsonl`, `metrics.json`, `accuracies.png` and the zoo, in
    `zoo`, under `config.out`.

    Args:
        config: of the zoo.
        preset: its name, for the record.
        command: that repeats the run, for the record.
        console: where progress and the table go.

    Returns:
        What `metrics.json` holds: counts and accuracies by bucket, and the time.

    Raises:
        ValueError: if the images do not fit the networks, or another zoo is there.
        FileNotFoundError: if there are no such images.
    """
    console = console or Console()
    out, recipe = config.out, config.recipe()
    about = made("make_zoo", preset, command, config, PLACES)
    # A finished zoo is shown; `generate` still refuses another one in its place.
    finished = (out / "metrics.json").exists() and (out / "zoo").exists()
    with Bars(console) as bars:
        buckets = len(config.encoders)
        # Stopping steps are log-uniform: the mean is about a quarter of the longest.
        steps = config.networks * config.steps[1] / 4
        each = COMPILE_SECONDS + SECONDS_PER_STEP * steps
        bars.plan.add("zoo", 1, buckets * each)
        with bars.work("zoo", "zoo") as piece:
            images = data.load(config)
            log = None if finished else Log(out / "log.jsonl", about["fingerprint"])

            def tell(report: zoo.Progress) -> None:
                assert log is not None
                share = report.work / report.total_work
                piece.advance(share, share if report.resumed else 0.0)
                log.write("chunk", **report._asdict())

            root = zoo.generate(recipe, images, out / "zoo", tell, mesh_of(config))
    if log is None:
        metrics = json.loads((out / "metrics.json").read_text())
    else:
        write_json(out / "config.json", about)
        zoos = zoo.read_all(root)
        plot(zoos, out / "accuracies.png")
        metrics = _metrics(root, zoos, log.seconds)
        log.write("metrics", **metrics)
        write_json(out / "metrics.json", metrics)
    show(metrics, console)
    console.print(
        f"{clock(metrics['seconds'])} in all, {metrics['networks_per_second']:.1f} "
        f"networks/s; read it with --zoo {root}",
        highlight=False,
    )
    return metrics


def _metrics(root: Path, zoos: dict[str, zoo.Zoo], seconds: float) -> dict[str, Any]:
    """Counts the networks of a finished zoo."""
    made = json.loads((root / "manifest.json").read_text())["buckets"]
    buckets = {}
    for name, one in zoos.items():
        accuracy = one.labels["test_accuracy"]
        buckets[name] = {
            "networks": len(one),
            "diverged": made[name]["diverged"],
            "parameters": one.network.spec.num_parameters,
            "at_least": {f"{cut:g}": np.sum(accuracy >= cut) for cut in CUT_OFFS},
            "accuracy_deciles": np.quantile(accuracy, np.linspace(0, 1, 11)).tolist(),
        }
    trained = sum(entry["trained"] for entry in made.values())
    return plain(
        {
            "buckets": buckets,
            "seconds": round(seconds, 1),
            "networks_per_second": trained / seconds,
        }
    )


def show(metrics: dict[str, Any], console: Console) -> None:
    """Prints how many networks of each bucket are how good."""
    title = "Networks, and how many reach an accuracy"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    headings = ["bucket", "weights", "diverged", "median"]
    headings += [f"{cut:g}" for cut in CUT_OFFS]
    for heading in headings:
        justify = "left" if heading == "bucket" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for name, entry in metrics["buckets"].items():
        median = f"{entry['accuracy_deciles'][5]:.2f}"
        counts = [str(count) for count in entry["at_least"].values()]
        sizes = [f"{entry['parameters']:,}", str(entry["diverged"])]
        table.add_row(name, *sizes, median, *counts)
    console.print(table)


def plot(zoos: dict[str, zoo.Zoo], path: Path) -> None:
    """Draws how the accuracies are spread."""
    # Imported here: --help needs no plotting library.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3))
    accuracies = [one.labels["test_accuracy"] for one in zoos.values()]
    axis.hist(accuracies, bins=np.linspace(0, 1, 21).tolist(), label=list(zoos))
    axis.set_xlabel("measured test accuracy")
    axis.set_ylabel("networks")
    axis.legend()
    save_figure(figure, path, dpi=120, bbox_inches="tight")
    plt.close(figure)
