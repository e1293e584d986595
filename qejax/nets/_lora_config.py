"""Low-rank adapters of an unknown network, as data; see `_lora.py`."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from qejax.nets._config import NetConfig, per_layer, sizes, tuples


@dataclass(frozen=True)
class LoraConfig(NetConfig):
    """Adapters alone, of modules that are known by name and width only.

    Attributes:
        modules: `(name, inputs, outputs, rank)` of each.
        scale: what the products are multiplied by, one for all or one for each; kept
            as one for each.

    Raises:
        ValueError: at construction; names the module, what was expected and found.
    """

    kind: ClassVar[str] = "lora"
    modules: tuple[tuple[str, int, int, int], ...]
    scale: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        """Checks, and fills in one scale a module."""
        rows: Any = tuples(self.modules)
        names = [row[0] if isinstance(row, tuple) and row else None for row in rows]
        good = [isinstance(name, str) and name and "/" not in name for name in names]
        if not rows or not all(good) or len(set(names)) != len(names):
            raise ValueError(
                f"lora modules: expected (name, inputs, outputs, rank) of at least one "
                f"module, different names without a slash, got {str(rows)[:200]}."
            )
        modules = tuple((row[0], *_sizes(row)) for row in rows)
        scales = per_layer(self.scale, len(modules), "lora scale")
        for scale in scales:
            if not isinstance(scale, int | float) or not 0 < abs(scale) < math.inf:
                raise ValueError(
                    f"lora scale: expected numbers that are not zero, got {scale!r}."
                )
        object.__setattr__(self, "modules", modules)
        object.__setattr__(self, "scale", tuple(float(scale) for scale in scales))

    @property
    def scales(self) -> tuple[float, ...]:
        """What the products are multiplied by, one for each module."""
        assert isinstance(self.scale, tuple)
        return self.scale


def _sizes(row: tuple[Any, ...]) -> tuple[int, ...]:
    found = sizes(f"lora module {row[0]!r}", row[1:])
    if len(found) != 3 or found[2] > min(found[:2]):
        raise ValueError(
            f"lora module {row[0]!r}: expected inputs, outputs and a rank that is at "
            f"most both, got {found}."
        )
    return found
