"""What a convolutional network with skips of any kind is, as data."""

from dataclasses import dataclass
from typing import Any, ClassVar

from qejax.nets._activations import activation as find_activation
from qejax.nets._config import NetConfig, per_layer, sizes, tuples


@dataclass(frozen=True)
class SkipCNNConfig(NetConfig):
    """Convolutions, each with what it reads besides, then an average and a dense layer.

    Layer `i` computes `sigma_i(conv_i(x) + skip)`; the skip is the output of an earlier
    layer, channel by channel as far as both have them, and nothing beyond.

    Attributes:
        channels: of the images, then of each layer; at least one layer.
        windows: sides of the square kernels, for all layers or each.
        strides: for all layers or each.
        padding: zeros at each side of a map, for all layers or each; `None` for half a
            window, rounded down.
        residual: number of the earlier layer whose output is added before the
            activation, -1 for none; for all layers or each.
        activation: for all layers or each.
        num_outputs: of the dense layer.

    Raises:
        ValueError: at construction; names the field, what was expected and found.
    """

    kind: ClassVar[str] = "skip_cnn"
    channels: tuple[int, ...]
    windows: int | tuple[int, ...] = 3
    strides: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] | None = None
    residual: int | tuple[int, ...] = -1
    activation: str | tuple[str, ...] = "relu"
    num_outputs: int = 10

    def __post_init__(self) -> None:
        """Fills in one entry a layer, and checks."""
        channels = sizes("skip_cnn channels", self.channels)
        if len(channels) < 2:
            raise ValueError(
                f"skip_cnn channels: expected those of the images and of at least one "
                f"layer, got {list(channels)}."
            )
        (outputs,) = sizes("skip_cnn num_outputs", (self.num_outputs,))
        count = len(channels) - 1

        def filled(name: str, value: Any, least: int) -> tuple[int, ...]:
            what = f"skip_cnn {name}"
            return sizes(what, per_layer(value, count, what), least)

        windows = filled("windows", self.windows, 1)
        half = tuple(side // 2 for side in windows)
        padding = half if self.padding is None else self.padding
        names = per_layer(self.activation, count, "skip_cnn activation")
        for name in names:
            find_activation(name)
        residual = filled("residual", self.residual, -1)
        for number, source in enumerate(residual):
            if source >= number:
                raise ValueError(
                    f"skip_cnn residual: layer {number} can add what an earlier layer "
                    f"wrote, or -1 for nothing, got {source}."
                )
        values: dict[str, Any] = {
            "channels": channels,
            "windows": windows,
            "strides": filled("strides", self.strides, 1),
            "padding": filled("padding", tuples(padding), 0),
            "residual": residual,
            "activation": names,
            "num_outputs": outputs,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
