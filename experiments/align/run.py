"""The experiment: every row trained, aligned and walked between, one after another."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.align import report
from experiments.align.config import Config
from experiments.align.networks import NETWORKS, Row
from experiments.align.pairs import aligned, measure, paired, train
from experiments.align.tasks import task_of
from experiments.finished import finished, made
from experiments.predict_accuracy.progress import Bars, clock
from experiments.predict_accuracy.record import Log, plain, write_json

PLACES = ("out",)
"""Fields of a config that decide where files lie, and no number."""

SECONDS = 40.0
"""That a row of the preset "registry" takes on a core."""


def run(
    config: Config, preset: str, command: str, console: Console | None = None
) -> dict[str, Any]:
    """Runs the experiment, or goes on with it, or shows it if it is finished.

    Writes `config.json`, `log.jsonl`, `rows`, `metrics.json` and a picture under
    `config.out`.

    Args:
        config: of the run.
        preset: its name, for the record.
        command: that repeats the run, for the record.
        console: where progress and the table go.

    Returns:
        What `metrics.json` holds.

    Raises:
        ValueError: if `out` holds the results of another run.
    """
    console, out = console or Console(), config.out
    about_run = made("align", preset, command, config, PLACES)
    before = finished(out, about_run, PLACES)
    if before is not None:
        console.print(f"finished before; everything is in {out}")
        report.show(before, console)
        return before
    rows: dict[str, Any] = {}
    with Bars(console) as bars:
        bars.plan.add("row", len(config.networks), SECONDS)
        write_json(out / "config.json", about_run)
        log = Log(out / "log.jsonl", about_run["fingerprint"])
        for name in config.networks:
            kept = out / "rows" / about_run["fingerprint"] / f"{name}.json"
            if kept.exists():
                rows[name] = json.loads(kept.read_text())
                continue
            with bars.work(name, "row"):
                rows[name] = plain(row_of(config, name, NETWORKS[name]))
            write_json(kept, rows[name])
            log.write("row", name=name)
    metrics = plain(
        {"task": config.task, "rows": rows, "seconds": round(log.seconds, 1)}
    )
    report.plot(metrics, out)
    write_json(out / "metrics.json", metrics)
    report.show(metrics, console)
    console.print(f"{clock(metrics['seconds'])} in all; metrics and picture in {out}")
    return metrics


def row_of(config: Config, name: str, row: Row) -> dict[str, Any]:
    """Returns what is measured of one architecture."""
    key = jax.random.fold_in(
        jax.random.key(config.seed), zlib.crc32(name.encode()) % 2**31
    )
    keys = jax.random.split(key, 3)
    task = task_of(config, row, keys[0])
    thetas = train(config, row, task, keys[1])
    pairs = paired(config, row, thetas, keys[2])
    found = aligned(config, row, task, pairs)
    measured = measure(config, row, task, pairs)
    ways = {"none": measured(pairs.second)}
    ways |= {way: measured(one.result) for way, one in found.items()}
    ways["chosen"] = chosen(ways)
    return {
        "groups": sorted({space.group for space in row.net.spec.spaces}),
        "parameters": row.net.spec.num_parameters,
        "trained": {
            way: {
                "apart": of_pairs(one, ~pairs.moved),
                "moved": of_pairs(one, pairs.moved),
            }
            for way, one in ways.items()
        },
        "seconds": {
            way: {"compile": one.compile, "pair": one.run / config.pairs}
            for way, one in found.items()
        },
    }


def chosen(ways: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns of each pair what lies lowest on inputs of the training split."""
    names = [way for way in ways if way != "none"]
    low = np.argmin([ways[way]["train_barrier"] for way in names], 0)
    at = np.arange(len(low))
    return {
        name: np.stack([ways[way][name] for way in names])[low, at]
        for name in ways["none"]
    }


def of_pairs(one: Mapping[str, np.ndarray], which: np.ndarray) -> dict[str, Any]:
    """Returns means over some pairs, and deviations of numbers."""
    found: dict[str, Any] = {}
    for name, values in one.items():
        if name == "train_losses":
            continue
        mean = values[which].mean(0)
        found[name] = np.round(mean, 6).tolist()
        if values.ndim == 1:
            found[f"{name}_std"] = round(float(values[which].std()), 6)
    return found
