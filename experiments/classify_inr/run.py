"""The experiment: a zoo of fits, classifiers, one look at the test split."""

from typing import Any

import numpy as np
from rich.console import Console

from experiments.checksum import digest_of
from experiments.classify_inr import readers, report
from experiments.classify_inr import zoo as zoos
from experiments.classify_inr.config import Config
from experiments.classify_inr.evaluate import Row, entry, final_test
from experiments.finished import finished, made
from experiments.predict_accuracy.progress import Bars, clock
from experiments.predict_accuracy.record import Log, plain, write_json
from qejax import zoo

PLACES = ("out", "zoo")
"""Fields of a config that decide where files lie, and no number."""

SIDE = 32
"""Points along every axis of a signal that is drawn."""


def run(
    config: Config, preset: str, command: str, console: Console | None = None
) -> dict[str, Any]:
    """Runs the experiment, or goes on with it, or shows it if it is finished.

    Writes `config.json`, `log.jsonl`, `metrics.json`, `classes.png` and checkpoints
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
        ValueError: if the zoo does not fit, or `out` holds the results of another run.
        FileNotFoundError: if there is no such zoo.
    """
    console, out = console or Console(), config.out
    data = digest_of(config.zoo)
    about_run = made("classify_inr", preset, command, config, PLACES, data)
    before = finished(out, about_run, PLACES)
    if before is not None:
        console.print(f"finished before; everything is in {out}")
        report.show(before, console)
        return before
    with Bars(console) as bars:
        _plan(config, bars)
        with bars.work("zoo", "zoo") as piece:
            fits = zoos.load(config, piece.advance)
        write_json(out / "config.json", about_run)
        log = Log(out / "log.jsonl", about_run["fingerprint"])
        about = _about(fits, zoos.notes(config))
        log.write("zoo", **about)
        rows = _train(config, fits, about_run["fingerprint"], bars, log)
        with bars.work("test split, opened once", "test"):
            tested = final_test(rows, fits, config.seed)
    metrics = plain(
        {
            "rows": {row.name: entry(row, tested) for row in rows},
            "zoo": about,
            "function_gap": tested.function_gap,
            "seconds": round(log.seconds + bars.plan.kinds["zoo"].measured, 1),
        }
    )
    picture = report.plot(metrics, tested, fits, SIDE, out)
    write_json(out / "metrics.json", metrics)
    report.show(metrics, console)
    took = clock(metrics["seconds"])
    console.print(f"{took} in all; metrics.json, {picture.name} in {out}")
    return metrics


SECONDS = {
    "zoo": 20.0,
    "test": 30.0,
    "steps": 40.0,
    "layer_steps": 90.0,
    "probe_steps": 20.0,
}
"""That a piece of the digits takes on two cores."""


def _plan(config: Config, bars: Bars) -> None:
    """Plans all work, for the time left."""
    names = [readers.KINDS[name].steps for name in config.rows]
    for name in ("zoo", *names, "test"):
        bars.plan.add(name, 1, SECONDS[name])


def _train(config: Config, fits: zoo.Zoo, key: str, bars: Bars, log: Log) -> list[Row]:
    """Trains every row of the table on the training and validation splits."""
    rows: list[Row] = []
    for name in config.rows:
        kind = readers.KINDS[name]
        out = config.out / "ckpt" / f"{name}-{key}"
        with bars.work(name, readers.KINDS[name].steps) as piece:
            row = readers.train_row(kind, fits, config, out, piece.advance)
        log.write("trained", row=row.name, **row.extra)
        rows.append(row)
    return rows


def _about(fits: zoo.Zoo, notes: dict[str, int]) -> dict[str, Any]:
    """Counts, without a look at the classes of the test split."""
    copy = fits.hyper.get("copy", np.zeros(len(fits), np.int64))
    return {
        **notes,
        "fits": len(fits),
        "parameters": fits.network.spec.num_parameters,
        "copies": int(copy.max(initial=0)) + 1,
        "source": fits.source,
        **{name: len(fits.rows(name)) for name in zoo.SPLITS},
    }
