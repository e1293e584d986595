"""Along which directions the connected part of a group moves weights.

The Lie algebra of every group is a basis, as data; its image under the derivative of
`qejax.spaces.act` at the identity are the directions. Nothing here looks at leaves, so
whatever `act` moves is covered.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax import groups, spaces
from qejax._typing import Array, Theta
from qejax.spaces import WeightSpec

NOISE = 1e-10
"""Only singular values below this share of the largest may be rounding; it leaves some
1e-16, but ill-conditioned steps multiply it."""

GAP = 1e3
"""So far apart are the smallest singular value that is none and the largest that is."""


def _skew(size: int) -> np.ndarray:
    rows, columns = np.triu_indices(size, 1)
    basis = np.zeros((len(rows), size, size))
    basis[np.arange(len(rows)), rows, columns] = 1
    return basis - basis.transpose(0, 2, 1)


def _skew_around_ones(size: int) -> np.ndarray:
    frame = groups.fixed_ones_basis(size)
    return frame @ _skew(size - 1) @ frame.T


def _all_matrices(size: int) -> np.ndarray:
    return np.eye(size * size).reshape(-1, size, size)


def _nothing(size: int) -> np.ndarray:
    return np.zeros((0, size))


ALGEBRAS: dict[str, Callable[[int], np.ndarray]] = {
    "permutation": _nothing,
    "positive_scale": np.eye,
    "sign": _nothing,
    # Half periods are whole numbers.
    "dihedral": _nothing,
    "general_linear": _all_matrices,
    "absorbed": _all_matrices,
    "linear_stream": _all_matrices,
    "orthogonal": _skew,
    "orthogonal_ones": _skew_around_ones,
    "rotary": lambda size: np.eye(size).reshape(size, size // 2, 2),
}
"""By group, the basis `[k, ...]` of its Lie algebra on `n` units: changes of the scales
`[n]`, of the matrix `[n, n]`, or of the complex numbers `[n / 2, 2]`."""


def flat(theta: Theta) -> Array:
    """All weights as one vector `[P]`, arrays in the order of the tree."""
    return jnp.concatenate([jnp.reshape(x, -1) for x in jax.tree.leaves(theta)])


def unflat(vector: Array, like: Theta) -> Theta:
    """The weights whose `flat` is `vector`."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves]).tolist()
    parts = [
        vector[end - leaf.size : end].reshape(leaf.shape)
        for leaf, end in zip(leaves, ends, strict=True)
    ]
    return jax.tree.unflatten(structure, parts)


def tangents(spec: WeightSpec, theta: Theta) -> dict[str, np.ndarray]:
    """Returns directions `[P, n]` by unit space and shift, not all independent.

    Args:
        spec: of `theta`.
        theta: weights of one network; its arrays order the rows, as `flat` does.
    """
    columns = _columns(spec, theta)
    total = sum(leaf.size for leaf in jax.tree.leaves(theta))
    return {
        row.name: np.asarray(columns[row.name]).reshape(total, -1)
        if row.name in columns
        else np.zeros((total, 0))
        for row in (*spec.spaces, *spec.shifts)
    }


def fast_jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit` that spends less on optimising code that runs once."""
    plainly = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    return jax.jit(function, compiler_options=plainly, **options)


@functools.partial(fast_jit, static_argnums=0)
def _columns(spec: WeightSpec, theta: Theta) -> dict[str, Array]:
    """Derivatives of the moved weights, `[P, *shape of the step]`, where any."""
    e = spaces.identity(spec, jnp.float64)
    bases = {s.name: ALGEBRAS[s.group](s.size) for s in spec.spaces}
    sizes = {s.name: (*spec.per_size(s), len(bases[s.name])) for s in spec.spaces}
    sizes |= {shift.name: spec.shift_size(shift) for shift in spec.shifts}

    def moved(steps: dict[str, Array]) -> Array:
        g = dict(e)
        for name, step in steps.items():
            if name in bases:
                step = jnp.tensordot(step, jnp.asarray(bases[name]), 1)
            one = e[name]
            g[name] = (
                one._replace(scale=one.scale + step)
                if hasattr(one, "scale")
                else one + step
            )
        return flat(spaces.act(spec, g, theta))

    steps = {name: jnp.zeros(size) for name, size in sizes.items() if 0 not in size}
    return jax.jacfwd(moved)(steps) if steps else {}


def count_clear(values: np.ndarray, what: str) -> tuple[int, float]:
    """Returns how many singular values are not rounding, and the gap behind them.

    The cut is at the largest gap that has nothing below it but what may be rounding.

    Args:
        values: descending.
        what: whose they are, for the message.

    Raises:
        ValueError: if there is no gap, so that nothing can be said.
    """
    if not values.size or values[0] == 0:
        return 0, float("inf")
    above = values / values[0]
    below = np.append(above[1:], 0)
    gaps = above / np.maximum(below, np.finfo(np.float64).eps)
    gaps = np.where(below < NOISE, gaps, 0)
    last = int(np.argmax(gaps))
    if gaps[last] < GAP:
        raise ValueError(
            f"{what}: no gap between singular values and rounding, expected a factor "
            f"of {GAP:.0e}, got {gaps[last]:.0e}, from {above[last]:.1e} to "
            f"{below[last]:.1e} of the largest. So a rank cannot be told: use other "
            f"weights, or more inputs."
        )
    return last + 1, float(gaps[last])


def span(columns: np.ndarray, what: str) -> np.ndarray:
    """Returns an orthonormal basis `[P, rank]` of what columns span.

    Raises:
        ValueError: as `count_clear`.
    """
    if not columns.size:
        return columns[:, :0]
    left, values, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, : count_clear(values, what)[0]]


def check_double(theta: Theta, who: str) -> None:
    """Raises unless all weights are of float64.

    Raises:
        ValueError: names the dtypes there are.
    """
    kinds = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(theta)})
    if kinds != ["float64"]:
        raise ValueError(
            f"{who}: ranks are told from singular values down to 1e-12 of the largest, "
            f"which takes weights of float64, got {kinds}. Set jax_enable_x64 and "
            f"convert them: jax.tree.map(lambda a: a.astype('float64'), theta)."
        )
