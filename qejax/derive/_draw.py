"""Random elements by NumPy: nothing is compiled for a check that runs once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax._typing import Theta
from qejax.groups import GROUPS, Dihedral, Monomial, fixed_ones_basis
from qejax.spaces import Elements, UnitSpace, WeightSpec

SPREAD = 10.0
"""Factors are drawn from `[1 / SPREAD, SPREAD]`, condition numbers up to it."""


def draw_element(draw: np.random.Generator, spec: WeightSpec) -> Elements:
    """Returns a random element of the group of a spec, float64."""
    g: Elements = {}
    for space in spec.spaces:
        lead = spec.per_size(space)
        many = [_one(draw, space) for _ in range(int(np.prod(lead, dtype=int)))]
        stacked = jax.tree.map(lambda *x: np.stack(x), *many) if lead else many[0]
        g[space.name] = jax.tree.map(jnp.asarray, stacked)
    for shift in spec.shifts:
        g[shift.name] = jnp.asarray(draw.normal(size=spec.shift_size(shift)))
    return g


def generic(theta: Theta, attempt: int = 0) -> Theta:
    """Weights near those given of which nothing is zero, or one, by accident.

    Args:
        theta: weights.
        attempt: others for each, and three times as far.
    """
    draw, far = np.random.default_rng(attempt), 0.1 * 3.0**attempt

    def one(x: Any) -> Any:
        numbers = np.asarray(x, np.float64)
        times = 1 + far * draw.normal(size=numbers.shape)
        near = numbers * times + far * draw.uniform(size=numbers.shape)
        return jnp.asarray(near, x.dtype)

    return jax.tree.map(one, theta)


def _one(draw: np.random.Generator, space: UnitSpace) -> Any:
    size, group = space.size, space.group
    if GROUPS[group].monomial is None:
        return _matrix(draw, size, group)
    perm: Any = draw.permutation(size)
    scale: Any = np.ones(size)
    if group == "positive_scale":
        scale = SPREAD ** draw.uniform(-1, 1, size)
    elif group in ("sign", "dihedral"):
        scale = draw.choice([-1.0, 1.0], size)
    if group == "dihedral":
        turns: Any = draw.integers(-3, 4, size, dtype=np.int32)
        return Dihedral(perm, scale, turns)
    return Monomial(perm, scale)


def _matrix(draw: np.random.Generator, size: int, group: str) -> np.ndarray:
    sizes = SPREAD ** draw.uniform(-0.5, 0.5, size)
    if group == "rotary":
        angles = draw.uniform(-np.pi, np.pi, size // 2)
        turned = np.stack([np.cos(angles), np.sin(angles)], -1)
        return sizes[: size // 2, None] * turned
    if group == "orthogonal":
        return _orthogonal(draw, size)
    if group == "orthogonal_ones":
        basis = fixed_ones_basis(size)
        return basis @ _orthogonal(draw, size - 1) @ basis.T + 1 / size
    return (_orthogonal(draw, size) * sizes) @ _orthogonal(draw, size)


def _orthogonal(draw: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(draw.normal(size=(size, size)))[0] * draw.choice([-1, 1], size)
