"""Everything about a run that changes while it goes on."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from qejax._devices import fetch, spread
from qejax._processes import agree, gather_json, peers
from qejax.train._checkpoint import Checkpointer
from qejax.train._config import FitConfig
from qejax.train._log import Log, Row
from qejax.train._mesh import state_shardings
from qejax.train._progress import Clock, Progress
from qejax.train._selection import Evaluate, Metrics, Selection, call_evaluate
from qejax.train._signals import Interrupted, StopRequest
from qejax.train._step import Advance, Batch, Params, State, empty_window, own


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a finished run leaves.

    Attributes:
        params: the parameters at the best evaluation, or the last ones without
            `select`; averaged ones if there is an average.
        last_params: the same kind of parameters after the last step.
        step: steps done.
        best_step: the step of the best evaluation.
        best_metrics: all metrics there.
        history: the rows of the log: "step", "train", "eval", "seconds".
        ended: "steps" if all steps were done, "patience" after early stopping.
        resumed_from: the step this process went on from, None if it began.
        compile_seconds: of the training program in this process, 0 if not needed.
        step_seconds: mean seconds of a step in this process, or None.
        seconds: of the whole run, interruptions left out.
    """

    params: Params
    last_params: Params
    step: int
    best_step: int
    best_metrics: Metrics
    history: list[Row]
    ended: Literal["steps", "patience"]
    resumed_from: int | None
    compile_seconds: float
    step_seconds: float | None
    seconds: float


class Run:
    """The state, the best so far, the log and the clock of one run.

    Between two dispatches it can be saved, and another process can go on from there.
    """

    def __init__(
        self,
        config: FitConfig,
        evaluate: Evaluate | None,
        state: State,
        store: Checkpointer | None,
        out: Path | None,
        progress: Callable[[Progress], None] | None,
        save_seconds: float,
        mesh: Mesh | None = None,
        place: Any = None,
    ) -> None:
        """Goes on from the newest checkpoint, or begins.

        A `place`, such as a stream, has `get_state` and `set_state`: what it returns is
        saved with the state. On a `mesh` the state lies as `state_shardings` says.
        """
        self._place, self._mesh = place, mesh
        self.config, self.state = config, self._put(state)
        self._evaluate, self._store, self._out = evaluate, store, out
        self._progress, self._save_seconds = progress, save_seconds
        self.compile_seconds = 0.0
        self.step, self.resumed_from = 0, None
        self.ended: Literal["steps", "patience"] | None = None
        self.selection = Selection(params=own(self.shown_params()))
        self.clock = Clock()
        found = store and store.restore(
            {"state": state, "best": {"params": self.selection.params}}
        )
        if found:
            meta = found.metadata
            self.state = self._put(own(found.trees["state"]))
            self.step = self.resumed_from = found.step
            self.ended = meta["ended"]
            best = self._put(own(found.trees["best"]["params"]))
            self.selection = Selection.from_json(best, meta["selection"])
            self.clock = Clock(meta["seconds"])
            if place is not None:
                place.set_state(_own_place(meta["places"]))
        self._saved_at, self._saved = time.perf_counter(), self.step
        log = out / "log.jsonl" if out is not None else None
        self.log = Log(log, self.resumed_from)

    def _put(self, tree: Any) -> Any:
        """Returns a tree where it should lie; nothing moves that is there."""
        if self._mesh is None:
            return tree
        return spread(tree, state_shardings(self._mesh, tree))

    def shown_params(self) -> Params:
        """Returns the parameters that are evaluated: the average if there is one."""
        state = self.state
        return state["params"] if state["ema"] is None else state["ema"]

    def dispatch(self, program: Advance, data: Batch, until: int) -> None:
        """Runs the program to step `until`, and waits for it."""
        begin, compiled = time.perf_counter(), self.compile_seconds
        with peers():
            self.state = program(self.state, data, np.int32(until))
            done, finite = fetch((self.state["step"], self.state["finite"]))
        seconds = time.perf_counter() - begin - (self.compile_seconds - compiled)
        self.clock.add_steps(int(done) - self.step, seconds)
        self.step = int(done)
        if not finite:
            raise FloatingPointError(
                f"fit: expected a finite training loss, got nan or infinity in step "
                f"{self.step} of {self.config.steps}. Use a smaller learning rate, "
                f"clip gradients, or look for non-finite examples; jax.debug_nans "
                f"names the operation."
            )
        self._report()

    def evaluate(self) -> None:
        """Evaluates, logs, selects, and decides whether the run has ended."""
        params, config = self.shown_params(), self.config
        begin = time.perf_counter()
        # What the first process measured counts: all have to go on, or to end, alike.
        with peers():
            mine = call_evaluate(self._evaluate, params, config.select)
        metrics = gather_json(mine)[0]
        self.clock.add_evaluation(time.perf_counter() - begin)
        self.log.append(
            {
                "step": self.step,
                "train": self._window_means(),
                "eval": metrics,
                "seconds": self.clock.seconds(),
            }
        )
        self.state = self._put(empty_window(self.state))
        # A copy: the state's own buffers are donated to the next dispatch.
        best = self.selection.update(config, self.step, params, metrics)
        if best:
            self.selection.params = own(params)
        if self.step == config.steps:
            self.ended = "steps"
        elif self.selection.exhausted(config):
            self.ended = "patience"
        self._report()

    def agreed(self, until: int, stop: StopRequest | None) -> tuple[int, bool, bool]:
        """Returns the next dispatch, whether to save before, and whether to stop.

        What the first process says about time, and what any says about a signal.
        """
        due = time.perf_counter() - self._saved_at >= self._save_seconds
        told = agree(until, due and self.step > self._saved, bool(stop))
        return int(told[0, 0]), bool(told[0, 1]), bool(told[:, 2].any())

    def save(self) -> None:
        """Begins to save everything that a later process needs."""
        if self._store is None:
            return
        self._store.save(
            self.step,
            {"state": self.state, "best": {"params": self.selection.params}},
            {
                "selection": self.selection.to_json(),
                "ended": self.ended,
                "seconds": self.clock.seconds(),
                "places": _places(self._place),
            },
        )
        self._saved_at, self._saved = time.perf_counter(), self.step

    def save_and_wait(self) -> None:
        """Saves; returns when everything is on disk."""
        self.save()
        if self._store is not None:
            self._store.wait()

    def obey(self, stop: StopRequest | None) -> None:
        """Leaves if a signal has come to any process."""
        if self.agreed(self.step, stop)[2]:
            self.leave(stop)

    def leave(self, stop: StopRequest | None) -> None:
        """Saves and raises `Interrupted`."""
        assert self._store is not None
        self.save_and_wait()
        name = stop.name if stop else "a signal to another process"
        raise Interrupted(
            f"Stopped by {name} after step {self.step} of {self.config.steps}; "
            f"the state is saved in {self._store.directory}. Run the same command "
            f"again to go on from there.",
            stop.name if stop and stop.name else "SIGTERM",
        )

    def result(self) -> FitResult:
        """Returns the result of a run that has ended."""
        assert self.ended is not None
        if self.selection.step is None:
            raise FloatingPointError(
                f"fit: expected a finite metric {self.config.select!r} in at least one "
                f"evaluation, got none in {len(self.log.rows)}. Look at the "
                f"predictions: a constant has no rank correlation."
            )
        return FitResult(
            params=self.selection.params,
            last_params=self.shown_params(),
            step=self.step,
            best_step=self.selection.step,
            best_metrics=self.selection.metrics,
            history=self.log.rows,
            ended=self.ended,
            resumed_from=self.resumed_from,
            compile_seconds=self.compile_seconds,
            step_seconds=self.clock.step_seconds(),
            seconds=self.clock.seconds(),
        )

    def _window_means(self) -> dict[str, float] | None:
        window = fetch(self.state["window"])
        count = int(window["count"])
        if count == 0:
            return None
        sums = {"loss": window["loss"], **window["aux"]}
        return {name: float(value) / count for name, value in sums.items()}

    def _report(self) -> None:
        if self._progress is None:
            return
        config, rows = self.config, self.log.rows
        means = self._window_means() or (rows[-1]["train"] if rows else None)
        self._progress(
            Progress(
                step=self.step,
                steps=config.steps,
                loss=means["loss"] if means else None,
                metrics=rows[-1]["eval"] if rows else {},
                step_seconds=self.clock.step_seconds(),
                seconds_left=self.clock.seconds_left(
                    self.step, config.steps, config.eval_every
                ),
            )
        )


def _places(place: Any) -> list[Any]:
    """Returns where the streams of all processes are; one if all say the same."""
    found = gather_json(place and place.get_state())
    return found[:1] if all(one == found[0] for one in found) else found


def _own_place(places: list[Any]) -> Any:
    """Returns where the stream of this process goes on.

    Raises:
        ValueError: if there were other processes, each with a place of its own.
    """
    if len(places) not in (1, jax.process_count()):
        raise ValueError(
            f"fit_stream: expected as many processes as before, {len(places)}, each "
            f"with a place of its own in its stream, got {jax.process_count()}. Go on "
            f"with {len(places)}, or begin again in another directory."
        )
    return places[jax.process_index() if len(places) > 1 else 0]
