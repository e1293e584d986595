"""Which evaluation was best so far, and whether to go on."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qejax.train._config import FitConfig

Metrics = dict[str, float]

Evaluate = Callable[[Any], Mapping[str, Any]]
"""`params -> metrics`: scalars by name, on validation data that it closes over."""


@dataclasses.dataclass
class Selection:
    """The best evaluation so far; all but `params` goes into the metadata.

    Attributes:
        params: the parameters at the best evaluation.
        step: the step of the best evaluation; None while none was finite.
        value: the selected metric there.
        metrics: all metrics there.
        stale: evaluations since then.
    """

    params: Any
    step: int | None = None
    value: float | None = None
    metrics: Metrics = dataclasses.field(default_factory=dict)
    stale: int = 0

    def update(
        self, config: FitConfig, step: int, params: Any, metrics: Metrics
    ) -> bool:
        """Notes an evaluation; returns whether it is the best so far.

        Without a metric to select by, every evaluation is. A value that is not finite
        never is; of equal values the first is kept.
        """
        value = None if config.select is None else metrics[config.select]
        if value is None or self._improves(value, config.mode):
            self.params, self.step, self.value = params, step, value
            self.metrics, self.stale = metrics, 0
            return True
        self.stale += 1
        return False

    def exhausted(self, config: FitConfig) -> bool:
        """Returns whether patience has run out."""
        return config.patience is not None and self.stale >= config.patience

    def to_json(self) -> dict[str, Any]:
        """Returns all but the parameters, for `from_json`."""
        fields = {"step": self.step, "value": self.value, "stale": self.stale}
        metrics = {k: v if math.isfinite(v) else None for k, v in self.metrics.items()}
        return {**fields, "metrics": metrics}

    @classmethod
    def from_json(cls, params: Any, fields: Mapping[str, Any]) -> "Selection":
        """Returns the selection that `to_json` was called on."""
        metrics = {
            name: math.nan if value is None else value
            for name, value in fields["metrics"].items()
        }
        rest = {name: fields[name] for name in ("step", "value", "stale")}
        return cls(params=params, metrics=metrics, **rest)

    def _improves(self, value: float, mode: str) -> bool:
        if not math.isfinite(value):
            return False
        if self.value is None:
            return True
        return value > self.value if mode == "max" else value < self.value


def check_select(what: str, config: FitConfig, evaluate: Evaluate | None) -> None:
    """Raises unless there is a function that a metric can be selected by.

    Args:
        what: the function that trains, for the message.
        config: of the run.
        evaluate: of the run.

    Raises:
        ValueError: if a metric is to be selected by, and nothing measures one.
    """
    if config.select is not None and evaluate is None:
        raise ValueError(
            f"{what}(evaluate=None): expected a function for select={config.select!r}, "
            f"got none. Pass `evaluate` or select=None."
        )


def call_evaluate(
    evaluate: Evaluate | None, params: Any, select: str | None
) -> Metrics:
    """Returns the metrics of `params` as Python floats.

    Raises:
        ValueError: if a metric is not one number, or the selected one is missing.
    """
    metrics: Metrics = {}
    for name, value in (evaluate(params) if evaluate else {}).items():
        if np.shape(value) != ():
            raise ValueError(
                f"fit(evaluate=...): expected metric {name!r} to be one number, got "
                f"shape {np.shape(value)}. Reduce it first."
            )
        metrics[name] = float(value)
    if select is not None and select not in metrics:
        raise ValueError(
            f"fit(config=...): expected select to name a metric, got {select!r}; "
            f"`evaluate` returns {sorted(metrics)}."
        )
    return metrics
