"""What a row of the registry is, its random weights, and its network as a function.

The models are written as their originals are: Flax, and they, add vectors to arrays of
more axes, so that is allowed here whatever the flags of the suite are.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx, traverse_util

Theta = dict[str, Any]

# NNX's own looks up in the dtype the table had when it was made, float32.
Embed = functools.partial(nnx.Embed, dtype=jnp.float64)
BATCH = 4
COLLECTIONS = ("params", "batch_stats")


class Architecture(NamedTuple):
    """A network of others, and what it is called with."""

    build: Callable[[], Any]
    inputs: Callable[[int], tuple[jax.Array, ...]]
    style: Literal["linen", "nnx"]
    # Where the style is from.
    source: str
    # Paths, joined by "/", of the weights that no output depends on: they are of a part
    # that is not used, or add a number that a softmax or a norm takes away again.
    unread: tuple[str, ...] = ()


def normal(
    *shapes: tuple[int, ...], batch: int = BATCH, scale: float = 1.0
) -> Callable[[int], tuple[jax.Array, ...]]:
    """Returns what draws a batch of normal arrays of these shapes from a seed."""

    def inputs(seed: int) -> tuple[jax.Array, ...]:
        rng = np.random.default_rng(seed)
        return tuple(
            jnp.asarray(scale * rng.normal(size=(batch, *shape))) for shape in shapes
        )

    return inputs


def tokens(
    vocabulary: int, *lengths: int, batch: int = BATCH
) -> Callable[[int], tuple[jax.Array, ...]]:
    """Returns what draws sequences of tokens in which every token occurs."""

    def inputs(seed: int) -> tuple[jax.Array, ...]:
        rng = np.random.default_rng(seed)
        drawn = []
        for length in lengths:
            ids = rng.permutation(batch * length) % vocabulary
            drawn.append(jnp.asarray(ids.reshape(batch, length), jnp.int32))
        return tuple(drawn)

    return inputs


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> jax.Array:
    """Returns one random weight: nothing is 0 or 1, and outputs keep their size.

    Few rectifiers are always on or always off: biases are small, and the kernels nearly
    take the mean of their inputs away, which behind rectifiers is positive.
    """
    noise = rng.normal(size=shape)
    if name == "var":
        noise = np.exp(0.5 * noise)
    elif name.endswith("scale"):
        noise = 1 + 0.3 * noise
    elif name in ("bias", "mean"):
        noise = 0.2 * noise
    elif len(shape) < 2:
        noise = 0.5 * noise
    else:
        noise = noise * math.sqrt(2 / math.prod(shape[:-1]))
        if name == "kernel":
            inputs = tuple(range(len(shape) - 1))
            noise = noise - 0.9 * noise.mean(axis=inputs, keepdims=True)
    return jnp.asarray(noise, jnp.float64)


def _strings(tree: Any) -> Any:
    """Returns a nested dict with its keys as strings: a list of NNX has integers."""
    if isinstance(tree, dict):
        return {str(key): _strings(value) for key, value in tree.items()}
    return tree


def _split(row: Architecture) -> tuple[Any, Any, Any]:
    """Returns an NNX module's graph, its weights and the rest, of shapes only."""
    read = nnx.Any(nnx.Param, nnx.BatchStat)
    graph, weights, *rest = nnx.split(nnx.eval_shape(row.build), read, ...)
    return graph, weights, rest


def _shapes(row: Architecture) -> Theta:
    """Returns the tree of shapes, of a Linen module with its collections."""
    if row.style == "nnx":
        return _strings(nnx.to_pure_dict(_split(row)[1]))
    with jax.numpy_rank_promotion("allow"):
        shapes = jax.eval_shape(row.build().init, jax.random.key(0), *row.inputs(0))
    return {name: nn.unbox(shapes[name]) for name in COLLECTIONS if name in shapes}


def variables_of(row: Architecture, seed: int) -> Theta:
    """Returns random weights in float64: biases, scales and statistics as well.

    Of Linen, the tree of `params`, or a dict of the collections where there are more;
    of NNX, the pure dict of `nnx.split` with strings as keys.
    """
    rng = np.random.default_rng(seed)
    # A name may hold the separator (`nn.WeightNorm`), so paths are tuples here.
    flat: dict[Any, Any] = traverse_util.flatten_dict(_shapes(row))
    tree = traverse_util.unflatten_dict(
        {path: _drawn(rng, path[-1], leaf.shape) for path, leaf in flat.items()}
    )
    return tree["params"] if set(tree) == {"params"} else tree


def apply_of(row: Architecture) -> Callable[..., Any]:
    """Returns the network as a function `(theta, *inputs) -> outputs`."""
    if row.style == "nnx":
        return _apply_nnx(row)
    model = row.build()
    bare = set(_shapes(row)) == {"params"}

    def apply(theta: Theta, *inputs: jax.Array) -> Any:
        variables = {"params": theta} if bare else theta
        with jax.numpy_rank_promotion("allow"):
            return model.apply(variables, *inputs)

    return apply


def _apply_nnx(row: Architecture) -> Callable[..., Any]:
    def apply(theta: Theta, *inputs: jax.Array) -> Any:
        graph, weights, rest = _split(row)
        # By name: `nnx.merge` alone would go by position.
        nnx.replace_by_pure_dict(weights, nnx.restore_int_paths(theta))
        with jax.numpy_rank_promotion("allow"):
            return nnx.merge(graph, weights, *rest)(*inputs)

    return apply
