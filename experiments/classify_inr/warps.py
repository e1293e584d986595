"""Random moves of signals that change no class: turned, zoomed and shifted a little."""

import itertools
import math

import jax
import jax.numpy as jnp

from experiments.classify_inr.config import Config
from qejax._typing import Array, PRNGKeyArray


def draw(key: PRNGKeyArray, axes: int, config: Config) -> tuple[Array, Array]:
    """Returns a matrix `[axes, axes]` and a shift `[axes]`, as `qejax.nets.warp` takes.

    Lengths along every axis change by factors uniform in `1 +- zoom`, every pair of
    axes turns by an angle in `+- turn`, shifts are uniform in `+- shift`.

    Args:
        key: consumed.
        axes: coordinates of a signal.
        config: has the ranges.
    """
    own = jax.random.split(key, 3)
    sizes = 1 + config.zoom * jax.random.uniform(own[0], (axes,), minval=-1)
    pairs = list(itertools.combinations(range(axes), 2))
    turn = math.radians(config.turn)
    angles = turn * jax.random.uniform(own[1], (len(pairs),), minval=-1)
    matrix = jnp.diag(sizes)
    for (i, j), angle in zip(pairs, angles, strict=True):
        c, s = jnp.cos(angle), jnp.sin(angle)
        one, other = matrix[i], matrix[j]
        matrix = matrix.at[i].set(c * one - s * other).at[j].set(s * one + c * other)
    return matrix, config.shift * jax.random.uniform(own[2], (axes,), minval=-1)
