"""`predict_accuracy score`: accuracies of any networks, from a trained predictor."""

import csv
import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.devices import mesh_of
from experiments.make_zoo.inspecting import listed
from experiments.make_zoo.showing import few, print_table
from experiments.predict_accuracy.evaluate import kendall_tau
from experiments.predict_accuracy.predictors import Reader, read_predictors
from experiments.predict_accuracy.verbs import Score
from qejax import nets, train, zoo
from qejax._disk import room
from qejax._processes import on_first

SHOWN = 5
"""Networks at the top and at the bottom."""

MOST = 3
"""Buckets and networks that are named one by one."""


class Scored(NamedTuple):
    """Predictions for the networks of a bucket that can be used.

    Attributes:
        bucket: its name.
        ids: `[B]`.
        split: `[B]`, codes.
        predicted: `[S, B]`, one row for every predictor.
        truth: `[B]`, what was measured; `None` where the zoo does not say.
        problems: networks that cannot be used.
    """

    bucket: str
    ids: np.ndarray
    split: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray | None
    problems: list[zoo.Problem]


def run(config: Score, console: Console) -> list[Scored]:
    """Scores the networks that fit; shows some, writes all, names the others.

    Raises:
        ValueError: if there is no predictor or no network, or none fits the other.
        FileNotFoundError: if the networks are not there.
    """
    if config.predictor == Path() or not config.address:
        raise ValueError(
            f"score PREDICTOR ZOO: expected the folder of a predictor and networks, "
            f"got {config.predictor} and {config.address or 'none'}."
        )
    readers = read_predictors(config.predictor, mesh_of(config))
    wrong, found = listed(config.address, config.given())
    parts = {
        name: part
        for bucket, one in found.listings.items()
        for name, part in zoo.apart(bucket, one).items()
    }
    by_network = {reader.network: reader for reader in readers}
    others = [name for name, part in parts.items() if part.network not in by_network]
    if len(others) == len(parts):
        lines = [_why(name, parts[name].network, readers) for name in others[:MOST]]
        raise ValueError(
            f"{config.address}: expected networks that {config.predictor} was trained "
            f"for, got {'; '.join(lines) or 'none at all'}."
        )

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    done = [
        _scored(name, part, by_network[part.network])
        for name, part in parts.items()
        if name not in others
    ]
    for name in others[:MOST]:
        tell(f"left out: {_why(name, parts[name].network, readers)}")
    if len(others) > MOST:
        tell(f"... and {len(others) - MOST} more buckets that do not fit")
    files = [why for one in wrong.values() for why in one.values()]
    problems = [*found.problems, *(p for one in done for p in one.problems)]
    for line in [*files, *(f"{p.name}: {p.why}" for p in problems)][:MOST]:
        tell(f"left out: {line}")
    if problems or files:
        tell(f"{len(problems)} networks and {len(files)} files cannot be used")
    _show(done, readers, console)
    on_first(lambda: _write(config.out, done))
    tell(f"all in {config.out}")
    return done


def _why(name: str, network: nets.Network, readers: list[Reader]) -> str:
    """What differs between networks of a bucket and those that can be read."""
    got = network.config.to_dict()
    lines = []
    for reader in readers:
        wanted = reader.network.config.to_dict()
        keys = [k for k in {**wanted, **got} if wanted.get(k) != got.get(k)]
        differing = [f"{k} {wanted.get(k)}, got {got.get(k)}" for k in keys]
        lines.append(f"expected {few(differing, MOST)}")
    return f"bucket {name!r}: {' or '.join(lines[:MOST])}"


def _scored(name: str, listing: zoo.Listing, reader: Reader) -> Scored:
    weights = listing.read(np.arange(len(listing)))
    why = dict(weights.problems)
    for at in np.flatnonzero(~np.isfinite(weights.vectors).all(axis=1)).tolist():
        why.setdefault(at, "weights should be finite in float32, got some not")
    rows = np.setdiff1d(np.arange(len(listing)), list(why))
    spec = listing.network.spec
    predicted = np.zeros((len(reader.names), 0))
    if len(rows):
        predicted = reader.predict(zoo.from_vectors(spec, weights.vectors[rows]))
    known = listing.labels.get(reader.label)
    return Scored(
        bucket=name,
        ids=listing.ids[rows],
        split=listing.split[rows],
        predicted=predicted,
        truth=None if known is None else np.asarray(known[rows], np.float64),
        problems=[zoo.Problem(str(listing.ids[at]), why[at]) for at in why],
    )


def _show(done: list[Scored], readers: list[Reader], console: Console) -> None:
    """Prints the best and the worst, and how predictions agree with what is known."""
    mean = np.concatenate([one.predicted.mean(axis=0) for one in done])
    names = [f"{one.bucket}: {x}" for one in done for x in one.ids.tolist()]
    order = np.argsort(-mean, kind="stable")
    shown = list(dict.fromkeys([*order[:SHOWN].tolist(), *order[-SHOWN:].tolist()]))
    table = Table(box=box.SIMPLE)
    table.add_column("network", no_wrap=True)
    table.add_column(f"predicted {readers[0].label}", justify="right")
    for at, place in enumerate(shown):
        if at == SHOWN and len(mean) > len(shown):
            table.add_row("...", "")
        table.add_row(names[place], f"{mean[place]:.4f}")
    print_table(console, table)
    seeds = sorted({len(one.predicted) for one in done})
    counts = " or ".join(map(str, seeds))
    console.print(
        f"{len(mean):,} networks; means of {counts} predictors", highlight=False
    )
    known = [one for one in done if one.truth is not None]
    if not known:
        return
    truth = np.concatenate([one.truth for one in known if one.truth is not None])
    mean = np.concatenate([one.predicted.mean(axis=0) for one in known])
    split = np.concatenate([one.split for one in known])
    parts = {"all": np.full(len(truth), True)}
    parts |= {name: split == code for name, code in zoo.SPLITS.items()}
    for name, mine in parts.items():
        if mine.sum() >= 2:
            console.print(
                f"{name} ({mine.sum():,} networks with a label): Kendall tau "
                f"{kendall_tau(truth[mine], mean[mine]):.4f}, R2 "
                f"{train.r2(truth[mine], mean[mine]):.4f}",
                highlight=False,
            )


def _write(path: Path, done: list[Scored]) -> None:
    """Writes one line a network, whole or not at all."""
    split = {code: name for name, code in zoo.SPLITS.items()}
    most = max(len(one.predicted) for one in done)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    seeds = [f"predictor_{number}" for number in range(most)]
    table.writerow(["bucket", "id", "split", "predicted", *seeds, "measured"])
    for one in done:
        truth = np.full(len(one.ids), np.nan) if one.truth is None else one.truth
        blank = [""] * (most - len(one.predicted))
        for at, name in enumerate(one.ids.tolist()):
            each = one.predicted[:, at]
            table.writerow(
                [
                    one.bucket,
                    name,
                    split[int(one.split[at])],
                    float(each.mean()),
                    *map(float, each),
                    *blank,
                    "" if np.isnan(truth[at]) else float(truth[at]),
                ]
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with room(path):
        partial.write_text(text.getvalue())
    os.replace(partial, path)
