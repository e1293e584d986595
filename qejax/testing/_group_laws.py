"""Is a bundle of functions a group, and does it act?"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax._typing import Array, PRNGKeyArray
from qejax.groups import Group
from qejax.testing._report import Control, Report, relative, tolerance_for


def group_laws(
    group: Group,
    size: int = 6,
    key: PRNGKeyArray | None = None,
    *,
    spread: float = 10.0,
    dtype: DTypeLike = jnp.float32,
    tolerance: float | None = None,
) -> Report:
    """Reports how far a group is from its axioms, and its action from an action.

    By part: identity, inverse, associativity, and for powers 1 and -2 (matrix groups:
    1 and -1) the left action `move(mul(h, g), x) == move(h, move(g, x))` and the matrix
    of `move`. Integer parts of elements (permutations) must agree exactly, scales entry
    by entry, matrices relative to their largest entry. Controls: elements move units,
    and differ from each other.

    Args:
        group: the bundle.
        size: number of units; even for pairs of units (`rotary`), and large enough for
            the group to have many elements.
        key: consumed; `jax.random.key(0)` by default.
        spread: given to `group.sample`. Matrices of condition number `spread` lose as
            many digits in a product of two as `spread ** 2` has.
        dtype: of the scales.
        tolerance: of the gap; 1e-10 in float64 and 1e-4 in float32 by default.

    Returns:
        The numbers; a permutation that differs is an infinite gap.

    Raises:
        ValueError: if a sample, a product or an inverse is no element
            (`group.check`), or the group cannot move `size` units.

    Example:
        >>> from qejax.groups import GROUPS
        >>> group_laws(GROUPS["positive_scale"]).passed
        True
    """
    key = jax.random.key(0) if key is None else key
    keys = jax.random.split(key, 4)
    f, g, h = (group.sample(one, size, spread, dtype) for one in keys[:3])
    x = jax.random.normal(keys[3], (2, size), dtype)
    e, mul, inv = group.identity(size, dtype), group.mul, group.inv
    moves = group.matrix(e, 1).shape[0]
    if moves != size:
        raise ValueError(
            f"group_laws of {group.name!r}: expected a number of units that its "
            f"elements can move, got size={size}, of which they move {moves}."
        )
    for element in (e, g, mul(h, g), inv(g)):
        group.check(element, size)
    parts = _parts(group, (f, g, h), e, x)
    tolerance = tolerance_for(x, tolerance)
    floor = 10 * tolerance
    moved = [group.move(element, x, 1, 1) for element in (g, h)]
    trivial = "A group that does nothing obeys every axiom. Use more units."
    worst = max(parts, key=lambda name: parts[name])
    return Report(
        f"group_laws of {group.name!r}",
        f"the axioms on {size} units",
        max(parts.values()),
        tolerance,
        parts,
        (
            Control(
                "the change of units under g", relative(moved[0], x), floor, trivial
            ),
            Control(
                "the difference of two random elements",
                relative(moved[0], moved[1]),
                floor,
                "Samples are all the same element. Check `sample`.",
            ),
        ),
        f"Look at {worst}.",
    )


def _parts(
    group: Group, three: tuple[Any, Any, Any], e: Any, x: Array
) -> dict[str, float]:
    """The gap by axiom, for three elements and units `x: [N, n]`."""
    (f, g, h), mul, inv = three, group.mul, group.inv
    powers, gap = ((1, -1), relative) if group.monomial is None else ((1, -2), _gap)
    parts = {
        "identity": max(gap(mul(e, g), g), gap(mul(g, e), g)),
        "inverse": max(gap(mul(inv(g), g), e), gap(mul(g, inv(g)), e)),
        "associativity": gap(mul(mul(h, g), f), mul(h, mul(g, f))),
    }
    for power in powers:
        once = group.move(g, x, 1, power)
        twice = group.move(h, once, 1, power)
        both = group.move(mul(h, g), x, 1, power)
        parts[f"action, power {power}"] = gap(both, twice)
        by_matrix = jnp.matmul(x, group.matrix(g, power).T, precision="highest")
        parts[f"matrix, power {power}"] = gap(by_matrix, once)
    return parts


def _gap(got: Any, expected: Any) -> float:
    """Relative for floats; infinite where integers differ."""
    gaps = []
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(a.dtype, jnp.integer):
            gaps.append(0.0 if np.array_equal(a, b) else float("inf"))
        else:
            size = np.maximum(np.abs(np.asarray(b)), np.finfo(b.dtype).tiny)
            gaps.append(float(np.max(np.abs(np.asarray(a) - np.asarray(b)) / size)))
    return max(gaps)


def assert_group_laws(
    group: Group, size: int = 6, key: PRNGKeyArray | None = None, **options: Any
) -> None:
    """Raises unless the group obeys its axioms; arguments as `group_laws`.

    Raises:
        AssertionError: names the gap by axiom, or the control that saw nothing.
    """
    group_laws(group, size, key, **options).check()
