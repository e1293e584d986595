"""The experiment: fits, editors for every edit, one look at the test split."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console

from experiments.checksum import digest_of
from experiments.edit_inr import report
from experiments.edit_inr.config import Config
from experiments.edit_inr.editors import (
    Trained,
    errors,
    function_gap,
    moved_test,
    rendered,
    train_row,
)
from experiments.edit_inr.images import Subject, load
from experiments.finished import finished, made
from experiments.predict_accuracy.progress import Bars, clock
from experiments.predict_accuracy.record import Log, plain, write_json
from qejax import layers

PLACES = ("out", "zoos", "zoo")
"""Fields of a config that decide where files lie, and no number."""

SECONDS = {"fits": 30.0, "row": 40.0, "test": 10.0}
"""That a piece of the preset "digits" takes on two cores."""


def run(
    config: Config, preset: str, command: str, console: Console | None = None
) -> dict[str, Any]:
    """Runs the experiment, or goes on with it, or shows it if it is finished.

    Writes `config.json`, `log.jsonl`, `metrics.json`, a picture per row and checkpoints
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
        FileNotFoundError: if `--zoo` is no folder.
    """
    console, out = console or Console(), config.out
    data = digest_of(str(config.zoo or ""))
    about_run = made("edit_inr", preset, command, config, PLACES, data)
    before = finished(out, about_run, PLACES)
    if before is not None:
        console.print(f"finished before; everything is in {out}")
        report.show(before, console)
        return before
    with Bars(console) as bars:
        bars.plan.add("fits", 1, SECONDS["fits"])
        for kind in ("row", "test"):
            bars.plan.add(kind, len(config.rows) * len(config.edits), SECONDS[kind])
        with bars.work("fits", "fits") as piece:
            subject = load(config, piece.advance)
        write_json(out / "config.json", about_run)
        log = Log(out / "log.jsonl", about_run["fingerprint"])
        if not layers.scaled_spaces(subject.network.spec):
            same = [row for row in config.rows if row in ("gauge", "relative")]
            for row in same:
                bars.line(f"{row}: no units scale, so it computes what 'strict' does")
        trained = _train(config, subject, about_run["fingerprint"], bars, log)
        edits = _test(config, subject, trained, bars)
    metrics = plain(
        {
            "edits": edits,
            "fits": _about(subject),
            "seconds": round(log.seconds + bars.plan.kinds["fits"].measured, 1),
        }
    )
    write_json(out / "metrics.json", metrics)
    report.show(metrics, console)
    console.print(f"{clock(metrics['seconds'])} in all; metrics and pictures in {out}")
    return metrics


def _train(
    config: Config, subject: Subject, key: str, bars: Bars, log: Log
) -> dict[tuple[str, str], Trained]:
    """Trains every row on every edit, on the training and validation splits."""
    found = {}
    for edit in config.edits:
        for row in config.rows:
            out = config.out / "ckpt" / f"{edit}-{row}-{key}"
            with bars.work(f"{edit}, {row}", "row") as piece:
                one = train_row(row, edit, subject, config, out, piece.advance)
            log.write(
                "trained",
                edit=edit,
                row=row,
                best_step=one.best_step,
                validation=one.validation,
            )
            found[edit, row] = one
    return found


def _test(
    config: Config,
    subject: Subject,
    trained: Mapping[tuple[str, str], Trained],
    bars: Bars,
) -> dict[str, dict[str, Any]]:
    """Opens the test split, once; draws the pictures."""
    images = subject.splits["test"]
    moved = moved_test(subject, config)
    found: dict[str, dict[str, Any]] = {}
    panels: dict[str, dict[str, np.ndarray]] = {
        row: {"original": images.rendered} for row in config.rows
    }
    for edit in config.edits:
        target = images.target(edit, config.shape)
        before = errors(images.rendered[:, None], target)
        found[edit] = {"no edit": {"params": 0, "mse": before[0], "mse_std": 0.0}}
        for row in config.rows:
            one = trained[edit, row]
            with bars.work(f"{edit}, {row}: test", "test"):
                draw = rendered(one.pure, subject, config)
                edited = draw(one.params, images.thetas)
                each = errors(edited, target)
                again = errors(draw(one.params, moved), target)
                found[edit][row] = {
                    "params": one.num_params,
                    "mse": each.mean(),
                    "mse_std": each.std(),
                    "mse_by_seed": each.tolist(),
                    "mse_moved": again.mean(),
                    "best_step": one.best_step,
                    "function_gap": function_gap(one, subject, config),
                }
            panels[row] |= {
                f"{edit}: target": target,
                f"{edit}: edited": edited[:, 0],
                f"{edit}: error": edited[:, 0] - target,
            }
    for row, lines in panels.items():
        report.plot(row, config.shape, lines, config.out)
    return found


def _about(subject: Subject) -> dict[str, Any]:
    choices: Any = subject.network.config
    return {
        "network": "-".join(map(str, choices.widths)),
        "activation": choices.activation,
        "offset": choices.offset,
        "parameters": subject.network.spec.num_parameters,
        **subject.fits,
        **{name: len(part.classes) for name, part in subject.splits.items()},
    }
