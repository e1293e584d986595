"""What reaches each output from each input when nonlinearities are taken out.

A chain of layers has path sums (`_paths.py`). In a transformer every position takes
the same path: embedding, the products of values and outputs of all heads, the
feed-forward layers, the head. Attention spreads evenly, gates are left out, and a norm
divides by the root mean square over the inputs. What is left is linear and made of
products that no matrix between their factors changes. Taken of a normal form, so that
it is invariant to the whole group.

Source: our own; the products of heads as in Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits".
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from qejax._finite import root
from qejax._typing import Array, Float, Theta
from qejax.nets import Network


def _through_blocks(network: Network, theta: Theta) -> Float[Array, "n_L p"]:
    """Of one patch, wherever it lies."""
    config: Any = network.config
    x = theta["embed"]["kernel"]
    kinds = [("norm_1", "attention", _attention), ("norm_2", "mlp", _feed_forward)]
    for number in range(config.depth):
        block = theta[f"block_{number:02d}"]
        for norm, name, layer in kinds[: 1 + bool(config.hidden)]:
            before = config.placement == "pre"
            y = layer(block[name], _norm(config, block.get(norm), x) if before else x)
            x = x + y if config.residual else y
            x = x if before else _norm(config, block.get(norm), x)
    if config.final_norm:
        x = _norm(config, theta.get("norm"), x)
    if config.head_hidden:
        x = x @ theta["head_hidden"]["kernel"]
    return (x @ theta["head"]["kernel"]).T


def _attention(weights: Any, x: Array) -> Array:
    value, out = weights["value"]["kernel"], weights["out"]["kernel"]
    value = jnp.repeat(value, out.shape[0] // value.shape[1], axis=1)
    return jnp.einsum("pe,ehd,hdm->pm", x, value, out)


def _feed_forward(weights: Any, x: Array) -> Array:
    return x @ weights["up"]["kernel"] @ weights["down"]["kernel"]


def _norm(config: Any, weights: Any, x: Array) -> Array:
    if config.norm == "none":
        return x
    if config.norm == "layer":
        x = x - x.mean(1, keepdims=True)
    size = root(jnp.mean(x * x))
    x = x / jnp.where(size > 0, size, 1)
    return x if weights is None else x * weights["scale"][None, :]


COMPOSED: dict[str, Callable[[Network, Theta], Array]] = {
    "transformer": _through_blocks,
}
"""By kind of network that is no chain: `(network, normal form) -> map`."""
