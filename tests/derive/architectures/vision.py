"""Networks that read images as patches, and the convolutional blocks since them."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from tests.derive.architectures.architecture import Architecture, normal


class MlpBlock(nn.Module):
    """Two dense layers, back to the width they came from."""

    mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Dense(self.mlp_dim)(x)
        y = nn.gelu(y)
        return nn.Dense(x.shape[-1])(y)


class MixerBlock(nn.Module):
    """Mixes tokens, then channels."""

    tokens_mlp_dim: int
    channels_mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.LayerNorm()(x)
        y = jnp.swapaxes(y, 1, 2)
        y = MlpBlock(self.tokens_mlp_dim, name="token_mixing")(y)
        y = jnp.swapaxes(y, 1, 2)
        x = x + y
        y = nn.LayerNorm()(x)
        return x + MlpBlock(self.channels_mlp_dim, name="channel_mixing")(y)


class MlpMixer(nn.Module):
    """Patches, mixer blocks, the mean of the tokens."""

    patch: int = 3
    width: int = 7
    tokens_mlp_dim: int = 5
    channels_mlp_dim: int = 9
    blocks: int = 2
    classes: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = (self.patch, self.patch)
        x = nn.Conv(self.width, size, strides=size, name="stem")(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for _ in range(self.blocks):
            x = MixerBlock(self.tokens_mlp_dim, self.channels_mlp_dim)(x)
        x = nn.LayerNorm(name="pre_head_layer_norm")(x)
        x = jnp.mean(x, axis=1)
        return nn.Dense(self.classes, name="head")(x)


class EncoderBlock(nn.Module):
    """A transformer block with the norms before its parts."""

    heads: int
    mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads)(y, y)
        y = nn.LayerNorm()(x)
        return x + MlpBlock(self.mlp_dim)(y)


class ViT(nn.Module):
    """Patches and a class token, with learned positions."""

    patch: int = 2
    width: int = 6
    heads: int = 2
    mlp_dim: int = 7
    blocks: int = 2
    classes: int = 5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = (self.patch, self.patch)
        x = nn.Conv(self.width, size, strides=size, padding="VALID", name="embedding")(
            x
        )
        n, h, w, c = x.shape
        x = jnp.reshape(x, (n, h * w, c))
        cls = self.param("cls", nn.initializers.zeros, (1, 1, c))
        x = jnp.concatenate([jnp.tile(cls, (n, 1, 1)), x], axis=1)
        x = x + self.param(
            "pos_embedding", nn.initializers.normal(0.02), (1, x.shape[1], c)
        )
        for i in range(self.blocks):
            x = EncoderBlock(self.heads, self.mlp_dim, name=f"encoderblock_{i}")(x)
        x = nn.LayerNorm(name="encoder_norm")(x)
        return nn.Dense(self.classes, name="head")(x[:, 0])


class MAPHead(nn.Module):
    """A learned probe looks at all tokens."""

    heads: int
    mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, _, c = x.shape
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, c))
        probe = jnp.tile(probe, (n, 1, 1))
        x = nn.MultiHeadDotProductAttention(self.heads)(probe, x)
        y = nn.LayerNorm()(x)
        return (x + MlpBlock(self.mlp_dim)(y))[:, 0]


def posemb_sincos_2d(h: int, w: int, width: int) -> jax.Array:
    """Returns sines and cosines of the place of a patch, `[1, h * w, width]`."""
    y, x = jnp.mgrid[:h, :w]
    omega = 1.0 / (100.0 ** (jnp.arange(width // 4) / (width // 4)))
    y = jnp.einsum("m,d->md", y.flatten(), omega)
    x = jnp.einsum("m,d->md", x.flatten(), omega)
    return jnp.concatenate([jnp.sin(x), jnp.cos(x), jnp.sin(y), jnp.cos(y)], axis=1)[
        None
    ]


class SimpleViT(nn.Module):
    """Positions that are not learned, and a head of attention over the tokens."""

    patch: int = 2
    width: int = 8
    heads: int = 2
    mlp_dim: int = 5
    outputs: int = 7

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = (self.patch, self.patch)
        x = nn.Conv(self.width, size, strides=size, padding="VALID", name="embedding")(
            x
        )
        n, h, w, c = x.shape
        x = x.reshape(n, h * w, c) + posemb_sincos_2d(h, w, c)
        x = EncoderBlock(self.heads, self.mlp_dim)(x)
        x = nn.LayerNorm(name="encoder_norm")(x)
        x = MAPHead(self.heads, self.mlp_dim)(x)
        return nn.Dense(self.outputs, name="head")(x)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, norm, a wide pair of layers, a scale a channel."""

    width: int
    expand: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Conv(self.width, (3, 3), feature_group_count=self.width, name="dwconv")(
            x
        )
        y = nn.LayerNorm(epsilon=1e-6, name="norm")(y)
        y = nn.Dense(self.expand, name="pwconv1")(y)
        y = nn.gelu(y)
        y = nn.Dense(self.width, name="pwconv2")(y)
        gamma = self.param("gamma", nn.initializers.constant(1e-6), (self.width,))
        return x + gamma * y


class ConvNeXt(nn.Module):
    """A stem of patches, two stages with a downsampling between them."""

    widths: tuple[int, ...] = (5, 6)
    expands: tuple[int, ...] = (7, 9)
    classes: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, (width, expand) in enumerate(
            zip(self.widths, self.expands, strict=True)
        ):
            x = nn.Conv(width, (2, 2), strides=(2, 2), name=f"downsample_{i}")(x)
            x = nn.LayerNorm(epsilon=1e-6, name=f"downsample_norm_{i}")(x)
            x = ConvNeXtBlock(width, expand, name=f"stage_{i}")(x)
        x = nn.LayerNorm(epsilon=1e-6, name="norm")(x.mean(axis=(1, 2)))
        return nn.Dense(self.classes, name="head")(x)


def _key_bias(*blocks: str) -> tuple[str, ...]:
    return tuple(f"{b}/MultiHeadDotProductAttention_0/key/bias" for b in blocks)


VISION = {
    "mlp_mixer": Architecture(
        MlpMixer,
        normal((6, 9, 2)),
        "linen",
        "Big Vision",
        # A number for each token, of which the norms over channels take the mean.
        unread=tuple(f"MixerBlock_{i}/token_mixing/Dense_1/bias" for i in range(2)),
    ),
    "vit": Architecture(
        ViT,
        normal((6, 10, 3)),
        "linen",
        "vision_transformer",
        unread=_key_bias("encoderblock_0", "encoderblock_1"),
    ),
    "simple_vit": Architecture(
        SimpleViT,
        normal((6, 10, 3), batch=3),
        "linen",
        "Big Vision, head of type map",
        unread=_key_bias("EncoderBlock_0", "MAPHead_0"),
    ),
    "convnext": Architecture(
        ConvNeXt, normal((8, 12, 2)), "linen", "ConvNeXt, as ported to Flax"
    ),
}
