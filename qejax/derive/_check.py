"""Does what was derived keep the function? On numbers, in float64."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax import spaces
from qejax._typing import Theta
from qejax.derive._draw import draw_element
from qejax.derive._trace import is_key
from qejax.spaces import Elements, Leaf, WeightSpec

TOLERANCE = 1e-10
"""Of the change of outputs, relative to their largest entry, in float64."""

MOST_COMPILED = 200
"""Leaves of a spec whose action is compiled as one; of others, operation by operation.

Compiling takes longer than running, and operations of repeated blocks compile once."""

PLAINLY: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
"""Options of programs that run once."""

_compiled = jax.jit(spaces.act, static_argnums=0, compiler_options=PLAINLY)

Run = Callable[..., list[Any]]
"""`(theta, *inputs) -> leaves of the outputs`."""


def worst_gap(
    run: Run,
    spec: WeightSpec,
    theta: Theta,
    inputs: Sequence[Any],
    free: tuple[dict[int, Leaf], dict[int, Leaf]],
    samples: int,
) -> tuple[float, str]:
    """Returns the largest change of the outputs under elements of the group.

    Args:
        run: the function.
        spec: its weight space.
        theta: generic weights, float64.
        inputs: leaves of the inputs.
        free: how inputs and outputs move, by number; those that are missing do not.
        samples: elements that are drawn.

    Returns:
        The gap, relative to the largest output, and the name of the unit space or shift
        that makes it if there is one beyond the tolerance.
    """
    if not (spec.spaces or spec.shifts):
        return 0.0, ""
    before = run(theta, *inputs)
    worst, name = 0.0, ""
    draw = np.random.default_rng(0)
    for _ in range(samples):
        g = draw_element(draw, spec)
        gap = _gap(run, spec, g, theta, inputs, free, before)
        if gap > worst:
            worst = gap
            if gap > TOLERANCE:
                name = _guilty(run, spec, g, theta, inputs, free, before)
    return worst, name


def rounding(run: Run, theta: Theta, inputs: Sequence[Any]) -> float:
    """Returns how far outputs move if every weight is rounded differently.

    Relative to the largest output. Of a function that amplifies rounding beyond the
    tolerance, a change of the outputs tells nothing of the group.
    """
    draw = np.random.default_rng(1)
    before = run(theta, *inputs)
    worst = 0.0
    for _ in range(ROUNDINGS):
        near = jax.tree.map(
            lambda w: w * (1 + _EPS * draw.choice(_SIDES, w.shape)), theta
        )
        worst = max(worst, _change(before, run(near, *inputs)))
    return worst


_EPS = float(np.finfo(np.float64).eps)
_SIDES = (-1.0, 1.0)

ROUNDINGS = 3
"""Draws of other roundings."""

AMPLIFIED = 1e3
"""A group's element rounds weights as often: changes up to as many times what one
rounding makes are rounding."""


def _guilty(
    run: Run,
    spec: WeightSpec,
    g: Elements,
    theta: Theta,
    inputs: Sequence[Any],
    free: tuple[dict[int, Leaf], dict[int, Leaf]],
    before: list[Any],
) -> str:
    """The part of an element that changes the outputs most."""
    e = spaces.identity(spec, jnp.float64)
    gaps = {
        name: _gap(run, spec, {**e, name: g[name]}, theta, inputs, free, before)
        for name in g
    }
    return max(gaps, key=lambda name: gaps[name])


def _gap(
    run: Run,
    spec: WeightSpec,
    g: Elements,
    theta: Theta,
    inputs: Sequence[Any],
    free: tuple[dict[int, Leaf], dict[int, Leaf]],
    before: list[Any],
) -> float:
    moved = [_moved(spec, g, free[0].get(n), x) for n, x in enumerate(inputs)]
    act = _compiled if len(spec.leaves) <= MOST_COMPILED else spaces.act
    after = run(act(spec, g, theta), *moved)
    expected = [_moved(spec, g, free[1].get(n), y) for n, y in enumerate(before)]
    return _change(expected, after)


def _change(before: Sequence[Any], after: Sequence[Any]) -> float:
    """The largest difference, relative to the largest entry of each output."""
    gaps = [0.0]
    for y, z in zip(before, after, strict=True):
        if is_key(y):
            continue
        a, b = np.asarray(y, np.complex128), np.asarray(z, np.complex128)
        if not a.size or not np.all(np.isfinite(a)):
            continue
        if not np.all(np.isfinite(b)):
            return float("inf")
        size = max(float(np.max(np.abs(a))), 1e-300)
        gaps.append(float(np.max(np.abs(a - b))) / size)
    return max(gaps)


def _moved(spec: WeightSpec, g: Elements, leaf: Leaf | None, x: Any) -> Any:
    """An input or an output under the action, if it moves."""
    if leaf is None:
        return x
    alone = WeightSpec(spec.spaces, (leaf,))
    element = {space.name: g[space.name] for space in spec.spaces}
    return spaces.act(alone, element, {leaf.path: jnp.asarray(x, jnp.float64)})[
        leaf.path
    ]
