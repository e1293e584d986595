"""Vectors that say what a network computes, to be compared between networks.

A sketch keeps the order of the outputs and is scaled to unit norm. Networks that do
well on one task resemble one another: `_templates.py` measures how close a network is
to the good ones of the training split, and along which directions it differs. All are
exact invariants of the network's group.
"""

import jax
import jax.numpy as jnp
import numpy as np

from qejax._finite import root
from qejax._typing import Array, Float
from qejax.models._statistics import norm

GRID = 5
"""Side of the grid that composed filters are averaged to."""


def filter_sketch(composed: Float[Array, "n_L ..."]) -> Float[Array, " D"]:
    """Returns the composed filters of the outputs, averaged to a coarse grid.

    Centred over the outputs, as a softmax is. Inputs without spatial axes are kept as
    they are.
    """
    filters = composed - composed.mean(0, keepdims=True)
    if filters.ndim == 4:
        for axis in (1, 2):
            rows = jnp.asarray(_averages(filters.shape[axis]), filters.dtype)
            filters = jnp.moveaxis(
                jnp.tensordot(rows, filters, axes=(1, axis)), 0, axis
            )
    return _unit(filters.reshape(-1))


def class_sketch(kernel: Float[Array, "m n_L"]) -> Float[Array, " D"]:
    """Returns the cosines between the columns of the last kernel, centred.

    Which outputs a network takes for alike is a mark of the data that it has learned.

    Args:
        kernel: of the outputs; all axes but the last flattened.
    """
    flat = kernel.reshape(-1, kernel.shape[-1])
    cosines = _cosines(flat - flat.mean(1, keepdims=True))
    return cosines - cosines.mean() if cosines.shape[0] else cosines


def output_sketch(outputs: Float[Array, "N n_L"]) -> Float[Array, " D"]:
    """Returns the outputs on probes, centred over outputs and probes."""
    logits = outputs - outputs.mean(1, keepdims=True)
    return _unit((logits - logits.mean(0, keepdims=True)).reshape(-1))


def probability_sketch(outputs: Float[Array, "N n_L"]) -> Float[Array, " D"]:
    """Returns the direction of the probabilities on every probe, away from uniform."""
    top = jax.lax.stop_gradient(outputs.max(1, keepdims=True))
    shifted = jnp.exp(outputs - top)
    away = shifted / shifted.sum(1, keepdims=True) - 1 / outputs.shape[1]
    size = norm(away, 1)[:, None]
    return (away / (size + 1e-9)).reshape(-1)


def _averages(size: int) -> np.ndarray:
    """`[g, size]`: means of `g` nearly equal runs of positions."""
    runs = np.array_split(np.arange(size), min(GRID, size))
    matrix = np.zeros((len(runs), size))
    for row, run in enumerate(runs):
        matrix[row, run] = 1 / len(run)
    return matrix


def _cosines(columns: Array) -> Array:
    gram = columns.T @ columns
    size = root(jnp.diagonal(gram)) + 1e-9
    cosines = gram / size[:, None] / size[None, :]
    return cosines[np.triu_indices(gram.shape[0], 1)]


def _unit(x: Array) -> Array:
    """Returns the direction of a vector, at any size; zero for zero."""
    # The direction does not depend on it, and ties have no gradient of their own.
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    x = x / jnp.where(top > 0, top, 1)
    size = norm(x, 0)
    return x / jnp.where(size > 0, size, 1)
