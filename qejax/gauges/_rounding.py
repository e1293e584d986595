"""Weights as small integers times a step: symmetric uniform quantisation.

`q = round(w / step)` in `[-(2^(b-1) - 1), 2^(b-1) - 1]`, the step the largest weight of
the tensor, or of the output channel, over the largest integer. Biases and scales of
norms stay as they are.

Source: Nagel et al. 2021, arXiv:2106.08295, sections 2.2 and 2.4 (symmetric uniform
quantisation, per tensor and per channel); Bengio et al. 2013, arXiv:1308.3432 (the
gradient straight through); Esser et al. 2020, arXiv:1902.08153, equation 3 (that of
the step).
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from qejax._typing import Array, Leaves, Theta
from qejax.spaces import (
    Leaf,
    WeightSpec,
    from_views,
    multiplies,
    read,
    views,
    written,
)

Per = Literal["tensor", "channel"]
"""What has one step: a whole leaf, or what writes one unit."""

Ranges = Literal["max", "mse"]
"""What the largest integer stands for: the largest weight, or the best share of it."""

SHARES = tuple(1 - 0.05 * k for k in range(13))
"""Of the largest weight, that `ranges="mse"` tries."""


class Quantised(NamedTuple):
    """Integers and steps of one network.

    Attributes:
        integers: by path of the leaves that are rounded, `[*leaf.view]`, int8 up to 8
            bits and int16 above.
        steps: by path, positive, broadcast along the view; the weight is
            `step * integer`.
        kept: by path, leaves that are not rounded.
    """

    integers: dict[str, Array]
    steps: dict[str, Array]
    kept: Leaves


def rounded_leaves(spec: WeightSpec) -> tuple[Leaf, ...]:
    """Returns the leaves that are rounded: what multiplies units or inputs."""
    return tuple(leaf for leaf in spec.leaves if multiplies(spec, leaf))


def quantise(
    spec: WeightSpec,
    theta: Theta,
    bits: int,
    per: Per = "tensor",
    ranges: Ranges = "max",
) -> Quantised:
    """Returns the integers and steps of one network.

    `rounded` computes the weights that they stand for. No batch axis (batch with
    `jax.vmap`).

    Args:
        spec: the weight space; leaves of two axes or more that read something are
            rounded.
        theta: finite weights of one network.
        bits: `b` in 2..16.
        per: what has one step.
        ranges: "max": the largest integer is the largest weight; "mse": that share of
            it (`SHARES`) with the least squared error, weights beyond it cut off.

    Raises:
        ValueError: if a choice is out of range or `bits` is traced, or `theta` does not
            fit `spec` or is not finite.

    Example:
        >>> from qejax import nets
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> found = quantise(net.spec, net.init(jax.random.key(0)), bits=4)
        >>> top = max(abs(x).max() for x in found.integers.values())
        >>> int(top), found.integers["layer_00/kernel"].dtype
        (7, dtype('int8'))
    """
    leaves = _finite(spec, theta)
    known = _checked(bits, per, ranges)
    if isinstance(known, jax.Array):
        raise ValueError(
            f"quantise(bits=...): expected an integer that is known before the program "
            f"is traced, as the dtype of integers depends on it, got {bits}. Make it "
            f"static, or use rounded."
        )
    kind = jnp.int8 if known <= 8 else jnp.int16
    integers, steps = {}, {}
    for leaf in rounded_leaves(spec):
        top = 2 ** (known - 1) - 1
        step = _step(spec, leaf, leaves[leaf.path], top, per, ranges)
        levels = jnp.clip(jnp.round(leaves[leaf.path] / step), -top, top)
        integers[leaf.path], steps[leaf.path] = levels.astype(kind), step
    kept = {path: x for path, x in leaves.items() if path not in integers}
    return Quantised(integers, steps, kept)


def dequantised(spec: WeightSpec, found: Quantised, like: Theta) -> Theta:
    """Returns the weights that integers stand for; those of `rounded`, to the last bit.

    Args:
        spec: the weight space.
        found: of `quantise`.
        like: weights whose structure the result has.

    Raises:
        ValueError: if `found` or `like` is not of `spec`.
    """
    shapes = {path: jnp.shape(x) for path, x in views(spec, like).items()}
    have = {path: jnp.shape(x) for path, x in (found.integers | found.kept).items()}
    if have != shapes:
        wrong = sorted(set(have.items()) ^ set(shapes.items()))[0][0]
        raise ValueError(
            f"dequantised: leaf {wrong!r} should have the view {shapes.get(wrong)}, "
            f"got {have.get(wrong)}: these integers are of another spec."
        )
    leaves = {
        path: x.astype(found.steps[path].dtype) * found.steps[path]
        for path, x in found.integers.items()
    }
    return from_views(spec, found.kept | leaves, like)


def rounded(
    spec: WeightSpec,
    theta: Theta,
    bits: int | Array,
    per: Per = "tensor",
    ranges: Ranges = "max",
) -> Theta:
    """Returns the weights that the integers of `quantise` stand for.

    The gradient goes straight through the rounding, and to the largest weight through
    the step.

    Args:
        spec: as for `quantise`.
        theta: likewise; the result has its structure and dtype.
        bits: likewise; or traced, and its range is not checked then, so that one
            program rounds to many.
        per: likewise.
        ranges: likewise.

    Raises:
        ValueError: as `quantise`.
    """
    leaves = views(spec, theta)
    known = _checked(bits, per, ranges)
    top = 2.0 ** (jnp.asarray(known, jnp.result_type(*leaves.values())) - 1) - 1
    found = dict(leaves)
    for leaf in rounded_leaves(spec):
        x = leaves[leaf.path]
        step = _step(spec, leaf, x, top, per, ranges)
        found[leaf.path] = _snapped(x, jnp.broadcast_to(step, x.shape), top)
    return from_views(spec, found, theta)


def _checked(bits: int | Array, per: str, ranges: str) -> int | Array:
    """Returns `bits`, as an integer where it is known."""
    for name, value, known in (
        ("per", per, get_args(Per)),
        ("ranges", ranges, get_args(Ranges)),
    ):
        if value not in known:
            raise ValueError(
                f"quantise({name}=...): expected one of {list(known)}, got {value!r}."
            )
    if isinstance(bits, Tracer):
        return bits
    found = np.asarray(bits)
    whole = found.ndim == 0 and np.issubdtype(found.dtype, np.integer)
    if not whole or not 2 <= found <= 16:
        raise ValueError(
            f"quantise(bits=...): expected an integer in 2..16, got {bits}. One bit "
            f"has no zero, and float32 has few more digits than 16."
        )
    return int(found)


def _finite(spec: WeightSpec, theta: Theta) -> Leaves:
    leaves = views(spec, theta)
    for path, x in leaves.items():
        if not isinstance(x, Tracer) and not np.all(np.isfinite(x)):
            raise ValueError(
                f"quantise: leaf {path!r} should be finite, got weights that are not. "
                f"No integer stands for them."
            )
    return leaves


@jax.custom_jvp
def _snapped(x: Array, step: Array, top: Array) -> Array:
    return jnp.clip(jnp.round(x / step), -top, top) * step


@_snapped.defjvp
def _straight_through(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    """Bounded where steps are tiny: the quotient rule would divide by their square."""
    (x, step, top), (dx, dstep, _) = primals, tangents
    share = x / step
    levels = jnp.clip(jnp.round(share), -top, top)
    inside = jnp.abs(share) <= top + 0.5
    slope = jnp.where(inside, levels - share, levels)
    return levels * step, jnp.where(inside, dx, 0) + slope * dstep


def _inner(spec: WeightSpec, leaf: Leaf, per: str) -> tuple[int, ...]:
    """Axes that share a step: all, or all but those that write units or outputs.

    Outputs are the last axis that reads no units.
    """
    every = tuple(range(len(leaf.axes)))
    if per == "tensor":
        return every
    others = [n for n in every if n not in read(spec, leaf)]
    writes = written(spec, leaf) or others[-1:]
    return tuple(n for n in every if n not in writes)


def _step(
    spec: WeightSpec, leaf: Leaf, x: Array, top: int | Array, per: str, ranges: str
) -> Array:
    inner = _inner(spec, leaf, per)
    largest = jnp.max(jnp.abs(x), inner, keepdims=True)
    # Dead units decay to 1e-33: a step of theirs is no number that one divides by.
    info = jnp.finfo(x.dtype)
    whole = jnp.where(largest > info.tiny / info.eps, largest, 1) / top
    if ranges == "max":
        return whole

    def error(share: Array) -> Array:
        step = share * whole
        off = jnp.clip(jnp.round(x / step), -top, top) * step - x
        return jnp.sum(off**2, inner, keepdims=True)

    shares = jnp.asarray(SHARES, x.dtype)
    best = jnp.argmin(jax.vmap(error)(shares), 0)
    return jax.lax.stop_gradient(shares[best]) * whole
