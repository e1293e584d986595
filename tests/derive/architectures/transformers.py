"""More transformers: an encoder and a decoder, stacked layers, experts."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from tests.derive.architectures.architecture import (
    Architecture,
    Embed,
    normal,
    tokens,
)

VOCABULARY = 11


def sinusoids(length: int, width: int) -> jax.Array:
    """Returns positions `[1, length, width]`, sines beside cosines."""
    rate = 100.0 ** (-2 * jnp.arange(width // 2) / width)
    angle = jnp.arange(length)[:, None] * rate[None]
    pairs = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return pairs.reshape(1, length, width)


class TransformerMlp(nn.Module):
    """A hidden layer of ReLU."""

    mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(nn.Dense(self.mlp_dim)(x))
        return nn.Dense(x.shape[-1])(y)


class Encoder1DBlock(nn.Module):
    """Attention without biases, and an MLP."""

    heads: int
    qkv_dim: int
    mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.LayerNorm()(x)
        attend = nn.MultiHeadDotProductAttention(
            self.heads, qkv_features=self.qkv_dim, use_bias=False
        )
        x = x + attend(y)
        return x + TransformerMlp(self.mlp_dim)(nn.LayerNorm()(x))


class EncoderDecoder1DBlock(nn.Module):
    """Looks at its own past, then at what was encoded."""

    heads: int
    qkv_dim: int
    mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array, encoded: jax.Array) -> jax.Array:
        mask = nn.make_causal_mask(x[..., 0])
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(
            self.heads,
            qkv_features=self.qkv_dim,
            use_bias=False,
            name="SelfAttention_0",
        )(y, mask=mask)
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(
            self.heads, qkv_features=self.qkv_dim, use_bias=False
        )(y, encoded)
        return x + TransformerMlp(self.mlp_dim)(nn.LayerNorm()(x))


class Seq2SeqTransformer(nn.Module):
    """One table of tokens for the source, the target and the logits."""

    width: int = 6
    heads: int = 3
    qkv_dim: int = 15
    mlp_dim: int = 9

    @nn.compact
    def __call__(self, source: jax.Array, target: jax.Array) -> jax.Array:
        embed = nn.Embed(VOCABULARY, self.width, name="shared_embedding")
        sizes = (self.heads, self.qkv_dim, self.mlp_dim)
        x = embed(source) + sinusoids(source.shape[1], self.width)
        x = Encoder1DBlock(*sizes, name="encoderblock_0")(x)
        encoded = nn.LayerNorm(name="encoder_norm")(x)
        # What is to be told is not seen: the target is moved to the right.
        y = jnp.pad(target, ((0, 0), (1, 0)))[:, :-1]
        y = embed(y) + sinusoids(y.shape[1], self.width)
        y = EncoderDecoder1DBlock(*sizes, name="encoderdecoderblock_0")(y, encoded)
        y = nn.LayerNorm(name="encoderdecoder_norm")(y)
        return embed.attend(y) / jnp.sqrt(y.shape[-1])


def partitioned(*names: str) -> Any:
    return nn.with_logical_partitioning(nn.initializers.lecun_normal(), names)


class ScannedLayer(nn.Module):
    """A decoder's layer, in the form that a scan runs over."""

    heads: int
    head_dim: int
    mlp_dim: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        y = nn.RMSNorm(name="pre_self_attention_layer_norm")(x)
        q, k, v = (
            nn.DenseGeneral(
                (self.heads, self.head_dim),
                use_bias=False,
                kernel_init=partitioned("embed", "heads", "kv"),
                name=name,
            )(y)
            for name in ("query", "key", "value")
        )
        y = nn.dot_product_attention(q, k, v, mask=mask)
        x = x + nn.DenseGeneral(
            x.shape[-1],
            axis=(-2, -1),
            use_bias=False,
            kernel_init=partitioned("heads", "kv", "embed"),
            name="out",
        )(y)
        y = nn.RMSNorm(name="post_self_attention_layer_norm")(x)
        wi_0, wi_1 = (
            nn.Dense(
                self.mlp_dim,
                use_bias=False,
                kernel_init=partitioned("embed", "mlp"),
                name=name,
            )(y)
            for name in ("wi_0", "wi_1")
        )
        y = nn.silu(wi_0) * wi_1
        y = nn.Dense(
            x.shape[-1],
            use_bias=False,
            kernel_init=partitioned("mlp", "embed"),
            name="wo",
        )(y)
        return x + y, None


class ScannedTransformer(nn.Module):
    """All layers in one set of arrays, the layer as their first axis."""

    width: int = 5
    heads: int = 2
    head_dim: int = 4
    mlp_dim: int = 7
    layers: int = 3

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        x = nn.Embed(VOCABULARY, self.width, name="token_embedder")(ids)
        x = x + self.param(
            "position_embedder", nn.initializers.normal(), (ids.shape[1], self.width)
        )
        mask = nn.make_causal_mask(ids)
        stack = nn.scan(
            nn.remat(ScannedLayer, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,  # pyright: ignore[reportArgumentType]
            length=self.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        x, _ = stack(self.heads, self.head_dim, self.mlp_dim, name="layers")(x, mask)
        x = nn.RMSNorm(name="decoder_norm")(x)
        return nn.Dense(VOCABULARY, use_bias=False, name="logits_dense")(x)


class MoeBlock(nn.Module):
    """Experts whose kernels are stacked, `[E, D, H]`; the best `top_k` of them, or all.

    The weights of the experts are a softmax over those that are taken.
    """

    experts: int
    hidden: int
    top_k: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init, width = nn.initializers.lecun_normal(), x.shape[-1]
        logits = nn.Dense(self.experts, use_bias=False, name="gate")(x)
        wi = self.param("wi", init, (self.experts, width, self.hidden))
        wo = self.param("wo", init, (self.experts, self.hidden, width))
        if self.top_k is None:
            weights = nn.softmax(logits, axis=-1)
        else:
            best, which = jax.lax.top_k(logits, self.top_k)
            taken = jax.nn.one_hot(which, self.experts, dtype=x.dtype)
            weights = jnp.einsum("...k,...ke->...e", nn.softmax(best, axis=-1), taken)
        hidden = nn.gelu(jnp.einsum("...d,edh->...eh", x, wi))
        y = jnp.einsum("...eh,ehd->...ed", hidden, wo)
        return jnp.einsum("...ed,...e->...d", y, weights)


class MoeNet(nn.Module):
    """A dense layer, a block of experts around which the input goes, norm, head."""

    width: int = 6
    experts: int = 3
    hidden: int = 5
    top_k: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width, name="embed")(x)
        y = nn.LayerNorm(name="norm")(x)
        x = x + MoeBlock(self.experts, self.hidden, self.top_k, name="moe")(y)
        return nn.Dense(2, name="head")(nn.LayerNorm(name="final_norm")(x))


def attend(q: jax.Array, k: jax.Array, v: jax.Array, **_: Any) -> jax.Array:
    """NNX's own function takes the softmax in float32, whatever its inputs are."""
    logits = jnp.einsum("...qhd,...khd->...hqk", q, k) / q.shape[-1] ** 0.5
    return jnp.einsum("...hqk,...khd->...qhd", nnx.softmax(logits, axis=-1), v)


class BertLayer(nnx.Module):
    """Norms after the sums."""

    def __init__(self, width: int, heads: int, hidden: int, rngs: nnx.Rngs) -> None:
        self.attention = nnx.MultiHeadAttention(
            heads,
            width,
            3 * heads,
            attention_fn=attend,
            decode=False,
            rngs=rngs,
        )
        self.attention_norm = nnx.LayerNorm(width, rngs=rngs)
        self.intermediate = nnx.Linear(width, hidden, rngs=rngs)
        self.output = nnx.Linear(hidden, width, rngs=rngs)
        self.output_norm = nnx.LayerNorm(width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.attention_norm(x + self.attention(x))
        y = self.output(nnx.gelu(self.intermediate(x)))
        return self.output_norm(x + y)


class Bert(nnx.Module):
    """An encoder; the first token is pooled."""

    def __init__(self, rngs: nnx.Rngs, width: int = 5, length: int = 7) -> None:
        self.word_embeddings = Embed(VOCABULARY, width, rngs=rngs)
        self.position_embeddings = Embed(length, width, rngs=rngs)
        self.embeddings_norm = nnx.LayerNorm(width, rngs=rngs)
        self.layer = nnx.List([BertLayer(width, 2, 7, rngs) for _ in range(2)])
        self.pooler = nnx.Linear(width, width, rngs=rngs)
        self.classifier = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        x = self.word_embeddings(ids)
        x = self.embeddings_norm(x + self.position_embeddings(jnp.arange(ids.shape[1])))
        for layer in self.layer:
            x = layer(x)
        return self.classifier(nnx.tanh(self.pooler(x[:, 0])))


TRANSFORMERS = {
    "encoder_decoder": Architecture(
        Seq2SeqTransformer, tokens(VOCABULARY, 7, 8), "linen", "Flax's WMT example"
    ),
    "scanned_transformer": Architecture(
        ScannedTransformer, tokens(VOCABULARY, 6, batch=8), "linen", "MaxText"
    ),
    "soft_experts": Architecture(MoeNet, normal((7,)), "linen", "a dense mixture"),
    "top_k_experts": Architecture(
        lambda: MoeNet(top_k=2), normal((7,)), "linen", "Mixtral, in MaxText"
    ),
    "bert": Architecture(
        lambda: Bert(nnx.Rngs(0)),
        tokens(VOCABULARY, 7),
        "nnx",
        "BERT, with NNX's attention",
        unread=("layer/0/attention/key/bias", "layer/1/attention/key/bias"),
    ),
}
