"""Does a map of weights see what it should?"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import numpy as np

from qejax import spaces
from qejax._typing import PRNGKeyArray, Theta
from qejax.spaces import WeightSpec
from qejax.testing._draws import (
    act_one_sided,
    draw_elements,
    has_one_side,
    movable,
    unrelated,
)
from qejax.testing._report import (
    Control,
    Report,
    check_finite,
    relative,
    tolerance_for,
)

_UNRELATED = 4


def sensitive(
    fn: Callable[[Theta], Any],
    spec: WeightSpec,
    theta: Theta,
    key: PRNGKeyArray,
    *,
    spread: float = 10.0,
    floor: float | None = None,
) -> Report:
    """Reports whether `fn` sees each leaf, and each unit space moved on one side.

    There is no gap here, only controls, relative to the spread of `fn` over unrelated
    weights: that spread itself; for each leaf, the change of `fn` when it is redrawn;
    for each unit space, the change when only the leaves that write it are moved, which
    makes another function (left out where its readers do not feel the element drawn, as
    a sign of gaussians), and for each shift, the change when it is added without its
    routes. A leaf that shifts move without a route (a key bias) is left out: no
    invariant map sees it.

    Args:
        fn: `theta -> y`, a tree of arrays.
        spec: of `theta`.
        theta: weights of one network.
        key: consumed.
        spread: positive scales are drawn from `[1 / spread, spread]`, matrices with
            this condition number.
        floor: what every change must exceed; 1e-9 in float64, 1e-3 in float32 by
            default.

    Returns:
        The numbers, one control each.

    Raises:
        ValueError: if `theta` does not fit `spec`, or nothing in it can be moved.
        AssertionError: if `fn` returns other shapes, dtypes or non-finite numbers.
    """
    spaces.check_theta(spec, theta)
    key_element, key_leaves, *keys = jax.random.split(key, 2 + _UNRELATED)
    floor = 10 * tolerance_for(theta, None) if floor is None else floor
    out = check_finite("output of the map given to sensitive", fn(theta))

    def run(weights: Theta) -> Any:
        y = fn(weights)
        chex.assert_trees_all_equal_shapes_and_dtypes(y, out)
        return check_finite("output of the map given to sensitive", y)

    others = [run(unrelated(one, theta)) for one in keys]
    size = jax.tree.map(lambda *ys: np.std(np.stack(ys), axis=0), out, *others)
    changed = jax.tree.map(lambda s: np.zeros_like(s), size)
    controls = [
        Control(
            "the spread of the outputs over unrelated weights",
            relative(size, changed, others[0]),
            floor,
            "The map is constant: it tells no two networks apart. Check that it reads "
            "its input and that its parameters are not zero.",
        )
    ]
    old, new = (spaces.views(spec, t) for t in (theta, unrelated(key_leaves, theta)))
    free = {shift.leaf for shift in spec.shifts if not shift.routes}
    for leaf in spec.leaves:
        if leaf.path in free:
            continue
        other = {**old, leaf.path: new[leaf.path]}
        controls.append(
            Control(
                f"the change when leaf {leaf.path!r} is redrawn",
                relative(run(spaces.from_views(spec, other, theta)), out, size),
                floor,
                "The map does not read it. Check that its paths reach every leaf.",
            )
        )
    g = draw_elements(key_element, spec, spread, jax.tree.leaves(theta)[0].dtype)
    for name in movable(spec, g):
        if has_one_side(spec, g, name, theta):
            change = relative(run(act_one_sided(spec, g, name, theta)), out, size)
            controls.append(_one_sided_control(spec, name, change, floor))
    return Report("sensitive", "fn tells networks apart", 0.0, 0.0, {}, tuple(controls))


def _one_sided_control(
    spec: WeightSpec, name: str, change: float, floor: float
) -> Control:
    return Control(
        f"the change when only the leaves that write {name!r} are moved"
        if name in spec.space_by_name
        else f"the change when shift {name!r} is added without its routes",
        change,
        floor,
        "The map treats leaves one by one, and so takes different functions for the "
        "same. Check that it couples the leaves of a unit space.",
    )


def assert_sensitive(
    fn: Callable[[Theta], Any],
    spec: WeightSpec,
    theta: Theta,
    key: PRNGKeyArray,
    **options: Any,
) -> None:
    """Raises unless `fn` sees every leaf and unit space; arguments as `sensitive`.

    Raises:
        AssertionError: names the leaf or the unit space that `fn` does not see.
    """
    sensitive(fn, spec, theta, key, **options).check()
