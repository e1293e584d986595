"""Which directions keep the function although the group of a spec lacks them?

To first order, weights can move along the null space of the Jacobian `J: [M, P]` of the
outputs with respect to the weights without any output changing. The group moves them
along its tangent space, which lies inside. What the one has beyond the other is missing
in the spec: `missing = dim ker J - dim T`. Zero means that the connected part of the
group is all there is, at these weights. Discrete parts (orders, signs) are not counted:
`qejax.testing.function_kept` checks those that there are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax import _trees, spaces
from qejax._typing import Array, Theta
from qejax.spaces import WeightSpec
from qejax.testing._report import check_finite
from qejax.testing._tangents import (
    check_double,
    count_clear,
    fast_jit,
    flat,
    span,
    tangents,
    unflat,
)
from qejax.testing._tolerance import tolerance_of

MAX_PARAMETERS = 6000
"""A singular value decomposition of as many rows takes minutes."""

_SEEN = 1e-6
"""A direction with less than this share of its length on an array does not move it:
what rounding leaves there is at most 1e-16 over a singular value that counts."""


@dataclass(frozen=True)
class Deficit:
    """How many directions keep the function, and how many of them a group has.

    Attributes:
        parameters: scalars in one network, `P`.
        null: dimension of the null space of the Jacobian of the outputs.
        orbit: dimension of the group's tangent space, at these weights.
        missing: `null - orbit`.
        leaves: by array of the weights, how many dimensions the missing directions have
            on it. They are taken orthogonal to the orbit; one that moves several arrays
            counts at each.
        gap: ratio of the two singular values around the threshold of the rank of the
            Jacobian; large if the rank is beyond doubt.
    """

    parameters: int
    null: int
    orbit: int
    missing: int
    leaves: Mapping[str, int]
    gap: float

    def counts(self) -> str:
        """What is missing, and where."""
        if self.missing == 0:
            return (
                f"all {self.null} directions that change no output are in the group, "
                f"of {self.parameters} parameters (gap {self.gap:.0e})"
            )
        found = sorted(self.leaves.items(), key=lambda item: -item[1])
        where = ", ".join(f"{path} {number}" for path, number in found if number)
        return (
            f"{self.missing} of {self.null} directions that change no output are not "
            f"in the group: {where}; {self.orbit} are, of {self.parameters} parameters "
            f"(gap {self.gap:.0e})"
        )

    def message(self) -> str:
        """What is missing, where, and what to look at."""
        if self.missing == 0:
            return self.counts()
        return (
            f"{self.counts()}. Weights that no output feels (dead units, what a mask "
            f"hides) are among them: try more inputs, then look at what reads and "
            f"writes these arrays."
        )


def deficit(
    apply: Callable[..., Any], spec: WeightSpec, theta: Theta, *inputs: Any
) -> Deficit:
    """Counts the directions that keep the function and are not in the group of a spec.

    Args:
        apply: `(theta, *inputs) -> outputs`, a tree of arrays of any shapes.
        spec: of `theta`.
        theta: generic weights of one network, of float64; at most 6,000 of them.
        *inputs: what `apply` takes besides; outputs should have clearly more entries
            than there are weights.

    Returns:
        The numbers; `report.missing`, `report.message()`.

    Raises:
        ValueError: if weights are not of float64 or too many, if outputs have too few
            entries, if derivatives are not finite, if the group does not keep the
            function (names the unit space), or if singular values leave a rank open.
        AssertionError: if outputs are not finite.

    Example:
        >>> from qejax import nets
        >>> net = nets.mlp((3, 4, 2), activation="leaky_relu")
        >>> draw = np.random.default_rng(0)
        >>> theta = jax.tree.map(lambda a: draw.normal(size=a.shape),
        ...                      net.spec.template())
        >>> with jax.enable_x64(True):
        ...     found = deficit(net.apply, net.spec, theta, draw.normal(size=(40, 3)))
        >>> found.parameters, found.null, found.orbit, found.missing
        (26, 4, 4, 0)
    """
    spaces.check_theta(spec, theta)
    check_double(theta, "deficit")
    total = spec.num_parameters
    if total > MAX_PARAMETERS:
        raise ValueError(
            f"deficit: expected at most {MAX_PARAMETERS} parameters, got {total}: the "
            f"null space takes a dense matrix of P * P. Use a narrower network of the "
            f"same architecture."
        )
    jacobian = _jacobian(apply, theta, inputs)
    parts = tangents(spec, theta)
    _check_inside(jacobian, parts)
    orbit = span(
        np.concatenate([np.zeros((total, 0)), *parts.values()], 1),
        "deficit: directions of the group",
    )
    if len(jacobian) < total - orbit.shape[1]:
        raise ValueError(
            f"deficit: outputs have {len(jacobian)} entries, too few to see "
            f"{total} parameters of which {orbit.shape[1]} are free: expected at least "
            f"{total - orbit.shape[1]}. Use more inputs."
        )
    null, gap = _null_space(jacobian)
    # Singular values are 0 for what the orbit has, and 1 for what it lacks.
    left, values, _ = np.linalg.svd(
        null - orbit @ (orbit.T @ null), full_matrices=False
    )
    beyond = left[:, values > 0.5]
    return Deficit(
        total,
        null.shape[1],
        orbit.shape[1],
        beyond.shape[1],
        _by_leaf(beyond, theta),
        gap,
    )


def _jacobian(apply: Callable[..., Any], theta: Theta, inputs: Any) -> np.ndarray:
    """Derivatives `[M, P]` of all floating outputs with respect to all weights."""

    def outputs(vector: Array, *inputs: Any) -> Array:
        y = jax.tree.leaves(apply(unflat(vector, theta), *inputs))
        floating = [one for one in y if jnp.issubdtype(one.dtype, jnp.floating)]
        return jnp.concatenate(
            [jnp.zeros(0), *(one.astype(float).reshape(-1) for one in floating)]
        )

    vector = flat(theta)
    try:
        y, derivatives = fast_jit(_by_columns(outputs))(vector, *inputs)
    except TypeError:  # A function with `jax.custom_vjp` has no other derivative.
        y, derivatives = fast_jit(_by_rows(outputs))(vector, *inputs)
    check_finite("outputs of apply(theta, *inputs)", y)
    jacobian = np.asarray(derivatives)
    bad = int(np.sum(~np.isfinite(jacobian)))
    if bad:
        raise ValueError(
            f"deficit: derivatives of the outputs should be finite, got {bad} of "
            f"{jacobian.size} that are not. A root or a norm of zero has none: use "
            f"other weights, or other inputs."
        )
    return jacobian


def _by_columns(outputs: Callable[..., Array]) -> Callable[..., Any]:
    """Outputs and their Jacobian, some hundred columns at a time."""

    def run(vector: Array, *inputs: Any) -> tuple[Array, Array]:
        y, along = jax.linearize(lambda v: outputs(v, *inputs), vector)

        def column(index: Array) -> Array:
            return along(jnp.zeros_like(vector).at[index].set(1))

        return y, jax.lax.map(column, jnp.arange(vector.size), batch_size=256).T

    return run


def _by_rows(outputs: Callable[..., Array]) -> Callable[..., Any]:
    def run(vector: Array, *inputs: Any) -> tuple[Array, Array]:
        jacobian = jax.jacrev(lambda v: outputs(v, *inputs))(vector)
        return outputs(vector, *inputs), jacobian

    return run


def _check_inside(jacobian: np.ndarray, parts: dict[str, np.ndarray]) -> None:
    size = np.max(np.abs(jacobian), initial=0)
    for name, along in parts.items():
        change = np.max(np.abs(jacobian @ along), initial=0)
        most = size * np.max(np.abs(along), initial=0)
        if change > tolerance_of(jnp.float64) * most:
            raise ValueError(
                f"deficit: the group of {name!r} does not keep the function: expected "
                f"directions that change no output, got a change of "
                f"{change / most:.1e} (relative). Run qejax.testing.function_kept to "
                f"see which part is wrong."
            )


def _null_space(jacobian: np.ndarray) -> tuple[np.ndarray, float]:
    """An orthonormal basis `[P, n]`, and the gap in the singular values."""
    rows, columns = jacobian.shape
    if rows > columns:
        jacobian = np.asarray(np.linalg.qr(jacobian, mode="r"))
    _, values, right = np.linalg.svd(jacobian, full_matrices=True)
    rank, gap = count_clear(values, "deficit: the Jacobian of the outputs")
    return right[rank:].T, gap


def _by_leaf(beyond: np.ndarray, theta: Theta) -> dict[str, int]:
    ranks, start = {}, 0
    for path, leaf in _trees.flatten(theta).items():
        rows = beyond[start : start + leaf.size]
        start += leaf.size
        values = np.linalg.svd(rows, compute_uv=False) if rows.size else np.zeros(0)
        ranks[path] = int(np.sum(values > _SEEN))
    return ranks
