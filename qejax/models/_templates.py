"""How close a network is to the good ones of the training split.

The template of a sketch is its mean over the training networks, weighted by the fourth
power of the rank of their labels; a network is compared with it by inner product, and
placed along the principal directions of the sketches. For a network of the training
split its own share is taken out of the template first, or the comparison would tell its
label.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from qejax._typing import Array, Float
from qejax.models._statistics import norm

POWER = 4


class Template(NamedTuple):
    """Constants of one sketch.

    Attributes:
        good: `[D]`, the weighted mean.
        mean: `[D]`.
        directions: `[D, p]`, orthonormal columns.
    """

    good: Array
    mean: Array
    directions: Array


def empty_template(size: int, components: int) -> Template:
    """Returns the template that compares to nothing."""
    zero = jnp.zeros(size, jnp.float32)
    return Template(zero, zero, jnp.zeros((size, components), jnp.float32))


def fit_template(
    sketches: np.ndarray, labels: np.ndarray, components: int
) -> tuple[Template, np.ndarray]:
    """Returns the template, and the comparison of the training networks with it.

    Args:
        sketches: `[B, D]`, of the training split.
        labels: `[B]`; higher is better.
        components: number of directions, `p`.

    Returns:
        The template and `[B, 1 + p]`, each network compared with the others only.
    """
    x = np.nan_to_num(np.asarray(sketches, np.float64))
    ranks = np.argsort(np.argsort(labels, kind="stable"), kind="stable") + 1
    weights = (ranks / len(ranks)) ** POWER
    weights = weights / weights.sum()
    good = weights @ x
    others = (good[None, :] - weights[:, None] * x) / (1 - weights)[:, None]
    close = (others * x).sum(1) / _norms(x)
    mean = x.mean(0)
    _, _, rows = np.linalg.svd(x - mean, full_matrices=False)
    directions = np.zeros((x.shape[1], components))
    found = min(components, rows.shape[0])
    directions[:, :found] = rows[:found].T
    read = np.concatenate([close[:, None], (x - mean) @ directions], 1)
    as_float = [jnp.asarray(part, jnp.float32) for part in (good, mean, directions)]
    return Template(*as_float), read


def compare(template: Template, sketch: Float[Array, " D"]) -> Float[Array, " p1"]:
    """Returns the comparison of one network outside the training split, `[1 + p]`."""
    good, mean, directions = (part.astype(sketch.dtype) for part in template)
    size = norm(sketch, 0) + 1e-9
    close = sketch @ good / size
    return jnp.concatenate([close[None], (sketch - mean) @ directions])


def _norms(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x, axis=1) + 1e-9
