"""Coordinate networks as data; see `_coordinate.py`."""

from dataclasses import dataclass
from typing import ClassVar

from qejax.nets._config import MLPConfig, NetConfig, check_choice, sizes

BIASES = ("uniform", "zeros")


@dataclass(frozen=True)
class CoordinateConfig(NetConfig):
    """A multilayer perceptron from coordinates to the values of a signal.

    Attributes:
        widths: `(n_0, ..., n_L)`: coordinates, hidden layers, values.
        activation: a name for all hidden layers, or one for each; kept as one for
            each.
        octaves: `k` for the encoding `x, sin(pi 2^i x), cos(pi 2^i x)` with `i < k` of
            every coordinate; 0 for coordinates alone.
        offset: added to the values.
        biases: at the start, "uniform" in `+-1 / sqrt(fan_in)` or "zeros".

    Raises:
        ValueError: at construction, as `MLPConfig`; for a negative number of octaves
            or unknown biases.
    """

    kind: ClassVar[str] = "coordinate"
    widths: tuple[int, ...]
    activation: str | tuple[str, ...] = "sine(30)"
    octaves: int = 0
    offset: float = 0.0
    biases: str = "uniform"

    def __post_init__(self) -> None:
        """Fills in one activation a layer, and checks."""
        plain = MLPConfig(self.widths, self.activation)
        (octaves,) = sizes("coordinate octaves", (self.octaves,), least=0)
        check_choice("coordinate biases", self.biases, BIASES)
        object.__setattr__(self, "widths", plain.widths)
        object.__setattr__(self, "activation", plain.activation)
        object.__setattr__(self, "octaves", octaves)
        object.__setattr__(self, "offset", float(self.offset))

    @property
    def features(self) -> int:
        """Numbers that the first layer reads."""
        return self.widths[0] * (1 + 2 * self.octaves)
