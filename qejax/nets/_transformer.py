"""Transformers: encoders of images and decoder-only language models."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike

from qejax import _trees
from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.nets._activations import activation as find_activation
from qejax.nets._attention import (
    add_bias,
    attend,
    normalise,
    rotate,
    sine_positions,
)
from qejax.nets._network import After, Layer, Network
from qejax.nets._transformer_config import TransformerConfig
from qejax.nets._transformer_spec import transformer_spec_of
from qejax.spaces import Leaf, WeightSpec, check_theta


class Transformer(Network):
    """A transformer as pure functions; see `transformer`.

    `units` returns the hidden units of the feed-forward layers and of the head.
    """

    config: TransformerConfig

    def init(self, key: PRNGKeyArray, dtype: DTypeLike = "float32") -> Theta:
        """Returns random kernels, zero biases, and norms that do nothing.

        Kernels are normal with variance `gain / fan_in`, the gain 2 before a ReLU and
        1 elsewhere; tables and the class token are normal with deviation 0.02.
        """
        gain = find_activation(self.config.activation).gain
        leaves: dict[str, Array] = {}
        for number, leaf in enumerate(self.spec.leaves):
            draw = jax.random.normal(
                jax.random.fold_in(key, number), leaf.stored, dtype
            )
            leaves[leaf.path] = _start(leaf, draw, gain)
        return _trees.nest(leaves)

    def run(self, theta: Theta, x: Array, after: After) -> Array:
        """Returns the outputs; `after` is applied to the units of hidden layers.

        Args:
            theta: weights of one network.
            x: `[N, height, width, channels]` (the channel axis may be missing where it
                is one), or `[N, T]` of integers below `vocabulary` for tokens.
            after: `(layer, units) -> units`.

        Returns:
            `[N, n_L]`, or `[N, T, n_L]` where the outputs are those of every position.

        Raises:
            ValueError: if `theta` does not fit the spec, or the inputs the network;
                values of tokens are looked at outside jit only.
        """
        check_theta(self.spec, theta)
        config = self.config
        x = self._embed(theta, x)
        for number in range(config.depth):
            block = theta[f"block_{number:02d}"]
            x = self._sublayer(block, "norm_1", x, self._attention)
            if config.hidden:
                name = f"block_{number:02d}.mlp"

                def feed(layer: Any, x: Array, name: str = name) -> Array:
                    return self._feed_forward(layer, x, name, after)

                x = self._sublayer(block, "norm_2", x, feed)
        if config.final_norm:
            x = self._norm(theta.get("norm"), x)
        if config.pool == "mean":
            x = x.mean(1)
        elif config.pool == "class":
            x = x[:, 0]
        if config.head_hidden:
            relu = find_activation("relu")
            x = relu.function(_dense(theta["head_hidden"], x))
            x = after(Layer("head_hidden", (), jnp.matmul, relu, "head_hidden"), x)
        return _dense(theta["head"], x)

    def _embed(self, theta: Theta, x: Array) -> Array:
        config = self.config
        x = self._tokens(theta["embed"], x)
        if config.position == "learned":
            x = x + theta["position"]["embedding"][None, : x.shape[1]]
        if config.position == "sine":
            x = x + jnp.asarray(sine_positions(x.shape[1], config.dim), x.dtype)[None]
        if config.pool == "class":
            token = theta["class_token"][None, None]
            token = jnp.broadcast_to(token, (x.shape[0], 1, config.dim))
            x = jnp.concatenate([token.astype(x.dtype), x], 1)
        return x

    def _tokens(self, weights: Any, x: Array) -> Array:
        config = self.config
        if config.image is None:
            length = int(config.length or 0)
            if x.ndim != 2 or x.shape[1] > length:
                raise ValueError(
                    f"transformer inputs: expected tokens [N, T] with T at most "
                    f"{length}, got shape {tuple(x.shape)}."
                )
            _check_tokens(x, int(config.vocabulary or 0))
            return weights["embedding"][x.astype(jnp.int32)]
        height, width, channels = config.image
        if math.prod(x.shape[1:]) != math.prod(config.image):
            raise ValueError(
                f"transformer inputs: expected images [N, {height}, {width}, "
                f"{channels}], got shape {tuple(x.shape)}."
            )
        side = config.patch
        shape = (x.shape[0], height // side, side, width // side, side, channels)
        patches = x.reshape(shape).transpose(0, 1, 3, 2, 4, 5)
        return _dense(weights, patches.reshape(x.shape[0], -1, side * side * channels))

    def _sublayer(self, block: Any, norm: str, x: Array, layer: Any) -> Array:
        config = self.config
        if config.placement == "pre":
            y = layer(block, self._norm(block.get(norm), x))
            return x + y if config.residual else y
        y = layer(block, x)
        return self._norm(block.get(norm), x + y if config.residual else y)

    def _norm(self, weights: Any, x: Array) -> Array:
        return normalise(self.config.norm, weights, x, self.config.epsilon)

    def _attention(self, block: Any, x: Array) -> Array:
        turn = rotate if self.config.position == "rotary" else None
        return attend(block["attention"], x, causal=self.config.causal, turn=turn)

    def _feed_forward(self, block: Any, x: Array, name: str, after: After) -> Array:
        weights, row = block["mlp"], find_activation(self.config.activation)
        if self.config.gated:
            units = row.function(_dense(weights["gate"], x)) * _dense(weights["up"], x)
        else:
            units = row.function(_dense(weights["up"], x))
        units = after(Layer(name, (), jnp.matmul, row, name), units)
        return _dense(weights["down"], units)


def _check_tokens(x: Array, vocabulary: int) -> None:
    """Refuses what a lookup would round, wrap or clip; values outside jit only."""
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError(
            f"transformer inputs: tokens should be integers, got {x.dtype}. Pass the "
            f"indices of a table of {vocabulary} rows, not what they stand for."
        )
    if isinstance(x, Tracer):
        return
    tokens = np.asarray(x)
    outside = (tokens < 0) | (tokens >= vocabulary)
    if outside.any():
        first = tuple(np.argwhere(outside)[0].tolist())
        raise ValueError(
            f"transformer inputs: tokens should be from 0 to {vocabulary - 1}, got "
            f"{outside.sum()} of {tokens.size} that are not, the first at {first}. "
            f"Number them from 0, or give the network a larger vocabulary."
        )


def _dense(weights: Any, x: Array) -> Array:
    return add_bias(weights, x @ weights["kernel"])


def _start(leaf: Leaf, draw: Array, gain: float) -> Array:
    layer, name = ("/" + leaf.path).rsplit("/", 2)[-2:]
    if name == "scale":
        return jnp.ones_like(draw)
    if name == "bias":
        return jnp.zeros_like(draw)
    if name in ("embedding", "class_token"):
        return 0.02 * draw
    fan_in = math.prod(leaf.stored[: 2 if layer == "out" else 1])
    spread = gain if layer in ("up", "gate") else 1
    return draw * math.sqrt(spread / fan_in)


def transformer(
    dim: int, depth: int, heads: int, hidden: int, **fields: Any
) -> Network:
    """Returns a transformer; a vision encoder, or a language model.

    Args:
        dim: width of the stream.
        depth: number of blocks.
        heads: number of heads.
        hidden: width of the feed-forward layers; 0 for none.
        **fields: of `TransformerConfig`.

    Returns:
        The network. Its weights are `embed`, `position`, `class_token`, `block_00`,
        ..., `norm`, `head`, those that its configuration has; attention is named as
        Flax names it.

    Raises:
        ValueError: as `TransformerConfig`.

    Example:
        >>> net = transformer(8, 1, 2, 16, image=(8, 8, 1), patch=4, num_outputs=3)
        >>> theta = net.init(jax.random.key(0))
        >>> net.apply(theta, jnp.ones((5, 8, 8, 1))).shape
        (5, 3)
        >>> [(space.name, space.group) for space in net.spec.spaces][:3]
        [('stream_0', 'permutation'), ('block_00.norm_1.scale', 'absorbed'), \
('block_00.attention.heads', 'permutation')]
    """
    return build_transformer(TransformerConfig(dim, depth, heads, hidden, **fields))


def transformer_spec(*args: Any, **fields: Any) -> WeightSpec:
    """Returns the spec of `transformer(*args, **fields)`."""
    return transformer(*args, **fields).spec


def build_transformer(config: TransformerConfig) -> Network:
    """Returns the network of a configuration; see `transformer`."""
    return Transformer(config, transformer_spec_of(config), ())
