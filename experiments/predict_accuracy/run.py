"""The experiment: a zoo, metanetworks and baselines, one look at the test split."""

from typing import Any

import numpy as np
from rich.console import Console

from experiments.finished import finished, made
from experiments.predict_accuracy import metanets, report, zoos
from experiments.predict_accuracy.baselines import (
    SAME_INPUTS,
    TREES,
    Table,
    TreeRow,
    fit_trees,
    inputs_table,
    statistics_table,
    tree_rows,
)
from experiments.predict_accuracy.buckets import TRAIN, VALIDATION, Bucket
from experiments.predict_accuracy.config import Config
from experiments.predict_accuracy.evaluate import (
    Row,
    baseline,
    column,
    final_test,
)
from experiments.predict_accuracy.lines import COLUMNS
from experiments.predict_accuracy.predictors import PREDICTORS, save_predictors
from experiments.predict_accuracy.progress import Bars, clock
from experiments.predict_accuracy.record import (
    Log,
    plain,
    write_arrays,
    write_json,
)

PLACES = ("out", "zoos")
"""Fields of a config that decide where files lie, and no number."""


def run(
    config: Config, preset: str, command: str, console: Console | None = None
) -> dict[str, Any]:
    """Runs the experiment, or goes on with it, or shows it if it is finished.

    Writes `config.json`, `log.jsonl`, `metrics.json`, `predictions.npz`, three plots,
    the predictors of the two columns and checkpoints under `config.out`.

    Args:
        config: of the run.
        preset: its name, for the record.
        command: that repeats the run, for the record.
        console: where progress and the table go.

    Returns:
        What `metrics.json` holds; see design.md, section 5.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM during training, with the state saved.
        ValueError: if the zoo cannot be read, naming file or field, or if `out` holds
            the results of another run.
    """
    console = console or Console()
    out = config.out
    data = zoos.digest(config)
    about_run = made("predict_accuracy", preset, command, config, PLACES, data)
    before = finished(out, about_run, PLACES)
    if before is not None:
        console.print(f"finished before; everything is in {out}")
        report.show(before, console)
        return before
    with Bars(console) as bars:
        plan(config, bars)
        buckets = zoos.load(config, bars)
        # Of a zoo that was not generated here only its reading says what is in it.
        bars.plan.scale(len(buckets) / zoos.num_buckets(config))
        # Only now: a zoo that cannot be read leaves nothing behind.
        write_json(out / "config.json", about_run)
        log = Log(out / "log.jsonl", about_run["fingerprint"])
        for bucket in buckets:
            log.write("zoo", **bucket.summary())
        rows = train_rows(config, buckets, bars, log)
        with bars.work("test split, opened once", "test", len(buckets)):
            tested = final_test(rows, buckets, config.seed)
    columns = {row.name: row for row in rows if row.name in COLUMNS}
    metrics: dict[str, Any] = {
        name: column(row, tested[name]) for name, row in columns.items()
    }
    metrics["baselines"] = {
        row.name: baseline(row, tested[row.name])
        for row in rows
        if row.name not in COLUMNS
    }
    metrics["cut_off"] = config.cut_off
    metrics["networks"] = sum(len(bucket.split) for bucket in buckets)
    metrics["seconds"] = round(log.seconds, 1)
    metrics = plain(metrics)
    files = report.plot(rows, tested, out)
    write_arrays(out / "predictions.npz", _predictions(tested))
    log.write("metrics", **metrics)
    write_json(out / "metrics.json", metrics)
    report.show(metrics, console)
    names = ", ".join(file.name for file in files)
    console.print(f"{clock(log.seconds)} in all; metrics.json, {names} in {out}")
    return metrics


def plan(config: Config, bars: Bars) -> None:
    """Plans all work with seconds measured on two cores, for the time left."""
    zoos.plan(config, bars)
    bars.plan.add("readings", zoos.num_buckets(config), 15.0)
    for net in metanets.metanets(config):
        seconds = metanets.estimate(net, config)
        bars.plan.add(net.name, zoos.num_buckets(config), seconds)
    rows = len(TREES) + len(SAME_INPUTS)
    bars.plan.add("trees", rows * zoos.num_buckets(config), 0.015 * config.trees)
    bars.plan.add("test", zoos.num_buckets(config), 10.0)


def train_rows(
    config: Config, buckets: list[Bucket], bars: Bars, log: Log
) -> list[Row]:
    """Trains every row of the table on the training and validation splits."""
    rows: list[Row] = []

    def trees(row: TreeRow, tables: dict[str, Table]) -> None:
        with bars.work(row.name, "trees", len(buckets)):
            rows.append(fit_trees(row, tables, config.seed, config.seeds, config.trees))
        log.write("trained", row=row.name, **rows[-1].extra)

    with bars.work("readings", "readings", len(buckets)):
        for bucket in buckets:
            _ = bucket.readings(TRAIN).known, bucket.readings(VALIDATION).known
    for net in metanets.metanets(config):
        trained = metanets.train_net(net, buckets, config, bars)
        rows.append(metanets.make_row(net, trained, buckets))
        if net.name in COLUMNS:
            save_predictors(config.out / PREDICTORS, net.name, trained)
        log.write("trained", row=net.name, **_curve(rows[-1]))
        if net.name in SAME_INPUTS:
            tables = {name: inputs_table(one) for name, one in trained.items()}
            trees(SAME_INPUTS[net.name], tables)
    for row in tree_rows(buckets):
        trees(row, {bucket.name: statistics_table(row, bucket) for bucket in buckets})
    return rows


def _curve(row: Row) -> dict[str, Any]:
    return {
        "validation": {
            bucket: {"step": steps.tolist(), "kendall_tau": tau.mean(axis=0).tolist()}
            for bucket, (steps, tau) in row.curves.items()
        },
        **row.extra,
    }


def _predictions(tested: Any) -> dict[str, np.ndarray]:
    first = next(iter(tested.values()))
    arrays = {"truth": first.truth, "bucket": first.bucket}
    for name, result in tested.items():
        for k, predicted in result.predicted.items():
            arrays[f"{name}/1e{k}"] = predicted
    return arrays
