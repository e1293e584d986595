"""The experiment: a zoo, one metanetwork and trees, one look at the test split."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.finished import finished, made
from experiments.predict_accuracy.progress import Bars, clock
from experiments.predict_accuracy.record import Log, plain, write_json
from experiments.predict_mixed import readers, report, trees
from experiments.predict_mixed import zoo as zoos
from experiments.predict_mixed.config import Config
from experiments.predict_mixed.evaluate import Model, final_test, truth_of
from experiments.predict_mixed.zoo import Column
from qejax import zoo
from qejax.nets import PadSize

PLACES = ("out",)
"""Fields of a config that decide where files lie, and no number."""

SECONDS = {"zoo": 150.0, "mixed": 180.0, "trees": 15.0, "test": 15.0}
"""That a piece of the full preset takes on two cores."""

COLUMNS = ("test", "unseen")
"""Of the table: networks of architectures that were trained on, and of others."""


def run(
    config: Config, preset: str, command: str, console: Console | None = None
) -> dict[str, Any]:
    """Runs the experiment, or goes on with it, or shows it if it is finished.

    Writes `config.json`, `log.jsonl`, `metrics.json`, checkpoints and the zoo under
    `config.out`.

    Args:
        config: of the run.
        preset: its name, for the record.
        command: that repeats the run, for the record.
        console: where progress and the table go.

    Returns:
        What `metrics.json` holds.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM during training, with the state saved.
        ValueError: if `out` holds another zoo, or the results of another run.
    """
    console, out = console or Console(), config.out
    about_run = made("predict_mixed", preset, command, config, PLACES)
    before = finished(out, about_run, PLACES)
    if before is not None:
        console.print(f"finished before; everything is in {out}")
        report.show(before, console)
        return before
    with Bars(console) as bars:
        _plan(config, bars)
        with bars.work("zoo", "zoo") as piece:
            columns = dict(zip(COLUMNS, zoos.load(config, piece.advance), strict=True))
        log = Log(out / "log.jsonl", about_run["fingerprint"])
        write_json(out / "config.json", about_run)
        about = _about(config, *columns.values())
        log.write("zoo", **about)
        ladder = readers.ladder_of(config, *columns.values())
        ckpt = out / f"ckpt-{about_run['fingerprint']}"
        models = {
            name: _train(name, config, column, ladder, ckpt / name, bars, log)
            for name, column in columns.items()
        }
        with bars.work("test networks, opened once", "test"):
            tested = {
                name: final_test(models[name], column)
                for name, column in columns.items()
            }
    rows = {
        one.row: {
            "model": one.words,
            "params": one.params,
            "seeds": config.seeds,
            **{name: tested[name][one.row] for name in COLUMNS},
            "selected": {name: dict(models[name][at].extra) for name in COLUMNS},
        }
        for at, one in enumerate(models[COLUMNS[0]])
    }
    metrics = plain({"rows": rows, "zoo": about, "seconds": round(log.seconds, 1)})
    write_json(out / "metrics.json", metrics)
    report.show(metrics, console)
    console.print(f"{clock(metrics['seconds'])} in all; metrics.json in {out}")
    return metrics


def _plan(config: Config, bars: Bars) -> None:
    """Plans all work, for the time left."""
    for name in ("zoo", "test"):
        bars.plan.add(name, 1, SECONDS[name])
    for name in config.rows:
        kind = "mixed" if name == "mixed" else "trees"
        bars.plan.add(kind, len(COLUMNS), SECONDS[kind])


def _train(
    name: str,
    config: Config,
    column: Column,
    ladder: tuple[PadSize, ...],
    out: Path,
    bars: Bars,
    log: Log,
) -> list[Model]:
    """Trains every row of a column on its training and validation splits."""
    models: list[Model] = []
    for row in config.rows:
        what = f"{row}, for {name!r}"
        if row == "mixed":
            with bars.work(what, "mixed") as piece:
                one = readers.train_mixed(column, ladder, config, out, piece.advance)
        else:
            with bars.work(what, "trees"):
                one = trees.train_trees(row, column, config)
        log.write("trained", row=row, column=name, **one.extra)
        models.append(one)
    return models


def _about(config: Config, every: Column, some: Column) -> dict[str, Any]:
    """Counts, and accuracies without those of the test split."""
    mixed = every.mixed
    known, accuracy = mixed.split != zoo.SPLITS["test"], truth_of(mixed)
    held = ~np.isin(mixed.ids, some.mixed.ids)
    return {
        "networks": len(mixed),
        **{name: len(mixed.rows(name)) for name in zoo.SPLITS},
        "unseen": np.sum(held & (mixed.split != zoo.SPLITS["val"])),
        "architectures": {
            name: np.quantile(
                accuracy[known & (mixed.which == number)], (0, 0.25, 0.5, 0.75, 1)
            ).tolist()
            for number, name in enumerate(config.architectures)
        },
    }
