"""Which sizes of units make a loss smaller on average around where they are.

Training a ReLU network is no continuous function of the weights that it begins with: a
unit that is switched by another weight changes every step behind it. Gradients through
unrolled steps do not see these jumps, and their mean may have the wrong sign where
learning rates are as large as they can be. Losses on both sides of a point do see them
(antithetic evolution strategies, Vicol et al. 2021, arXiv:2112.13835, equation 2).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from qejax import gauges, spaces
from qejax._typing import Array, PRNGKeyArray, Scalar, Theta
from qejax.spaces import Elements, WeightSpec


class Noise(NamedTuple):
    """How far from a point losses are measured, as logarithms of sizes.

    Attributes:
        space: standard deviation of what all units of a unit space share.
        unit: of what each unit has for itself.
        pairs: of points on both sides.
    """

    space: float
    unit: float
    pairs: int


def smoothed(
    spec: WeightSpec,
    element: Elements,
    theta: Theta,
    loss: Callable[[Theta], Scalar],
    noise: Noise,
    key: PRNGKeyArray,
) -> Scalar:
    """Returns the mean loss around `element theta`.

    Its gradient by `element` is that of the mean over the noise, by the logarithms `x`
    of the sizes of units: the mean over pairs of `(L(x + e) - L(x - e)) / 2 C^-1 e`,
    with `C` the covariance of the noise `e`. Nothing is differentiated through `loss`.

    Args:
        spec: of a network whose unit spaces are all of the group "positive_scale".
        element: of its group.
        theta: weights of one network.
        loss: of weights.
        noise: how far.
        key: decides the noise.
    """
    here = lax.stop_gradient(spaces.act(spec, element, theta))

    def beside(logs: dict[str, Array]) -> Scalar:
        g = {
            name: gauges.SIZES["positive_scale"](jnp.exp(x)) for name, x in logs.items()
        }
        return loss(spaces.act(spec, g, here))

    def pair(key: PRNGKeyArray) -> tuple[Scalar, dict[str, Array]]:
        keys = jax.random.split(key, len(spec.spaces))
        drawn = {
            space.name: _drawn(own, space.size, noise)
            for own, space in zip(keys, spec.spaces, strict=True)
        }
        logs = {name: x for name, (x, _) in drawn.items()}
        up, down = beside(logs), beside(jax.tree.map(jnp.negative, logs))
        slope = {name: (up - down) / 2 * x for name, (_, x) in drawn.items()}
        return (up + down) / 2, slope

    values, slopes = lax.map(pair, jax.random.split(key, noise.pairs))
    value, slope = lax.stop_gradient((jnp.mean(values), slopes))
    felt = jnp.zeros_like(value)
    for name, x in slope.items():
        log = jnp.log(element[name].scale)
        felt = felt + jnp.sum(jnp.mean(x, 0) * (log - lax.stop_gradient(log)))
    return value + felt


def _drawn(key: PRNGKeyArray, size: int, noise: Noise) -> tuple[Array, Array]:
    """Noise `e` of the units of one unit space, and `C^-1 e`."""
    shared, own = jax.random.split(key)
    e = noise.space * jax.random.normal(shared, (1,))
    e = e + noise.unit * jax.random.normal(own, (size,))
    mean = jnp.mean(e)
    total: Any = noise.unit**2 + size * noise.space**2
    return e, (e - mean) / noise.unit**2 + mean / total
