"""Is the symmetry of a spec a symmetry of the network that it describes?"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from qejax import spaces
from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.spaces import WeightSpec
from qejax.testing._draws import (
    act,
    act_one_sided,
    draw_elements,
    has_one_side,
    movable,
    only,
)
from qejax.testing._report import (
    Control,
    Report,
    check_finite,
    relative,
    tolerance_for,
)


def function_kept(
    apply: Callable[[Theta, Array], Any],
    spec: WeightSpec,
    theta: Theta,
    x: Array,
    key: PRNGKeyArray,
    *,
    spread: float = 10.0,
    tolerance: float | None = None,
) -> Report:
    """Reports how far `apply(act(spec, g, theta), x)` is from `apply(theta, x)`.

    The gap is relative to how far the outputs vary over `x`. Controls: the outputs do
    vary, the weights do move, and for every unit space, an element that only the leaves
    that *write* the space feel does change the outputs (left out where readers do not
    feel it, as flips of gaussians). Likewise for shifts that have routes, without them.

    Args:
        apply: `(theta, x) -> y`; `y` is a tree of arrays `[N, ...]`.
        spec: of `theta`.
        theta: weights of one network; at zero or dead units the controls fail.
        x: `[N, ...]`, at least two different data points.
        key: consumed.
        spread: positive scales are drawn from `[1 / spread, spread]`, matrices with
            this condition number.
        tolerance: of the gap; 1e-10 in float64 and 1e-4 in float32 by default.

    Returns:
        The numbers; `report.passed`, `report.message()`.

    Raises:
        ValueError: if `theta` does not fit `spec`, or nothing in it can be moved.
        AssertionError: if outputs do not have `N` rows or are not finite.

    Example:
        >>> from qejax import nets
        >>> net, key = nets.mlp((4, 8, 3), activation="relu"), jax.random.key(0)
        >>> theta, x = net.init(key), jax.random.normal(key, (32, 4))
        >>> report = function_kept(net.apply, net.spec, theta, x, key)
        >>> report.passed, sorted(report.parts)
        (True, ['hidden_0'])
    """
    spaces.check_theta(spec, theta)
    dtype = jax.tree.leaves(theta)[0].dtype

    def run(weights: Theta) -> Any:
        y = apply(weights, x)
        chex.assert_tree_shape_prefix(y, (x.shape[0],))
        return check_finite("outputs of apply(theta, x)", y)

    before = run(theta)
    varies = jax.tree.map(lambda y: y - y.mean(axis=0, keepdims=True), before)
    g = draw_elements(key, spec, spread, dtype)
    names = movable(spec, g)
    moved = act(spec, g, theta)
    parts = {
        name: relative(run(act(spec, only(spec, g, name), theta)), before, varies)
        for name in names
    }
    tolerance = tolerance_for(theta, tolerance)
    controls = _inert_controls(
        relative(varies, jax.tree.map(jnp.zeros_like, before), before),
        relative(moved, theta),
        10 * tolerance,
    )
    for name in names:
        if has_one_side(spec, g, name, theta):
            wrong = run(act_one_sided(spec, g, name, theta))
            change = relative(wrong, before, varies)
            controls.append(_one_sided_control(spec, name, change, 10 * tolerance))
    return Report(
        "function_kept",
        "apply(act(spec, g, theta), x) == apply(theta, x), relative to the variation "
        "of the outputs over x",
        relative(run(moved), before, varies),
        tolerance,
        parts,
        tuple(controls),
        _advice(spec, max(parts, key=lambda name: parts[name])),
    )


def _advice(spec: WeightSpec, worst: str) -> str:
    if worst in spec.space_by_name:
        return (
            f"Look at the leaves around unit space {worst!r}: their axes, their "
            f"powers, and whether its group is the symmetry of its activation."
        )
    return (
        f"Look at shift {worst!r}: whether all that reads its leaf has a route, and "
        f"nothing nonlinear stands between."
    )


def _inert_controls(variation: float, moved: float, floor: float) -> list[Control]:
    return [
        Control(
            "the variation of the outputs over x",
            variation,
            floor,
            "apply returns the same for every input: a constant function is kept by "
            "anything. Use other weights, or different inputs.",
        ),
        Control(
            "the change of the weights under g",
            moved,
            floor,
            "The element moves nothing. Use weights that are not zero.",
        ),
    ]


def _one_sided_control(
    spec: WeightSpec, name: str, change: float, floor: float
) -> Control:
    if name in spec.space_by_name:
        return Control(
            f"the change of the outputs when only the leaves that write {name!r} are "
            f"moved",
            change,
            floor,
            f"Units of {name!r} are dead, or nothing reads them: the check is blind to "
            f"them. Use other weights, or more inputs.",
        )
    return Control(
        f"the change of the outputs when shift {name!r} is added without its routes",
        change,
        floor,
        "What reads its leaf is dead: the check is blind to it. Use other weights, or "
        "more inputs.",
    )


def assert_function_kept(
    apply: Callable[[Theta, Array], Any],
    spec: WeightSpec,
    theta: Theta,
    x: Array,
    key: PRNGKeyArray,
    **options: Any,
) -> None:
    """Raises unless every element of the group of `spec` keeps the function.

    Args:
        apply: as `function_kept`, and so are the others.
        spec: of `theta`.
        theta: weights of one network.
        x: `[N, ...]`.
        key: consumed.
        **options: `spread`, `tolerance`.

    Raises:
        AssertionError: names the gap by unit space, or the control that saw nothing.
    """
    function_kept(apply, spec, theta, x, key, **options).check()
