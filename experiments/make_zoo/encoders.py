"""The encoders of images that zoos are made of, by name: a new one is a new row."""

from typing import Any

from qejax.nets import TransformerConfig

IMAGES: dict[str, tuple[int, int, int]] = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
}
"""Height, width and channels of the images of a data set."""

ENCODERS: dict[str, dict[str, Any]] = {
    "plain": {
        "activation": "relu",
        "affine": False,
        "residual": False,
        "final_norm": True,
        "attention_bias": False,
        "position": "sine",
        "epsilon": 1e-5,
    },
    "pre": {"pool": "class"},
    "post": {"activation": "relu", "placement": "post"},
    "gated": {
        "activation": "silu",
        "gated": True,
        "norm": "rms",
        "kv_heads": 1,
        "attention_bias": False,
        "mlp_bias": False,
        "position": "rotary",
    },
}
"""Fields of `TransformerConfig` by name of the encoder.

- `plain`: the one of the Small Transformer Zoo: nothing is added to what a layer reads,
  norms have no weights, the head has a hidden layer;
- `pre`: a vision transformer: norms before their layers, a class token, GELU;
- `post`: norms behind their layers, ReLU, the mean over patches;
- `gated`: RMS norms, rotary embedding, one key and value head for all queries.
"""


def encoder(
    name: str,
    image: tuple[int, int, int],
    patch: int,
    dim: int,
    depth: int,
    heads: int,
) -> TransformerConfig:
    """Returns an encoder whose hidden layers are twice as wide as its stream.

    Raises:
        ValueError: if the sizes do not fit each other.

    Example:
        >>> encoder("plain", (8, 8, 1), 4, 16, 2, 2).hidden
        32
    """
    head_hidden = dim if name == "plain" else 0
    return TransformerConfig(
        dim,
        depth,
        heads,
        2 * dim,
        image=image,
        patch=patch,
        head_hidden=head_hidden,
        **ENCODERS[name],
    )
