"""Functions of one network, mapped over stacks of any length by one compilation.

Stacks of a training, a validation and a test split have different lengths, and a
compiled program has one shape: stacks are cut into chunks of one length, the last one
filled up with copies of its last network.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from qejax.spaces import in_batches

SIZE = 64
"""Networks in a chunk."""

UNOPTIMISED = {"xla_backend_optimization_level": "0"}
"""For programs that run a few times at most: they compile in half of the time."""


def compiled_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `jax.jit(function)` for a function that runs once."""
    return jax.jit(function, compiler_options=UNOPTIMISED)


def chunked(
    function: Callable[[Any], Any],
    size: int = SIZE,
    options: dict[str, str] | None = None,
    mesh: Mesh | None = None,
) -> Callable[[Any], Any]:
    """Returns `function` of every network of a stack, in float64, as NumPy arrays.

    Args:
        function: of one network; compiled once.
        size: networks that are read together.
        options: of the compiler.
        mesh: whose devices share every chunk.

    Returns:
        A function from leaves `[B, ...]`, `B >= 1`, to stacked results `[B, ...]`.
    """
    compiled = jax.jit(jax.vmap(function), compiler_options=options)

    def of_stack(stack: Any) -> Any:
        with jax.enable_x64(True):
            return in_chunks(compiled, cast(stack, np.float64), size, mesh)

    return of_stack


def in_chunks(
    function: Callable[[Any], Any],
    stack: Any,
    size: int = SIZE,
    mesh: Mesh | None = None,
) -> Any:
    """Returns `function(stack)`, computed on chunks of `size` networks at a time.

    Args:
        function: from leaves `[size, ...]` to leaves `[size, ...]`, network by network.
        stack: leaves `[B, ...]`, `B >= 1`.
        size: networks in a chunk.
        mesh: whose devices share every chunk; see `spaces.in_batches`.

    Returns:
        NumPy arrays `[B, ...]`.
    """
    arrays = jax.tree.map(np.asarray, stack)
    return jax.device_get(in_batches(function, arrays, batch_size=size, mesh=mesh))


def cast(tree: Any, dtype: Any) -> Any:
    """Returns the floating leaves of a tree in another dtype, as NumPy arrays."""

    def one(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        return array.astype(dtype) if array.dtype.kind == "f" else array

    return jax.tree.map(one, tree)
