"""The experiment: a zoo of adapters, readers and trees, one look at the test split."""

from typing import Any

import numpy as np
from rich.console import Console

from experiments.finished import finished, made
from experiments.predict_accuracy.progress import Bars, clock
from experiments.predict_accuracy.record import Log, plain, write_json
from experiments.read_adapters import readers, report, trees
from experiments.read_adapters import zoo as zoos
from experiments.read_adapters.config import Config
from experiments.read_adapters.evaluate import Row, entry, final_test
from experiments.read_adapters.tasks import TASKS, sets_of
from qejax import zoo

PLACES = ("out", "zoos")
"""Fields of a config that decide where files lie, and no number."""


def run(
    config: Config, preset: str, command: str, console: Console | None = None
) -> dict[str, Any]:
    """Runs the experiment, or goes on with it, or shows it if it is finished.

    Writes `config.json`, `log.jsonl`, `metrics.json`, `adapters.png` and checkpoints
    under `config.out`.

    Args:
        config: of the run.
        preset: its name, for the record.
        command: that repeats the run, for the record.
        console: where progress and the table go.

    Returns:
        What `metrics.json` holds.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM during training, with the state saved.
        ValueError: if the zoo is damaged, or `out` holds the results of another run.
    """
    console, out = console or Console(), config.out
    about_run = made("read_adapters", preset, command, config, PLACES)
    before = finished(out, about_run, PLACES)
    if before is not None:
        console.print(f"finished before; everything is in {out}")
        report.show(before, console)
        return before
    with Bars(console) as bars:
        _plan(config, bars)
        with bars.work("zoo", "zoo") as piece:
            base, adapters = zoos.load(config, piece.advance)
        write_json(out / "config.json", about_run)
        log = Log(out / "log.jsonl", about_run["fingerprint"])
        about = _about(config, base, adapters)
        log.write("zoo", **about)
        rows = _train(config, adapters, about_run["fingerprint"], bars, log)
        with bars.work("test split, opened once", "test"):
            sets = sets_of(*(TASKS[name] for name in config.tasks))
            tested = final_test(rows, adapters, sets, config.seed, config.spread)
    metrics = plain(
        {
            "rows": {row.name: entry(row, tested) for row in rows},
            "zoo": about,
            "function_gap": tested.function_gap,
            "seconds": round(log.seconds + bars.plan.kinds["zoo"].measured, 1),
        }
    )
    picture = report.plot(metrics, tested, config.tasks, out)
    write_json(out / "metrics.json", metrics)
    report.show(metrics, console)
    took = clock(metrics["seconds"])
    console.print(f"{took} in all; metrics.json, {picture.name} in {out}")
    return metrics


SECONDS = {"zoo": 45.0, "test": 40.0, "trees": 20.0, "mlp": 6.0, "predictor": 40.0}
"""That a piece of the full preset takes on two cores."""


def _plan(config: Config, bars: Bars) -> None:
    """Plans all work, for the time left."""
    names = [_sort(kind.name) for kind in readers.kinds(config)]
    names += ["zoo", "test", *(["trees"] * len(trees.names(config)))]
    for name in names:
        bars.plan.add(name, 1, SECONDS[name])


def _sort(name: str) -> str:
    return "mlp" if name.startswith("mlp") else "predictor"


def _train(
    config: Config, adapters: zoo.Zoo, key: str, bars: Bars, log: Log
) -> list[Row]:
    """Trains every row of the table on the training and validation splits."""
    rows: list[Row] = []
    for kind in readers.kinds(config):
        out = config.out / "ckpt" / f"{kind.name}-{key}"
        with bars.work(kind.name, _sort(kind.name)) as piece:
            row = readers.train_row(kind, adapters, config, out, piece.advance)
        log.write("trained", row=row.name, **row.extra)
        rows.append(row)
    for name in trees.names(config):
        with bars.work(name, "trees"):
            rows.append(trees.train_trees(name, adapters, config))
        log.write("trained", row=name, **rows[-1].extra)
    return rows


def _about(config: Config, base: zoo.Zoo, adapters: zoo.Zoo) -> dict[str, Any]:
    """Counts, and accuracies without those of the test split."""
    known = adapters.split != zoo.SPLITS["test"]
    accuracy, task = adapters.labels["test_accuracy"], adapters.labels["task"]
    return {
        "adapters": len(adapters),
        "parameters": adapters.network.spec.num_parameters,
        "base_parameters": base.network.spec.num_parameters,
        "base_accuracy": float(base.labels["test_accuracy"][0]),
        **{name: len(adapters.rows(name)) for name in zoo.SPLITS},
        "tasks": {
            name: np.quantile(accuracy[known & (task == number)], (0, 0.5, 1)).tolist()
            for number, name in enumerate(config.tasks)
        },
    }
