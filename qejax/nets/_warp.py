"""Signals moved in space, by the weights of the networks that hold them."""

from qejax import _trees
from qejax._typing import Array, Float, Theta
from qejax.nets._coordinate_config import CoordinateConfig
from qejax.nets._network import Network


def warp(
    network: Network,
    theta: Theta,
    matrix: Float[Array, "n n"],
    shift: Float[Array, " n"],
) -> Theta:
    """Returns weights of `x -> f(A x + t)`: the signal turned, zoomed or shifted.

    `W_1' = A^T W_1` and `b_1' = b_1 + W_1^T t`; all other weights stay. Exact, and
    differentiable: a way to learn from more signals than were fitted. Outside of the
    coordinates that it was fitted at, a network shows what it extrapolates.

    Args:
        network: reads bare coordinates, as `coordinate` without `octaves`.
        theta: weights of one network.
        matrix: `A`, `[n_0, n_0]`.
        shift: `t`, `[n_0]`, in units of the coordinates.

    Returns:
        Weights as `theta`, in its dtype.

    Raises:
        ValueError: if the first layer does not read bare coordinates, or the sizes of
            `matrix` and `shift` are not its number.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from qejax import nets
        >>> net, x = nets.coordinate((2, 8, 1)), nets.grid(4, 4)
        >>> theta = net.init(jax.random.key(0))
        >>> upside_down = nets.warp(net, theta, -jnp.eye(2), jnp.zeros(2))
        >>> bool(jnp.allclose(net.apply(upside_down, x), net.apply(theta, -x)))
        True
    """
    config = network.config
    if not isinstance(config, CoordinateConfig) or config.octaves:
        raise ValueError(
            f"warp: expected a coordinate network that reads bare coordinates, got "
            f"{config}. Fit one with octaves=0."
        )
    n = config.widths[0]
    if matrix.shape != (n, n) or shift.shape != (n,):
        raise ValueError(
            f"warp: expected a matrix {(n, n)} and a shift {(n,)}, got "
            f"{tuple(matrix.shape)} and {tuple(shift.shape)}."
        )
    kernel, bias = network.layers[0].leaves
    flat = _trees.flatten(theta)
    read = flat[kernel.path]
    moved = {
        kernel.path: matrix.astype(read.dtype).T @ read,
        bias.path: flat[bias.path] + shift.astype(read.dtype) @ read,
    }
    return _trees.nest({**flat, **moved})
