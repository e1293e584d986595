"""The experiment: tasks, maps for every optimiser, one look at the test split."""

from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.finished import finished, made
from experiments.orbits import move
from experiments.predict_accuracy.chunks import cast
from experiments.predict_accuracy.progress import Bars, clock
from experiments.predict_accuracy.record import Log, plain, write_json
from experiments.seeds import num_params, starts
from experiments.teleport import report
from experiments.teleport.config import BASELINES, DOWN, LEARNED, RATES, Config
from experiments.teleport.maps import Chosen, make_map, train_row
from experiments.teleport.measure import Curves, step_seconds, steps_to
from experiments.teleport.networks import Split, load
from experiments.teleport.training import Digits

PLACES = ("out",)
"""Fields of a config that decide where files lie, and no number."""

SECONDS = {"row": 40.0, "rates": 20.0, "test": 10.0}
"""That a piece of the preset "digits" takes on one core."""

MOVE_KEY = 43
"""Folded into the seed for what moves networks."""


def run(
    config: Config, preset: str, command: str, console: Console | None = None
) -> dict[str, Any]:
    """Runs the experiment, or goes on with it, or shows it if it is finished.

    Writes `config.json`, `log.jsonl`, `metrics.json`, `curves.png` and checkpoints
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
    about_run = made("teleport", preset, command, config, PLACES)
    before = finished(out, about_run, PLACES)
    if before is not None:
        console.print(f"finished before; everything is in {out}")
        report.show(before, console)
        return before
    with Bars(console) as bars:
        rounds = len(config.optimisers)
        trained = sum(row in LEARNED for row in config.rows)
        bars.plan.add("row", rounds * trained, SECONDS["row"])
        bars.plan.add("rates", rounds * (len(config.rows) + 1), SECONDS["rates"])
        bars.plan.add("test", rounds * len(config.rows), SECONDS["test"])
        digits, splits = load(config)
        write_json(out / "config.json", about_run)
        log = Log(out / "log.jsonl", about_run["fingerprint"])
        found = {
            optimiser: _Rows(optimiser, digits, splits, config, bars, log).all()
            for optimiser in config.optimisers
        }
    metrics = plain(
        {
            "optimisers": found,
            "networks": {name: len(split.task) for name, split in splits.items()},
            "every": config.every,
            "seconds": round(log.seconds, 1),
        }
    )
    write_json(out / "metrics.json", metrics)
    report.plot(metrics, out)
    report.show(metrics, console)
    console.print(f"{clock(metrics['seconds'])} in all; metrics and a picture in {out}")
    return metrics


class _Rows:
    """All rows of one optimiser."""

    def __init__(
        self,
        optimiser: str,
        digits: Digits,
        splits: dict[str, Split],
        config: Config,
        bars: Bars,
        log: Log,
    ) -> None:
        self.optimiser, self.digits, self.splits = optimiser, digits, splits
        self.config, self.bars, self.log = config, bars, log
        self.curves = Curves(digits, optimiser, config)
        self.rates = RATES[optimiser]
        key = jax.random.fold_in(jax.random.key(config.seed), MOVE_KEY)
        wide = cast(splits["test"].theta, np.float64)
        away = move(key, digits.network.spec, wide, config.spread)
        self.away = splits["test"]._replace(theta=cast(away, np.float32))

    def all(self) -> dict[str, Any]:
        """Returns what is measured of every row."""
        config = self.config
        known = {
            row: self._tried(row, self._chosen(row, self.rates[0]))
            for row in ("none", "balanced")
        }
        at = config.target // config.every
        ends = {n: np.log(c[..., at]).mean((1, 2)) for n, c in known.items()}
        target = float(np.exp(ends["none"].min()))
        taken = steps_to(known["balanced"], target, config.every).mean((1, 2))
        rate = self.rates[int(taken.argmin())]
        second = step_seconds(self.digits, self.splits["test"], self.optimiser, rate)
        self.log.write("target", optimiser=self.optimiser, loss=target, map_rate=rate)
        rows: dict[str, Any] = {}
        steps: dict[str, np.ndarray] = {}
        for row in config.rows:
            if row in LEARNED:
                chosen, tried, about = self._learned(row, rate)
            elif row in known:
                chosen, tried, about = self._chosen(row, rate), known[row], {}
            else:
                chosen, tried, about = self._best_climb(row, rate, target)
            with self.bars.work(f"{self.optimiser}, {row}: test", "test"):
                rows[row], steps[row] = self._tested(chosen, tried, target)
            cost = chosen.seconds(self.splits["test"]) / second
            rows[row] |= about | {"cost": cost if row != "none" else 0.0}
            self.log.write("tested", optimiser=self.optimiser, row=row, **rows[row])
        _compare(rows, steps)
        return {
            "target": target,
            "map_rate": rate,
            "step_seconds": second,
            "rates": self.rates,
            "rows": rows,
        }

    def _learned(
        self, row: str, rate: float
    ) -> tuple[Chosen, np.ndarray, dict[str, Any]]:
        """What a trained row chooses, and what `_tried` and its training say of it."""
        config, place = self.config, _place(self.config)
        map_ = make_map(row, self.optimiser, rate, self.digits, config)
        out = config.out / "ckpt" / place / f"{self.optimiser}-{row}"
        with self.bars.work(f"{self.optimiser}, {row}", "row") as piece:
            params, about = train_row(
                map_, row, self.splits, config, out, piece.advance
            )
        self.log.write("trained", optimiser=self.optimiser, row=row, **about)
        chosen = Chosen(map_, params, config)
        about |= {"params": num_params(params)}
        return chosen, self._tried(row, chosen), about

    def _best_climb(
        self, row: str, rate: float, target: float
    ) -> tuple[Chosen, np.ndarray, dict[str, Any]]:
        """The same of an untrained row: the best one on validation networks."""
        every, found = self.config.every, []
        for climb in self.config.climbs if row in DOWN else (None,):
            chosen = self._chosen(row, rate, climb)
            tried = self._tried(row, chosen)
            steps = steps_to(tried, target, every).mean((1, 2)).min()
            about = {} if climb is None else {"climb": climb}
            found.append((steps, chosen, tried, about))
        return min(found, key=lambda one: one[0])[1:]

    def _chosen(self, row: str, rate: float, climb: float | None = None) -> Chosen:
        """What a row chooses that is not trained."""
        config = self.config
        map_ = make_map(row, self.optimiser, rate, self.digits, config, climb)
        return Chosen(map_, starts(map_.init, config.seed, config.seeds), config)

    def _tried(self, row: str, chosen: Chosen) -> np.ndarray:
        """Loss curves on validation networks at every rate, `[R, B, S, T]`."""
        split = self.splits["val"]
        with self.bars.work(f"{self.optimiser}, {row}: rates", "rates"):
            thetas = chosen.thetas(split)
            return np.stack(
                [self.curves(thetas, "val", split.task, rate) for rate in self.rates]
            )

    def _tested(
        self, chosen: Chosen, tried: np.ndarray, target: float
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Of test networks, at the rate that is best on validation networks."""
        config, test = self.config, self.splits["test"]
        by_rate = steps_to(tried, target, config.every).mean((1, 2))
        rate = self.rates[int(by_rate.argmin())]

        def measured(split: Split) -> tuple[np.ndarray, np.ndarray]:
            curves = self.curves(chosen.thetas(split), "test", split.task, rate)
            return curves, steps_to(curves, target, config.every)

        curves, steps = measured(test)
        moved = measured(self.away)[1]
        found = {
            "rate": rate,
            "by_rate": by_rate.tolist(),
            "steps": steps.mean(),
            "by_seed": steps.mean(0).tolist(),
            "over_networks": steps.mean(1).std(),
            "reached": (curves.min(-1) <= target).mean(),
            "moved": moved.mean(),
            "curve": np.exp(np.log(curves).mean((0, 1))).tolist(),
        }
        return found, steps


def _place(config: Config) -> str:
    """Returns the folder of the checkpoints of a run, by its fingerprint."""
    return made("teleport", "", "", config, PLACES)["fingerprint"]


def _compare(rows: dict[str, Any], steps: dict[str, np.ndarray]) -> None:
    """Adds to every row how many steps fewer than baselines it takes, by network."""
    for row, own in steps.items():
        rows[row]["fewer"] = {}
        for base in (name for name in BASELINES if name in steps and name != row):
            fewer = (steps[base] - own).mean(1)
            error = fewer.std() / max(len(fewer) - 1, 1) ** 0.5
            rows[row]["fewer"][base] = [fewer.mean(), error]
