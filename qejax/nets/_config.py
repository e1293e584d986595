"""What an input network is, as data: hashable, and the same after a trip to JSON.

A new kind of network is a new frozen dataclass here and a new row in `_build.py`.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from qejax.nets._activations import activation as find_activation

HEADS = ("gap", "flatten")
PADDINGS = ("VALID", "SAME")


def tuples(value: Any) -> Any:
    """Returns lists, arrays and other sequences, at any depth, as tuples."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return tuple(tuples(entry) for entry in value)
    return value


def per_layer(value: Any, count: int, what: str) -> tuple[Any, ...]:
    """Returns one entry a layer from one for all, or from a sequence of them.

    Args:
        value: a sequence of `count` entries, or one entry for every layer.
        count: number of layers.
        what: the field, for the message.

    Raises:
        ValueError: if a sequence has another length.
    """
    value = tuples(value)
    if not isinstance(value, tuple):
        return (value,) * count
    if len(value) != count:
        raise ValueError(
            f"{what}: expected one entry for all or one for each of {count} layers, "
            f"got {len(value)}: {list(value)}."
        )
    return value


def sizes(what: str, values: Any, least: int = 1) -> tuple[int, ...]:
    """Sizes as integers of Python, from integers of any kind; a truth value is none.

    Raises:
        ValueError: if `values` are not integers of at least `least`; names `what`.
    """
    values = tuples(values)
    found = [_integer(s) for s in values] if isinstance(values, tuple) else [None]
    good = tuple(size for size in found if size is not None and size >= least)
    if len(good) != len(found):
        raise ValueError(
            f"{what}: sizes should be integers of at least {least}, got {values!r}."
        )
    return good


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def check_choice(what: str, value: Any, choices: Sequence[str]) -> None:
    """Raises a `ValueError` that names `what` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{what}: expected one of {list(choices)}, got {value!r}.")


@dataclass(frozen=True)
class NetConfig:
    """The base of all configurations: a kind, and a trip to a dict and back.

    Attributes:
        kind: how `build` finds the network; written by `to_dict`.
    """

    kind: ClassVar[str] = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the kind and the fields, of JSON types and tuples only."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class MLPConfig(NetConfig):
    """Dense layers.

    Attributes:
        widths: `(n_0, ..., n_L)`, inputs and outputs included.
        activation: a name for all hidden layers, or one for each of `L - 1`; kept as
            one for each.
        residual: whether a hidden layer as wide as the hidden layer before it adds
            it: `sigma(x + dense(x))`.

    Raises:
        ValueError: at construction, for fewer than two widths, a width below 1, a
            wrong number of activations or an unknown one.
    """

    kind: ClassVar[str] = "mlp"
    widths: tuple[int, ...]
    activation: str | tuple[str, ...] = "relu"
    residual: bool = False

    def __post_init__(self) -> None:
        """Fills in one entry a layer, and checks."""
        widths = sizes("mlp widths", self.widths)
        if len(widths) < 2:
            raise ValueError(
                f"mlp widths: expected at least inputs and outputs, got {list(widths)}."
            )
        names = per_layer(self.activation, len(widths) - 2, "mlp activation")
        for name in names:
            find_activation(name)
        object.__setattr__(self, "widths", widths)
        object.__setattr__(self, "activation", names)


@dataclass(frozen=True)
class CNNConfig(NetConfig):
    """Convolutions, stage by stage, then a head and dense layers.

    Stage `l` is a convolution, a max pooling and an activation, then `blocks[l]`
    residual blocks `sigma(x + conv(sigma(conv(x))))` of the same channels, window and
    activation, stride 1 and padding SAME.

    Attributes:
        in_channels: channels of the images.
        channels: of each stage; at least one stage.
        windows: sides of the kernels, `(k, k)` or `k` for both; one for all stages or
            one for each.
        strides: likewise, of the first convolution of a stage.
        padding: "VALID" or "SAME", for all stages or each.
        activation: for all stages and hidden layers, or for each, stages first.
        blocks: number of residual blocks, for all stages or each.
        head: "gap" averages over positions, "flatten" keeps them.
        image: height and width of the images; "flatten" needs them.
        num_outputs: of the last dense layer.
        pools: sides of the windows, and strides, of max poolings between the stages'
            first convolutions and their activations; 1 pools nothing.
        hidden: widths of the dense layers between the head and the last one.

    Raises:
        ValueError: at construction; names the field, what was expected and found.
    """

    kind: ClassVar[str] = "cnn"
    in_channels: int
    channels: tuple[int, ...]
    windows: Any = 3
    strides: Any = 1
    padding: str | tuple[str, ...] = "VALID"
    activation: str | tuple[str, ...] = "relu"
    blocks: int | tuple[int, ...] = 0
    head: str = "gap"
    image: tuple[int, int] | None = None
    num_outputs: int = 10
    pools: int | tuple[int, ...] = 1
    hidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Fills in one entry a stage, and checks."""
        channels = sizes("cnn channels", self.channels)
        if not channels:
            raise ValueError("cnn channels: expected at least one stage, got none.")
        ends = sizes(
            "cnn in_channels, num_outputs", (self.in_channels, self.num_outputs)
        )
        stages = len(channels)
        filled: dict[str, Any] = {
            name: per_layer(getattr(self, name), stages, f"cnn {name}")
            for name in ("windows", "strides", "padding", "blocks", "pools")
        }
        hidden = sizes("cnn hidden", self.hidden)
        filled["activation"] = per_layer(
            self.activation, stages + len(hidden), "cnn activation"
        )
        for name in ("windows", "strides"):
            sides = (per_layer(v, 2, f"cnn {name}") for v in filled[name])
            filled[name] = tuple(sizes(f"cnn {name}", pair) for pair in sides)
        for padding in filled["padding"]:
            check_choice("cnn padding", padding, PADDINGS)
        for name in filled["activation"]:
            find_activation(name)
        filled["blocks"] = sizes("cnn blocks", filled["blocks"], least=0)
        filled["pools"] = sizes("cnn pools", filled["pools"])
        check_choice("cnn head", self.head, HEADS)
        filled |= {
            "in_channels": ends[0],
            "channels": channels,
            "image": self._checked_image(),
            "num_outputs": ends[1],
            "hidden": hidden,
        }
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Returns the kind and the fields, pools and hidden layers where there are."""
        values = super().to_dict()
        # Zoos that were stored before these fields were there keep their manifests.
        if set(values["pools"]) == {1}:
            del values["pools"]
        if not values["hidden"]:
            del values["hidden"]
        return values

    def _checked_image(self) -> tuple[int, ...] | None:
        if self.image is None:
            if self.head == "flatten":
                raise ValueError(
                    "cnn image: head 'flatten' needs the height and width of the "
                    "images, got None. Pass image=(height, width), or head='gap'."
                )
            return None
        image = sizes("cnn image", self.image)
        if len(image) != 2:
            raise ValueError(
                f"cnn image: expected (height, width), got {image}. The channels are "
                f"in_channels."
            )
        return image
