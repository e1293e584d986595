"""Tiny networks of every kind and every group: a new one is a new row here.

The laws are checked on them, and pairs of them are aligned.
"""

from typing import Any, NamedTuple

from qejax import nets


class Row(NamedTuple):
    """An input network and the shape of one of its inputs, of integers for tokens."""

    net: nets.Network
    inputs: tuple[int, ...]
    vocabulary: int | None = None


MLPS_AND_CNNS: dict[str, Row] = {
    "linear, no hidden layer": Row(nets.mlp((4, 3)), (4,)),
    "one hidden layer": Row(nets.mlp((3, 5, 2)), (3,)),
    "width one": Row(nets.mlp((2, 1, 1, 2), "leaky_relu"), (2,)),
    "unequal widths": Row(nets.mlp((3, 7, 2, 5, 1)), (3,)),
    "equal widths": Row(nets.mlp((4, 4, 4, 4)), (4,)),
    "five hidden layers": Row(nets.mlp((3, 4, 5, 4, 5, 4, 2)), (3,)),
    "tanh": Row(nets.mlp((3, 5, 4, 2), "tanh"), (3,)),
    "gelu": Row(nets.mlp((3, 5, 4, 2), "gelu"), (3,)),
    "gaussian": Row(nets.mlp((3, 5, 4, 2), "gaussian(1)"), (3,)),
    "sine": Row(nets.mlp((3, 5, 4, 2), "sine(2)"), (3,)),
    "sine of high frequency, one hidden layer": Row(
        nets.mlp((2, 6, 1), "sine(30)"), (2,)
    ),
    "sine, then gaussian and relu": Row(
        nets.mlp((3, 4, 5, 4, 2), ("sine(1.5)", "gaussian(2)", "relu")), (3,)
    ),
    "coordinates, relu with octaves": Row(
        nets.coordinate((2, 5, 4, 3), "relu", octaves=2, offset=0.5), (2,)
    ),
    "residual sine": Row(nets.mlp((3, 4, 4, 2), "sine(1)", residual=True), (3,)),
    "cnn, sine, flatten": Row(
        nets.cnn(
            1,
            (3, 2),
            padding="SAME",
            activation="sine(1)",
            head="flatten",
            image=(4, 3),
            num_outputs=2,
        ),
        (4, 3, 1),
    ),
    "relu squared": Row(nets.mlp((3, 5, 4, 2), "relu^2"), (3,)),
    "relu cubed": Row(nets.mlp((3, 4, 4, 2), "relu^3"), (3,)),
    "relu to the tenth": Row(nets.mlp((3, 4, 2), "relu^10"), (3,)),
    "abs, then identity": Row(nets.mlp((3, 5, 4, 2), ("abs", "identity")), (3,)),
    "mixed": Row(
        nets.mlp((3, 4, 5, 4, 3, 2), ("relu", "tanh", "gelu", "relu^2")), (3,)
    ),
    "residual": Row(nets.mlp((3, 5, 5, 5, 2), residual=True), (3,)),
    "residual tanh, then narrow": Row(
        nets.mlp((3, 5, 5, 4, 4, 2), "tanh", residual=True), (3,)
    ),
    "cnn, strided, gap": Row(nets.cnn(1, (3, 4), 3, 2, num_outputs=3), (8, 8, 1)),
    "cnn, same, flatten": Row(
        nets.cnn(
            2, (3, 2), padding="SAME", head="flatten", image=(4, 3), num_outputs=3
        ),
        (4, 3, 2),
    ),
    "cnn, uneven windows and strides, mixed": Row(
        nets.cnn(
            1,
            (3, 2),
            ((3, 2), 1),
            ((2, 1), 1),
            padding=("VALID", "SAME"),
            activation=("relu^3", "tanh"),
            head="flatten",
            image=(7, 6),
            num_outputs=2,
        ),
        (7, 6, 1),
    ),
    "cnn, 5x5": Row(
        nets.cnn(1, (2, 3), 5, 2, padding="SAME", num_outputs=2), (7, 7, 1)
    ),
    "cnn, 1x7 then 4x4": Row(
        nets.cnn(1, (3, 2), ((1, 7), (4, 4)), num_outputs=2), (5, 11, 1)
    ),
    "cnn, strides beyond the window": Row(
        nets.cnn(2, (3, 2), 2, 3, padding=("VALID", "SAME"), num_outputs=2), (9, 8, 2)
    ),
    "cnn, pools, flatten, hidden dense": Row(
        nets.cnn(
            1,
            (3, 2),
            2,
            pools=(2, 1),
            activation=("relu", "tanh", "leaky_relu"),
            head="flatten",
            image=(6, 7),
            hidden=(3,),
            num_outputs=2,
        ),
        (6, 7, 1),
    ),
    "cnn, pooled signs and powers, gap, hidden dense": Row(
        nets.cnn(
            1,
            (3, 2, 2),
            2,
            pools=2,
            padding="SAME",
            activation=("tanh", "relu^2", "gelu_erf", "tanh"),
            hidden=(3,),
            num_outputs=2,
        ),
        (8, 8, 1),
    ),
    "cnn with skips of many widths": Row(
        nets.skip_cnn(
            (1, 2, 3, 2, 4),
            (3, 1, 3, 3),
            residual=(-1, -1, 0, 1),
            activation=("relu", "tanh", "leaky_relu", "tanh"),
            num_outputs=2,
        ),
        (4, 5, 1),
    ),
    "cnn with skips, mixed": Row(
        nets.skip_cnn(
            (1, 4, 2, 2, 4),
            residual=(-1, -1, 0, 2),
            strides=(2, 1, 1, 1),
            activation=("relu^2", "sigmoid", "relu", "gelu_erf"),
            num_outputs=2,
        ),
        (4, 5, 1),
    ),
    "residual cnn": Row(nets.cnn(1, (3, 2), blocks=1, num_outputs=2), (6, 6, 1)),
}
"""Networks whose units permute, scale and flip, one element for each unit space."""


def vision(heads: int = 2, depth: int = 1, width: int = 4, **fields: Any) -> Row:
    """An encoder of images of two patches."""
    image: dict[str, Any] = {"image": (4, 2, 1), "patch": 2, "num_outputs": 2}
    return Row(nets.transformer(width, depth, heads, 3, **image, **fields), (4, 2, 1))


def language(heads: int, **fields: Any) -> Row:
    """A decoder-only model of three tokens out of five."""
    fixed: dict[str, Any] = {"vocabulary": 5, "length": 3}
    usual: dict[str, Any] = {"num_outputs": 5, "causal": True, "pool": "tokens"}
    net = nets.transformer(4, 1, heads, 3, **fixed, **{**usual, **fields})
    return Row(net, (3,), 5)


TRANSFORMERS: dict[str, Row] = {
    # Permutations of the stream, a scale per coordinate behind each norm, biases that
    # shift through a norm's readers, keys' and values' shifts.
    "vit, class token": vision(pool="class"),
    "post-norm": vision(placement="post", activation="relu", position="none"),
    "post-norm, no residual, gated": vision(
        placement="post", residual=False, gated=True, activation="relu"
    ),
    # Any linear map of the stream, and a shift of every bias that it carries.
    "no norm": vision(norm="none", activation="relu", position="none"),
    # Rotations of the stream; values that two queries share, with biases.
    "rms without scale, rotary, grouped": vision(
        4, norm="rms", affine=False, position="rotary", kv_heads=2, head_dim=2
    ),
    # As in the Small Transformer Zoo: rotations that fix the ones-vector.
    "small transformer zoo": vision(
        depth=2,
        affine=False,
        residual=False,
        position="sine",
        activation="relu",
        attention_bias=False,
        head_hidden=3,
    ),
    "language, rotary, grouped, gated": language(
        4,
        norm="rms",
        position="rotary",
        kv_heads=2,
        head_dim=2,
        gated=True,
        activation="silu",
        attention_bias=False,
        mlp_bias=False,
    ),
    # Centred rotations of a stream that is added to.
    "language, layer norm without scale": language(2, affine=False),
    # Matrices between the two sides of adapters, and nothing else.
    "adapters of an unknown network": Row(
        nets.lora([("layers.0.q", 4, 6, 2), ("layers.1.q", 3, 2, 1)], (1.5, -2)), (7,)
    ),
}
"""Transformers: heads with matrices of their own, streams, and shifts of biases.

And adapters, whose units are mixed by matrices as well."""
