"""Weights and group elements by NumPy, and how far elements bring a function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax import groups, spaces
from qejax.spaces import Elements, WeightSpec
from tests.layer_specs import fast_jit


def drawn(shapes: Any, seed: int = 0) -> Any:
    """Random weights, biases included, so that no unit or shift is idle."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.5, s.shape)), shapes)


def element_of(spec: WeightSpec, seed: int = 3) -> Elements:
    """A random element; matrices are far from orthogonal and not ill-conditioned."""
    rng = np.random.default_rng(seed)
    scales: dict[str, Callable[[tuple[int, ...]], np.ndarray]] = {
        "permutation": np.ones,
        "positive_scale": lambda shape: np.exp(rng.uniform(-2, 2, shape)),
        "sign": lambda shape: rng.choice([-1.0, 1.0], shape),
    }
    g: Elements = {}
    for space in spec.spaces:
        shape = (*spec.per_size(space), space.size)
        if space.group in scales:
            perm = np.argsort(rng.normal(size=shape), axis=-1)
            g[space.name] = groups.Monomial(
                jnp.asarray(perm), jnp.asarray(scales[space.group](shape))
            )
        elif space.group == "rotary":
            shape = (*shape[:-1], space.size // 2, 2)
            g[space.name] = jnp.asarray(rng.normal(size=shape))
        else:
            assert space.group in ("general_linear", "absorbed"), space
            noise = rng.uniform(-0.5, 0.5, (*shape, space.size)) / space.size
            sizes = np.exp(rng.uniform(-1, 1, shape))[..., None]
            g[space.name] = jnp.asarray(sizes * (np.eye(space.size) + noise))
    for shift in spec.shifts:
        g[shift.name] = jnp.asarray(rng.normal(size=spec.shift_size(shift)))
    return g


def gaps(
    apply: Callable[..., Any], theta: Any, x: Any, *specs: WeightSpec
) -> list[float]:
    """How far an element of each spec brings the outputs; one program for all."""

    def run(theta: Any, x: Any, elements: list[Elements]) -> list[jax.Array]:
        moved = [
            spaces.act(spec, g, theta) for spec, g in zip(specs, elements, strict=True)
        ]
        # One network in the program, however many weights it is run with.
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), theta, *moved)
        y, *others = jax.vmap(apply, (0, None))(stacked, x)
        return [jnp.max(jnp.abs(other - y)) / jnp.std(y) for other in others]

    found = fast_jit(run)(theta, x, [element_of(spec) for spec in specs])
    return [float(gap) for gap in found]
