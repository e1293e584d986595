"""The experiment: a zoo, maps for every row, one look at the test split."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.devices import mesh_of
from experiments.finished import finished, made
from experiments.orbits import move
from experiments.predict_accuracy.chunks import cast, in_chunks
from experiments.predict_accuracy.progress import Bars, clock
from experiments.predict_accuracy.record import Log, plain, write_json
from experiments.quantise_gauge import report
from experiments.quantise_gauge.config import MAPS, RULES, Config
from experiments.quantise_gauge.maps import (
    PERS,
    Chosen,
    Map,
    make_map,
    prepared,
    train_row,
)
from experiments.quantise_gauge.networks import Subject, load
from experiments.seeds import starts
from qejax import gauges, spaces
from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.gauges import Per

PLACES = ("out", "zoos")
"""Fields of a config that decide where files lie, and no number."""

SECONDS = {"zoo": 60.0, "row": 120.0, "test": 60.0}
"""That a piece of the preset "mlp" takes on two cores."""

MOVE_KEY = 43
"""Folded into the seed for what moves networks."""

Choose = Callable[[Theta, int, Per], Theta]
"""From weights `[B, ...]`, bits and what has a step to chosen weights `[B, S, ...]`."""


def run(
    config: Config, preset: str, command: str, console: Console | None = None
) -> dict[str, Any]:
    """Runs the experiment, or goes on with it, or shows it if it is finished.

    Writes `config.json`, `log.jsonl`, `metrics.json`, `accuracy.png` and checkpoints
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
        ValueError: if `out` holds the results of another run.
    """
    console, out = console or Console(), config.out
    about_run = made("quantise_gauge", preset, command, config, PLACES)
    before = finished(out, about_run, PLACES)
    if before is not None:
        console.print(f"finished before; everything is in {out}")
        report.show(before, console)
        return before
    with Bars(console) as bars:
        trained = [row for row in config.rows if row in MAPS and "descent" not in row]
        bars.plan.add("zoo", 1, SECONDS["zoo"])
        bars.plan.add("row", len(trained), SECONDS["row"])
        bars.plan.add("test", len(config.rows), SECONDS["test"])
        with bars.work("zoo", "zoo") as piece:
            subject = load(config, piece.advance)
        write_json(out / "config.json", about_run)
        log = Log(out / "log.jsonl", about_run["fingerprint"])
        maps: dict[str, tuple[Map, Any, dict[str, Any]]] = {}
        for row in trained:
            place = out / "ckpt" / f"{row}-{about_run['fingerprint']}"
            with bars.work(row, "row") as piece:
                maps[row] = train_row(row, subject, config, place, piece.advance)
            log.write("trained", row=row, **maps[row][2])
        metrics = _test(config, subject, maps, bars)
    metrics = plain(
        metrics
        | {
            "networks": {n: _count(t) for n, t in subject.splits.items()},
            "seconds": round(log.seconds + bars.plan.kinds["zoo"].measured, 1),
        }
    )
    write_json(out / "metrics.json", metrics)
    report.plot(metrics, out)
    report.show(metrics, console)
    console.print(f"{clock(metrics['seconds'])} in all; metrics and a picture in {out}")
    return metrics


def _count(thetas: Theta) -> int:
    return len(jax.tree.leaves(thetas)[0])


def _test(
    config: Config,
    subject: Subject,
    maps: dict[str, tuple[Map, Any, dict[str, Any]]],
    bars: Bars,
) -> dict[str, Any]:
    """Opens the test split, once."""
    thetas = subject.splits["test"]
    key = jax.random.fold_in(jax.random.key(config.seed), MOVE_KEY)
    wide = cast(thetas, np.float64)
    away = cast(move(key, subject.network.spec, wide, config.spread), np.float32)
    score = _scores(subject, config)
    whole = score(jax.tree.map(lambda x: x[:, None], thetas), None, "tensor")
    rows: dict[str, Any] = {}
    for row in config.rows:
        with bars.work(f"{row}: test", "test"):
            if row in RULES:
                choose, about = _rule(row, subject, config), {}
            else:
                choose, about = _map(row, subject, config, maps)
            found = {
                f"{bits}/{per}": score(choose(thetas, bits, per), bits, per)
                for bits in config.bits
                for per in PERS
            }
            least = min(config.trained_bits, key=lambda b: abs(b - 4))
            moved = score(choose(away, least, "tensor"), least, "tensor")
            rows[row] = about | {
                "accuracy": {name: x.mean() for name, x in found.items()},
                "by_seed": {name: x.mean(0).tolist() for name, x in found.items()},
                "moved": moved.mean(),
                "moved_bits": least,
            }
    return {"float": whole.mean(), "rows": rows}


def _scores(
    subject: Subject, config: Config
) -> Callable[[Theta, int | None, Per], np.ndarray]:
    """Returns what gives accuracies `[B, S]` on test images, of rounded integers."""
    network, inputs = subject.network, subject.inputs

    def accuracy(theta: Theta) -> Array:
        answers = jnp.argmax(network.apply(theta, inputs.test), -1)
        return jnp.mean((answers == inputs.labels).astype(jnp.float32))

    measured = jax.jit(jax.vmap(lambda some: jax.lax.map(accuracy, some)))

    def integers(bits: int, per: Per) -> Callable[[Theta], Theta]:
        def one(theta: Theta) -> Theta:
            found = gauges.quantise(network.spec, theta, bits, per)
            return gauges.dequantised(network.spec, found, theta)

        return jax.jit(jax.vmap(jax.vmap(one)))

    def score(some: Theta, bits: int | None, per: Per) -> np.ndarray:
        if bits is not None:
            some = integers(bits, per)(some)
        return in_chunks(measured, some, mesh=mesh_of(config))

    return score


def _rule(row: str, subject: Subject, config: Config) -> Choose:
    spec = subject.network.spec
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)

    def of_one(theta: Theta) -> Theta:
        def drawn(key: PRNGKeyArray) -> Theta:
            g = gauges.chosen(spec, theta, RULES[row], key=key)
            return spaces.act(spec, g, theta)

        return jax.lax.map(drawn, keys)

    program = jax.jit(jax.vmap(of_one))
    mesh = mesh_of(config)
    return lambda thetas, bits, per: in_chunks(program, thetas, mesh=mesh)


def _map(
    row: str,
    subject: Subject,
    config: Config,
    maps: dict[str, tuple[Map, Any, dict[str, Any]]],
) -> tuple[Choose, dict[str, Any]]:
    if row in maps:
        map_, params, about = maps[row]
    else:  # The map as it is initialised: plain descent.
        map_ = make_map(row, subject, config)
        params = starts(map_.init, config.seed, config.seeds)
        about = {"params": 0}
    chosen = Chosen(map_, subject, config)

    def choose(thetas: Theta, bits: int, per: Per) -> Theta:
        return chosen.thetas(params, prepared(map_, thetas, config), bits, per)

    return choose, about
