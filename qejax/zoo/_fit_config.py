"""How coordinate networks are fitted to signals, as data."""

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from qejax.nets import CoordinateConfig


class Convention(NamedTuple):
    """How a signal in [0, 1] becomes the values that a network is fitted to.

    Attributes:
        low: value of a signal that is 0.
        high: value of a signal that is 1.
        offset: that the network adds to its output.
        biases: of the network at the start.
    """

    low: float
    high: float
    offset: float
    biases: str


CONVENTIONS: dict[str, Convention] = {
    "signed": Convention(-1.0, 1.0, 0.0, "uniform"),
    "unit": Convention(0.0, 1.0, 0.5, "zeros"),
}
"""Those of the literature: Zhou et al. 2023, arXiv:2302.14040, fit values in [-1, 1],
Navon et al. 2023, arXiv:2301.12780, values in [0, 1] around an offset of 0.5."""


@dataclass(frozen=True)
class FitConfig:
    """Fits of one architecture to signals.

    Attributes:
        shape: of a signal on its grid, `(28, 28)` for images, `(n,)` for sounds.
        channels: of a signal, 1 for grey, 3 for RGB.
        convention: a key of `CONVENTIONS`.
        hidden: widths of the hidden layers.
        activation: for all hidden layers, or one for each.
        octaves: of the encoding of coordinates.
        copies: fits of every signal, from starts of their own.
        learning_rate: of Adam.
        max_steps: after which a fit is given up.
        psnr: at which a fit stops, dB of a signal in [0, 1].
        check: steps between two measurements of it.
        sample: coordinates in a step, drawn anew; 0 for all.
        together: fits in one loop of steps, which ends when the last of them does.
        chunk: fits in one program and one file; a multiple of `together`.
        seed: of starts and coordinates.

    Raises:
        ValueError: at construction; names the field, what was expected and found.
    """

    shape: tuple[int, ...]
    channels: int = 1
    convention: str = "signed"
    hidden: tuple[int, ...] = (32, 32)
    activation: str | tuple[str, ...] = "sine(30)"
    octaves: int = 0
    copies: int = 1
    learning_rate: float = 1e-3
    max_steps: int = 1000
    psnr: float = 40.0
    check: int = 20
    sample: int = 0
    together: int = 4
    chunk: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Turns lists into tuples, and checks."""
        for name in ("shape", "hidden"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.convention not in CONVENTIONS:
            raise ValueError(
                f"fit config convention: expected one of {list(CONVENTIONS)}, got "
                f"{self.convention!r}."
            )
        least = {"copies": 1, "max_steps": 0, "check": 1, "sample": 0, "together": 1}
        for name, low in (*least.items(), ("chunk", 1), ("seed", 0)):
            got = getattr(self, name)
            if not isinstance(got, int) or isinstance(got, bool) or got < low:
                raise ValueError(
                    f"fit config {name}: expected an integer of at least {low}, got "
                    f"{got!r}."
                )
        if self.chunk % self.together:
            raise ValueError(
                f"fit config chunk: expected a multiple of together = {self.together}, "
                f"got {self.chunk}."
            )
        for name in ("learning_rate", "psnr"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"fit config {name}: expected more than 0, got "
                    f"{getattr(self, name)}."
                )
        self.network()

    def network(self) -> CoordinateConfig:
        """Returns the architecture.

        Raises:
            ValueError: as `CoordinateConfig`.
        """
        rules = CONVENTIONS[self.convention]
        return CoordinateConfig(
            (len(self.shape), *self.hidden, self.channels),
            self.activation,
            octaves=self.octaves,
            offset=rules.offset,
            biases=rules.biases,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        return json.loads(json.dumps(asdict(self)))
