"""What a transformer is, as data."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from qejax.nets._activations import activation as find_activation
from qejax.nets._config import NetConfig, check_choice, sizes

NORMS = ("layer", "rms", "none")
PLACEMENTS = ("pre", "post")
POSITIONS = ("learned", "sine", "rotary", "none")
POOLS = ("mean", "class", "tokens")
_TRUTHS = ("gated", "affine", "residual", "attention_bias", "mlp_bias", "causal")


@dataclass(frozen=True)
class TransformerConfig(NetConfig):
    """An encoder of images, or a decoder-only language model.

    A block is attention and then a feed-forward layer, each with a norm before it or
    behind it, and each added to its input if `residual`.

    Attributes:
        dim: width of the stream, `D`.
        depth: number of blocks, `L`.
        heads: number of heads, `H`.
        hidden: width of the feed-forward layers; 0 for none.
        num_outputs: of the head.
        image: `(height, width, channels)` of images, cut into patches; `None` for
            tokens.
        patch: side of the patches.
        vocabulary: number of tokens, without images.
        length: number of positions of a sequence of tokens.
        kv_heads: number of key and value heads, which divide the heads; `None` for as
            many as heads.
        head_dim: width of a head; `None` for `D / H`.
        activation: of the feed-forward layers.
        gated: whether they are `(f(x gate) * (x up)) down`.
        norm: "layer", "rms" or "none".
        affine: whether norms have a scale, and of layer norms a bias.
        placement: whether norms stand before their layer ("pre") or behind ("post").
        residual: whether layers are added to what they read.
        attention_bias: of queries, keys, values and outputs.
        mlp_bias: of feed-forward layers and the head.
        position: "learned", "sine" (fixed), "rotary" or "none".
        pool: "mean" over positions, a "class" token, or "tokens": outputs at every
            position.
        causal: whether positions see earlier ones only.
        head_hidden: width of a hidden layer with ReLU before the outputs; 0 for none.
        epsilon: in the variance of the norms.
        final_norm: whether one more norm stands behind the last block, with norms
            before their layers; `None` for where layers are added.

    Raises:
        ValueError: at construction; names the field, what was expected and found.
    """

    kind: ClassVar[str] = "transformer"
    dim: int
    depth: int
    heads: int
    hidden: int
    num_outputs: int = 10
    image: tuple[int, int, int] | None = None
    patch: int = 4
    vocabulary: int | None = None
    length: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    activation: str = "gelu"
    gated: bool = False
    norm: str = "layer"
    affine: bool = True
    placement: str = "pre"
    residual: bool = True
    attention_bias: bool = True
    mlp_bias: bool = True
    position: str = "learned"
    pool: str = "mean"
    causal: bool = False
    head_hidden: int = 0
    epsilon: float = 1e-6
    final_norm: bool | None = None

    def __post_init__(self) -> None:
        """Checks, and fills in what is `None`."""
        find_activation(self.activation)
        self._check_truths()
        for field, choices in (
            ("norm", NORMS),
            ("placement", PLACEMENTS),
            ("position", POSITIONS),
            ("pool", POOLS),
        ):
            check_choice(f"transformer {field}", getattr(self, field), choices)
        sizes(
            "transformer dim, depth, heads, num_outputs",
            (self.dim, self.depth, self.heads, self.num_outputs),
        )
        sizes("transformer hidden, head_hidden", (self.hidden, self.head_hidden), 0)
        self._fill("kv_heads", self.heads if self.kv_heads is None else self.kv_heads)
        sizes("transformer kv_heads", (self.kv_heads,))
        if self.heads % int(self.kv_heads or 1):
            raise ValueError(
                f"transformer kv_heads: key and value heads should divide the "
                f"{self.heads} heads, got {self.kv_heads}."
            )
        if self.head_dim is None:
            if self.dim % self.heads:
                raise ValueError(
                    f"transformer heads: expected a divisor of dim={self.dim}, got "
                    f"{self.heads}. Change it, or pass head_dim."
                )
            self._fill("head_dim", self.dim // self.heads)
        sizes("transformer head_dim", (self.head_dim,))
        if self.position == "rotary" and int(self.head_dim or 0) % 2:
            raise ValueError(
                f"transformer head_dim: rotary embedding turns pairs, expected an even "
                f"number, got {self.head_dim}."
            )
        if self.causal and self.pool == "class":
            raise ValueError(
                "transformer pool: a class token comes first, and sees itself alone in "
                "a causal model: expected 'mean' or 'tokens', got 'class'."
            )
        self._check_final_norm()
        self._check_inputs()

    def _check_truths(self) -> None:
        for field in (*_TRUTHS, "final_norm"):
            value, optional = getattr(self, field), field == "final_norm"
            if not isinstance(value, bool) and not (optional and value is None):
                # A text such as "no" would count as true.
                raise ValueError(
                    f"transformer {field}: expected True or False"
                    f"{' or None' if optional else ''}, got {value!r}."
                )
        epsilon = self.epsilon
        number = isinstance(epsilon, int | float) and not isinstance(epsilon, bool)
        if not number or not 0 < epsilon < math.inf:
            raise ValueError(
                f"transformer epsilon: expected a positive finite number, got "
                f"{epsilon!r}."
            )

    def _check_final_norm(self) -> None:
        possible = self.placement == "pre" and self.norm != "none"
        if self.final_norm is None:
            self._fill("final_norm", possible and self.residual)
        if self.final_norm and not possible:
            raise ValueError(
                f"transformer final_norm: expected norms before their layers, got "
                f"norm={self.norm!r} and placement={self.placement!r}. Leave it out."
            )

    def _check_inputs(self) -> None:
        if (self.image is None) == (self.vocabulary is None):
            raise ValueError(
                f"transformer inputs: expected one of image=(height, width, channels) "
                f"and vocabulary=..., got image={self.image} and "
                f"vocabulary={self.vocabulary}."
            )
        if self.image is None:
            if self.length is None:
                raise ValueError(
                    "transformer length: tokens need a number of positions, got None."
                )
            sizes("transformer vocabulary, length", (self.vocabulary, self.length))
            return
        image = sizes("transformer image", self.image)
        sizes("transformer patch", (self.patch,))
        if len(image) != 3 or image[0] % self.patch or image[1] % self.patch:
            raise ValueError(
                f"transformer image: expected (height, width, channels) with sides "
                f"that patch={self.patch} divides, got {image}."
            )
        self._fill("image", image)
        self._fill("length", image[0] // self.patch * (image[1] // self.patch))

    def _fill(self, field: str, value: Any) -> None:
        object.__setattr__(self, field, value)
