"""Transformers over tokens."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from tests.derive.architectures.architecture import Architecture, Embed, tokens

VOCABULARY = 11


def rotary(x: jax.Array) -> jax.Array:
    """Turns the two halves of every head by the position, of `[B, T, H, D]`."""
    half = x.shape[-1] // 2
    # A short scale for short sequences: no frequency looks like another one there.
    timescale = 10.0 ** (jnp.arange(half) / half)
    angle = jnp.arange(x.shape[1])[:, None] / timescale[None]
    sin, cos = jnp.sin(angle)[:, None], jnp.cos(angle)[:, None]
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate(
        [first * cos - second * sin, second * cos + first * sin], axis=-1
    )


def causal(length: int) -> jax.Array:
    return jnp.tril(jnp.ones((length, length), bool))


class GemmaRMSNorm(nn.Module):
    """A scale that is 1 where the parameter is 0."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.zeros_init(), (x.shape[-1],))
        var = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(var + 1e-6) * (1 + scale)


class Einsum(nn.Module):
    """A weight of any shape."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, equation: str, x: jax.Array) -> jax.Array:
        return jnp.einsum(
            equation, x, self.param("w", nn.initializers.normal(), self.shape)
        )


class GemmaAttention(nn.Module):
    """Heads of queries share heads of keys and values."""

    heads: int
    kv_heads: int
    head_dim: int
    width: int

    def setup(self) -> None:
        n, k, h, d = self.heads, self.kv_heads, self.head_dim, self.width
        self.q_einsum = Einsum((n, d, h))
        self.kv_einsum = Einsum((2, k, d, h))
        self.attn_vec_einsum = Einsum((n, h, d))

    def __call__(self, x: jax.Array) -> jax.Array:
        b, t, _ = x.shape
        q = rotary(self.q_einsum("BTD,NDH->BTNH", x)) * self.head_dim**-0.5
        k, v = self.kv_einsum("BSD,CKDH->CBSKH", x)
        groups = self.heads // self.kv_heads
        q = q.reshape(b, t, self.kv_heads, groups, self.head_dim)
        logits = jnp.einsum("BTKGH,BSKH->BTKGS", q, rotary(k))
        logits = jnp.where(causal(t)[:, None, None], logits, -2.3819763e38)
        probs = jax.nn.softmax(logits, axis=-1).astype(k.dtype)
        encoded = jnp.einsum("BTKGS,BSKH->BTKGH", probs, v)
        encoded = encoded.reshape(b, t, self.heads, self.head_dim)
        return self.attn_vec_einsum("BTNH,NHD->BTD", encoded)


class GemmaFeedForward(nn.Module):
    """A gated GELU, both kernels in one array."""

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        init = nn.initializers.normal()
        gating = self.param("gating_einsum", init, (2, width, self.hidden))
        gate = nn.gelu(jnp.dot(x, gating[0]))
        activations = gate * jnp.dot(x, gating[1])
        linear = self.param("linear", init, (self.hidden, width))
        return jnp.dot(activations, linear)


class GemmaBlock(nn.Module):
    """Norms before the two parts, and as in Gemma 2 after them if told to."""

    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    post_norms: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = GemmaRMSNorm(name="pre_attention_norm")(x)
        y = GemmaAttention(
            self.heads, self.kv_heads, self.head_dim, x.shape[-1], name="attn"
        )(y)
        if self.post_norms:
            y = GemmaRMSNorm(name="post_attention_norm")(y)
        x = x + y
        y = GemmaRMSNorm(name="pre_ffw_norm")(x)
        y = GemmaFeedForward(self.hidden, name="mlp")(y)
        if self.post_norms:
            y = GemmaRMSNorm(name="post_ffw_norm")(y)
        return x + y


class GemmaEmbedder(nn.Module):
    """One table for both ends."""

    vocabulary: int
    width: int

    def setup(self) -> None:
        self.table = self.param(
            "input_embedding", nn.initializers.normal(), (self.vocabulary, self.width)
        )

    def encode(self, ids: jax.Array) -> jax.Array:
        x = self.table[ids]
        return x * jnp.sqrt(self.width).astype(x.dtype)

    def decode(self, x: jax.Array) -> jax.Array:
        return jnp.dot(x, self.table.T)


class Gemma(nn.Module):
    """A decoder; its logits are capped softly."""

    width: int = 5
    heads: int = 6
    kv_heads: int = 3
    head_dim: int = 4
    hidden: int = 7
    layers: int = 2
    post_norms: bool = False
    cap: float = 3.0

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        embedder = GemmaEmbedder(VOCABULARY, self.width, name="embedder")
        x = embedder.encode(ids)
        for i in range(self.layers):
            x = GemmaBlock(
                self.heads,
                self.kv_heads,
                self.head_dim,
                self.hidden,
                self.post_norms,
                name=f"layer_{i}",
            )(x)
        x = GemmaRMSNorm(name="final_norm")(x)
        logits = embedder.decode(x)
        return jnp.tanh(logits / self.cap) * self.cap


class CausalSelfAttention(nn.Module):
    """Queries, keys and values are the thirds of one layer's output."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, t, c = x.shape
        qkv = nn.Dense(3 * c, name="c_attn")(x)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        q, k, v = (
            y.reshape(b, t, self.heads, c // self.heads).transpose(0, 2, 1, 3)
            for y in (q, k, v)
        )
        att = (q @ k.swapaxes(-2, -1)) / jnp.sqrt(k.shape[-1])
        att = jnp.where(causal(t)[None, None], att, jnp.finfo(att.dtype).min)
        y = nn.softmax(att, axis=-1) @ v
        y = y.transpose(0, 2, 1, 3).reshape(b, t, c)
        return nn.Dense(c, name="c_proj")(y)


class GPTMLP(nn.Module):
    """Four times as wide inside."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.gelu(nn.Dense(4 * x.shape[-1], name="c_fc")(x), approximate=True)
        return nn.Dense(x.shape[-1], name="c_proj")(y)


class GPTBlock(nn.Module):
    """LayerNorm before attention and before the MLP."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.LayerNorm(name="ln_1")(x)
        x = x + CausalSelfAttention(self.heads, name="attn")(y)
        return x + GPTMLP(name="mlp")(nn.LayerNorm(name="ln_2")(x))


class GPT(nn.Module):
    """Learned positions, and the head is the table of the tokens."""

    width: int = 6
    heads: int = 2
    layers: int = 2
    block_size: int = 5

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        wte = nn.Embed(VOCABULARY, self.width, name="wte")
        wpe = nn.Embed(self.block_size, self.width, name="wpe")
        x = wte(ids) + wpe(jnp.arange(ids.shape[1]))
        for i in range(self.layers):
            x = GPTBlock(self.heads, name=f"h_{i}")(x)
        return wte.attend(nn.LayerNorm(name="ln_f")(x))


class LlamaAttention(nnx.Module):
    """Grouped queries by repeating keys and values."""

    def __init__(
        self, width: int, heads: int, kv_heads: int, head_dim: int, rngs: nnx.Rngs
    ) -> None:
        self.head_dim, self.groups = head_dim, heads // kv_heads

        def linear(n_in: int, n_out: int) -> nnx.Linear:
            return nnx.Linear(n_in, n_out, use_bias=False, rngs=rngs)

        self.q_proj = linear(width, heads * head_dim)
        self.k_proj = linear(width, kv_heads * head_dim)
        self.v_proj = linear(width, kv_heads * head_dim)
        self.o_proj = linear(heads * head_dim, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        b, t, _ = x.shape
        q, k, v = (
            layer(x).reshape(b, t, -1, self.head_dim)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotary(q), rotary(k)
        k, v = (jnp.repeat(y, self.groups, axis=2) for y in (k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / self.head_dim**0.5
        scores = jnp.where(causal(t), scores, -jnp.inf)
        y = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)
        return self.o_proj(y.reshape(b, t, -1))


class LlamaMLP(nnx.Module):
    """A gated SiLU."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs) -> None:
        self.gate_proj = nnx.Linear(width, hidden, use_bias=False, rngs=rngs)
        self.up_proj = nnx.Linear(width, hidden, use_bias=False, rngs=rngs)
        self.down_proj = nnx.Linear(hidden, width, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaLayer(nnx.Module):
    """RMSNorm before attention and before the gated MLP."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs) -> None:
        self.input_layernorm = nnx.RMSNorm(width, rngs=rngs)
        self.self_attn = LlamaAttention(width, 6, 2, 4, rngs)
        self.post_attention_layernorm = nnx.RMSNorm(width, rngs=rngs)
        self.mlp = LlamaMLP(width, hidden, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nnx.Module):
    """A decoder whose head is a weight of its own."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        width = 5
        self.embed_tokens = Embed(VOCABULARY, width, rngs=rngs)
        self.layers = nnx.List([LlamaLayer(width, 7, rngs) for _ in range(2)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.lm_head = nnx.Linear(width, VOCABULARY, use_bias=False, rngs=rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


IDS = tokens(VOCABULARY, 5)

LANGUAGE = {
    "gemma": Architecture(
        Gemma, tokens(VOCABULARY, 9, batch=8), "linen", "Gemma, its modules in Flax"
    ),
    "gemma_2": Architecture(
        lambda: Gemma(layers=1, post_norms=True),
        tokens(VOCABULARY, 9, batch=8),
        "linen",
        "Gemma 2, norms after the parts as well",
    ),
    "gpt2": Architecture(GPT, IDS, "linen", "nanoGPT, as ported to Flax"),
    "llama": Architecture(
        lambda: Llama(nnx.Rngs(0)),
        tokens(VOCABULARY, 9, batch=8),
        "nnx",
        "Llama, in NNX",
    ),
}
