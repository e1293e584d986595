"""Directions that keep the function and are not in the derived group, counted."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax._typing import Theta
from qejax.derive._trace import is_key
from qejax.spaces import WeightSpec
from qejax.testing import Deficit, deficit

ROWS = 2
"""Entries of outputs that are looked at, per parameter: more tell nothing new."""

MOST_CALLS = 256
"""Calls of the function whose outputs are taken together."""


def deficit_of(
    run: Callable[..., Any],
    spec: WeightSpec,
    theta: Theta,
    inputs: Sequence[Any],
    felt: Sequence[bool],
    *,
    careful: bool = False,
) -> Deficit:
    """Counts directions on random inputs like those given, as many as it takes.

    Floating inputs are drawn with the mean and deviation of each, integers between the
    smallest and the largest; the shapes are kept, and the function is called for each.
    With `careful`, inputs without negative numbers are drawn without, and integers
    from those at the same place of the first axis.
    """

    def told(theta: Theta, *inputs: Any) -> list[Any]:
        """Outputs that depend on weights."""
        outputs = jax.tree.leaves(run(theta, *inputs))
        return [y for y, own in zip(outputs, felt, strict=True) if own]

    outputs = jax.eval_shape(told, theta, *inputs)
    count = sum(math.prod(y.shape) for y in outputs)
    calls = min(max(math.ceil(2 * spec.num_parameters / max(count, 1)), 2), MOST_CALLS)
    draw = np.random.default_rng(0)
    many = [_like(draw, x, calls, careful) for x in inputs]

    total = calls * count
    kept = draw.permutation(total)[: max(ROWS * spec.num_parameters, 64)]

    def stacked(theta: Theta, *many: Any) -> Any:
        found = jax.lax.map(lambda one: told(theta, *one), many)
        flat = [jnp.reshape(y, -1) for y in jax.tree.leaves(found)]
        flat = [y.real + 0.7 * y.imag if jnp.iscomplexobj(y) else y for y in flat]
        return jnp.concatenate([jnp.asarray(y, jnp.float64) for y in flat])[kept]

    return deficit(stacked, spec, theta, *many)


def _like(draw: np.random.Generator, x: Any, calls: int, careful: bool) -> Any:
    shape = (calls, *x.shape)
    if is_key(x):
        return jnp.broadcast_to(x, shape)
    x = np.asarray(x)
    if x.dtype.kind == "f":
        spread = float(np.std(x)) or 1.0
        numbers = np.mean(x) + spread * draw.normal(size=shape)
        return jnp.asarray(np.abs(numbers) if careful and np.min(x) >= 0 else numbers)
    if x.dtype.kind in "iu" and x.ndim and careful:
        rows = draw.integers(len(x), size=shape)
        return jnp.asarray(np.take_along_axis(x[None], rows, 1))
    if x.dtype.kind in "iu" and x.size:
        numbers = draw.integers(np.min(x), np.max(x), size=shape, endpoint=True)
        return jnp.asarray(numbers, x.dtype)
    return jnp.asarray(np.broadcast_to(x, shape))
