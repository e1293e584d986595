"""What a network with low-rank adapters is, as data."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from qejax.nets._config import NetConfig, sizes, tuples


@dataclass(frozen=True)
class AdaptedConfig(NetConfig):
    """A network whose linear maps have adapters, and whose own weights train as well.

    Attributes:
        base: the network that is adapted, one without adapters.
        rank: of every adapter, `r`.
        targets: layers with an adapter: their paths, or the ends of their paths
            ("query" in every block); `None` for every layer with a kernel.
        alpha: adapters are multiplied by `alpha / r`; `None` for `r`, a factor of one.

    Raises:
        ValueError: at construction; names the field, what was expected and found.
    """

    kind: ClassVar[str] = "adapted"
    base: NetConfig
    rank: int
    targets: tuple[str, ...] | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        """Checks, and fills in the factor."""
        if not isinstance(self.base, NetConfig) or isinstance(self.base, AdaptedConfig):
            raise ValueError(
                f"adapter base: expected the configuration of a network without "
                f"adapters, got {self.base!r}."
            )
        (rank,) = sizes("adapter rank", (self.rank,))
        targets = self.targets
        if targets is not None:
            targets = (targets,) if isinstance(targets, str) else tuples(targets)
            if not targets or not all(isinstance(name, str) for name in targets):
                raise ValueError(
                    f"adapter targets: expected names of layers, at least one, got "
                    f"{self.targets!r}. Leave them out for every layer with a kernel."
                )
        alpha = rank if self.alpha is None else self.alpha
        if not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
            raise ValueError(
                f"adapter alpha: expected a positive number, got {alpha!r}."
            )
        filled = {"rank": rank, "targets": targets, "alpha": float(alpha)}
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    @property
    def scale(self) -> float:
        """What adapters are multiplied by, `alpha / r`."""
        assert self.alpha is not None
        return self.alpha / self.rank

    def to_dict(self) -> dict[str, Any]:
        """Returns the kind and the fields, `base` as a dict of its own kind."""
        return super().to_dict() | {"base": self.base.to_dict()}


@dataclass(frozen=True)
class AdapterConfig(AdaptedConfig):
    """Adapters alone, of a network whose own weights are fixed.

    Attributes:
        base_sha256: digest of the weights that are adapted, 64 hexadecimal digits; the
            weights themselves are no part of a configuration.

    Raises:
        ValueError: at construction; names the field, what was expected and found.
    """

    kind: ClassVar[str] = "adapter"
    base_sha256: str = ""

    def __post_init__(self) -> None:
        """Checks."""
        super().__post_init__()
        digest = self.base_sha256
        if not (
            isinstance(digest, str)
            and len(digest) == 64
            and set(digest) <= set("0123456789abcdef")
        ):
            raise ValueError(
                f"adapter base_sha256: expected 64 hexadecimal digits, got {digest!r}. "
                f"nets.adapter(net, base, ...) computes them."
            )
