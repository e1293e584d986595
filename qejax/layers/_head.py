"""From invariants to scores: a small ensemble of two-stream heads."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array, Float, PRNGKeyArray


class InvariantHead(nnx.Module):
    """Reads several vectors of invariants, `heads` times over.

    Each head maps every stream to `embed` features, joins them, and maps them through
    one hidden layer to a score; heads share nothing and see their own dropout. A few
    hundred networks are few: the mean of the heads is steadier than one of them.

    Args:
        sizes: length of every stream; a stream of length 0 is left out.
        embed: features per stream and head.
        hidden: width of the hidden layer.
        heads: number of heads, `K`.
        dropout: rates `(of the streams, of the hidden features)`.
        param_dtype: of the parameters.
        rngs: `params` is used.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        *,
        embed: int = 64,
        hidden: int = 64,
        heads: int = 4,
        dropout: tuple[float, float] = (0.3, 0.3),
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.sizes = sizes
        self.dropout = dropout
        self.heads = heads
        used = [size for size in sizes if size > 0]
        if not used:
            raise ValueError(
                f"InvariantHead(sizes={sizes}): expected at least one stream of "
                f"positive length. Give it pooled features, statistics, or both."
            )

        def kernel(fan_in: int, fan_out: int) -> nnx.Param:
            shape = (heads, fan_in, fan_out)
            draw = jax.random.normal(rngs.params(), shape, param_dtype)
            return nnx.Param(draw / jnp.sqrt(jnp.asarray(fan_in, param_dtype)))

        def bias(fan_out: int) -> nnx.Param:
            return nnx.Param(jnp.zeros((heads, fan_out), param_dtype))

        self.stream = nnx.Dict(
            {f"{i:02d}": kernel(size, embed) for i, size in enumerate(sizes) if size}
        )
        self.stream_bias = nnx.Dict({key: bias(embed) for key in self.stream})
        self.hidden = kernel(embed * len(used), hidden)
        self.hidden_bias = bias(hidden)
        self.out = kernel(hidden, 1)
        self.out_bias = bias(1)

    def __call__(
        self, streams: tuple[Array, ...], key: PRNGKeyArray | None = None
    ) -> Float[Array, " K"]:
        """Returns one score per head; no unit, unbounded.

        Args:
            streams: vectors of the lengths given at construction.
            key: for dropout, consumed; `None` reads without dropout.
        """
        outer, inner = self.dropout
        parts = []
        for number, x in enumerate(streams):
            if not self.sizes[number]:
                continue
            name = f"{number:02d}"
            x = jnp.broadcast_to(x[None], (self.heads, x.shape[0]))
            x = dropout(_fold(key, number), x, outer)
            x = _per_head(x, self.stream[name], self.stream_bias[name])
            parts.append(jax.nn.silu(x))
        z = dropout(_fold(key, len(streams)), jnp.concatenate(parts, -1), inner)
        z = jax.nn.silu(_per_head(z, self.hidden, self.hidden_bias))
        z = dropout(_fold(key, len(streams) + 1), z, inner)
        return _per_head(z, self.out, self.out_bias)[:, 0]


def dropout(key: PRNGKeyArray | None, x: Array, rate: float) -> Array:
    """Returns `x` with entries dropped and the rest scaled to the same mean.

    Args:
        key: consumed; `None` returns `x`.
        x: any array.
        rate: from 0 to below 1; the probability that an entry is dropped.
    """
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


def _per_head(x: Array, kernel: nnx.Param, bias: nnx.Param) -> Array:
    return jnp.einsum("km,kme->ke", x, kernel[...]) + bias[...]


def _fold(key: PRNGKeyArray | None, number: int) -> PRNGKeyArray | None:
    return None if key is None else jax.random.fold_in(key, number)
