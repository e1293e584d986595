"""How far a run is and how long it will take, without the cost of compiling."""

import dataclasses
import math
import time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """What `fit` tells its progress callback after every dispatch.

    Attributes:
        step: steps done, counted over all interruptions.
        steps: steps in all; early stopping may end before.
        loss: mean training loss since the last evaluation; None at step 0.
        metrics: of the last evaluation; empty before the first.
        step_seconds: mean seconds of a step in this process, compilation excluded;
            None before the first step.
        seconds_left: expected seconds for the remaining steps and evaluations,
            compilation excluded; None before the first step.
    """

    step: int
    steps: int
    loss: float | None
    metrics: dict[str, float | None]
    step_seconds: float | None
    seconds_left: float | None


class Clock:
    """Times dispatches and evaluations of one process, and looks ahead.

    The first evaluation of a process compiles the caller's function, so it counts
    only until a second one is there.
    """

    def __init__(self, seconds_before: float = 0.0) -> None:
        self._start = time.perf_counter() - seconds_before
        self._step_seconds = 0.0
        self._steps = 0
        self._evaluations: list[float] = []

    def seconds(self) -> float:
        """Returns the seconds since the run began, interruptions left out."""
        return time.perf_counter() - self._start

    def add_steps(self, steps: int, seconds: float) -> None:
        """Notes a dispatch that was blocked on."""
        self._steps += steps
        self._step_seconds += seconds

    def add_evaluation(self, seconds: float) -> None:
        """Notes an evaluation."""
        self._evaluations.append(seconds)

    def step_seconds(self) -> float | None:
        """Returns the mean seconds of a step, or None before the first."""
        return self._step_seconds / self._steps if self._steps else None

    def dispatch_steps(self, target_seconds: float) -> int:
        """Returns how many steps take about `target_seconds`; 1 before the first."""
        mean = self.step_seconds()
        return max(1, int(target_seconds / mean)) if mean else 1

    def seconds_left(self, step: int, steps: int, eval_every: int) -> float | None:
        """Returns the expected seconds to the last evaluation, or None if unknown."""
        mean = self.step_seconds()
        if mean is None:
            return None
        evaluations = math.ceil(steps / eval_every) - step // eval_every
        warm = self._evaluations[1:] or self._evaluations
        each = sum(warm) / len(warm) if warm else 0.0
        return (steps - step) * mean + (evaluations if step < steps else 0) * each
