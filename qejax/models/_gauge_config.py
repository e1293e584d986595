"""What a `Gauge` is made of, and what it refuses to be made of."""

from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp
from jax.typing import DTypeLike

from qejax import gauges

Kind = Literal["gauge", "strict"]
"""Whether the map may choose a point of the orbit, or only move on from the given."""


@dataclass(frozen=True)
class GaugeConfig:
    """Choices of `Gauge`; hashable.

    Attributes:
        start: rules that lead to the point from which the map moves on, names of
            `qejax.gauges.RULES`.
        sweeps: of those rules.
        rounds: how often it looks at where it is and moves on; one set of parameters.
        hidden: width of its dense layers.
        rank: of the generators of matrices that it makes of features.
        rate: how far a number moves in one round along the gradient of a loss, at
            first; the map learns when, where and how far.
        order: whether units are also put in an order of their own, by assignment to
            learned places; of the kind "gauge" alone. No gradient tells these places.
        precision: of the parameters; elements are of the dtype of the weights.
    """

    start: tuple[str, ...] = ("cleared", "balanced", "principal", "hadamard")
    sweeps: int = 10
    rounds: int = 3
    hidden: int = 32
    rank: int = 4
    rate: float = 0.05
    order: bool = False
    precision: Literal["float32", "float64"] = "float32"

    @property
    def param_dtype(self) -> DTypeLike:
        """Of the parameters."""
        return jnp.dtype(self.precision)


def check(kind: str, config: GaugeConfig) -> None:
    if kind not in get_args(Kind):
        raise ValueError(
            f"Gauge(kind=...): expected one of {list(get_args(Kind))}, got {kind!r}."
        )
    for name in ("sweeps", "rounds", "hidden", "rank", "rate"):
        if getattr(config, name) <= 0:
            raise ValueError(
                f"GaugeConfig({name}=...): expected a number above 0, got "
                f"{getattr(config, name)}."
            )
    if kind == "strict" and config.order:
        raise ValueError(
            "Gauge(kind='strict') keeps the order in which units come, got a config "
            "with order=True. Use kind='gauge', which chooses one."
        )
    if config.precision not in ("float32", "float64"):
        raise ValueError(
            f"GaugeConfig(precision=...): expected 'float32' or 'float64', got "
            f"{config.precision!r}."
        )
    unknown = [name for name in config.start if name not in gauges.RULES]
    if unknown:
        raise ValueError(
            f"GaugeConfig(start=...): expected some of {list(gauges.RULES)}, got "
            f"{unknown[0]!r}."
        )
