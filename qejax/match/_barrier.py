"""What lies on the straight line between two networks."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from qejax._typing import Array, Float, Scalar, Theta


class Barrier(NamedTuple):
    """Losses between two networks.

    Attributes:
        at: `[K]`, from 0 (the first network) to 1 (the second).
        losses: `[K]`, in the unit of the loss.
        height: the largest loss above the straight line between those of both ends, 0
            if it is nowhere above it.
    """

    at: Float[Array, " K"]
    losses: Float[Array, " K"]
    height: Scalar


def barrier(
    loss: Callable[[Theta], Scalar], theta_a: Theta, theta_b: Theta, points: int = 25
) -> Barrier:
    """Returns the losses on the line from one network to another one.

    One pair, no batch axis (batch with `jax.vmap`).

    Args:
        loss: of the weights of one network.
        theta_a: the first network.
        theta_b: the second, aligned to the first or not.
        points: `K`, ends included.

    Raises:
        ValueError: if `points` is less than 3, or the networks differ in shape.

    Source:
        Frankle et al. 2020, arXiv:1912.05671 (linear mode connectivity); as in
        Ainsworth et al. 2023, arXiv:2209.04836, definition 2.2.

    Example:
        >>> one = jnp.array(1.0)
        >>> print(barrier(lambda x: (x**2 - 1) ** 2, -one, one).height)
        1.0
    """
    if points < 3:
        raise ValueError(
            f"barrier(points=...): expected at least 3, both ends and one between, got "
            f"{points}."
        )
    check_alike(theta_a, theta_b)
    at = jnp.linspace(0, 1, points)
    losses = jax.lax.map(lambda t: loss(between(theta_a, theta_b, t)), at)
    straight = (1 - at) * losses[0] + at * losses[-1]
    return Barrier(at, losses, jnp.max(losses - straight))


def between(theta_a: Theta, theta_b: Theta, t: Scalar) -> Theta:
    """Returns `(1 - t) theta_a + t theta_b`, leaf by leaf; half way the average.

    Raises:
        ValueError: if the networks differ in shape.
    """
    check_alike(theta_a, theta_b)
    return jax.tree.map(lambda a, b: (1 - t) * a + t * b, theta_a, theta_b)


def check_alike(theta_a: Theta, theta_b: Theta) -> None:
    """Raises unless two networks have the same arrays of the same shapes."""
    a, b = (jax.tree.map(jnp.shape, theta) for theta in (theta_a, theta_b))
    if a != b:
        raise ValueError(
            f"expected two networks of one architecture, got the shapes {a} and {b}. "
            f"Only weights of the same shapes have a line between them."
        )
