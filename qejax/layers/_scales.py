"""Scales of units and matrices of heads as values of layers.

A map into the group that is continuous on a connected set cannot vary in a discrete
factor (permutations, signs), so a learned group element is one positive scale per unit
of the positively scaled spaces, and one invertible matrix per head.
"""

from typing import Any

import jax.numpy as jnp

from qejax._typing import Array
from qejax.groups import Monomial, inverse_transpose
from qejax.layers._features import Features
from qejax.spaces import Elements, Leaf, UnitSpace, WeightSpec, identity

Scales = dict[str, Array]
"""By positively scaled unit space, `[n_s]` for all channels or `[n_s, C]`; by general
linear one, matrices `[d, d]` or `[d, d, C]`, with a leading axis if it is per another
space."""


def scaled_spaces(spec: WeightSpec) -> tuple[UnitSpace, ...]:
    """Returns the unit spaces of positive scales."""
    return tuple(s for s in spec.spaces if s.group == "positive_scale")


def linear_spaces(spec: WeightSpec) -> tuple[UnitSpace, ...]:
    """Returns the general linear unit spaces."""
    return tuple(s for s in spec.spaces if s.group == "general_linear")


def act_scales(spec: WeightSpec, scales: Scales, feats: Features) -> Features:
    """Scales units of features, and multiplies heads, every channel by its own element.

    Equals `act_features` by `elements(spec, scales, c)` on channel `c`.

    Args:
        spec: the weight space.
        scales: by unit space; scales positive, matrices invertible.
        feats: `[*leaf.view, C]` by leaf path.

    Returns:
        Features of the same shapes and dtypes.
    """
    inverses = {
        space.name: _inverse_transpose(spec, space, scales[space.name])
        for space in linear_spaces(spec)
        if space.name in scales
    }
    moved: Features = {}
    for leaf in spec.leaves:
        x, total = feats[leaf.path], None
        for position, axis in enumerate(leaf.axes):
            if axis.space not in scales or axis.power == 0:
                continue
            if axis.space in inverses:
                source = scales if axis.power > 0 else inverses
                x = _multiplied(spec, leaf, position, x, source[axis.space])
                continue
            factor = scales[axis.space].astype(x.dtype) ** axis.power
            channels = factor.shape[1] if factor.ndim == 2 else 1
            shape = [1] * len(leaf.axes) + [channels]
            shape[position] = axis.size
            factor = factor.reshape(shape)
            total = factor if total is None else total * factor
        # One pass over the features, forwards and backwards.
        moved[leaf.path] = x if total is None else x * total
    return moved


def _per_channel(spec: WeightSpec, space: UnitSpace, matrix: Array) -> bool:
    return matrix.ndim == 3 + len(spec.per_size(space))


def _inverse_transpose(spec: WeightSpec, space: UnitSpace, matrix: Array) -> Array:
    if not _per_channel(spec, space, matrix):
        return inverse_transpose(matrix)
    front = jnp.moveaxis(matrix, -1, 0)
    return jnp.moveaxis(inverse_transpose(front), 0, -1)


def _multiplied(
    spec: WeightSpec, leaf: Leaf, position: int, x: Array, matrix: Array
) -> Array:
    rank, host = len(leaf.axes), spec.per_axis(leaf, position)
    space = spec.space_by_name[str(leaf.axes[position].space)]
    labels = list(range(rank + 1))
    new = rank + 1
    of_matrix = [new, position] if host is None else [host, new, position]
    if _per_channel(spec, space, matrix):
        of_matrix.append(rank)
    out = [new if label == position else label for label in labels]
    return jnp.einsum(x, labels, matrix.astype(x.dtype), of_matrix, out)


def elements(spec: WeightSpec, scales: Scales, channel: int | None = None) -> Elements:
    """Returns the group element of scales, identity on what they do not move.

    Args:
        spec: the weight space.
        scales: by scaled unit space.
        channel: which channel's, for values with channels; `None` for those without.
    """
    dtype = jnp.result_type(*scales.values()) if scales else jnp.float32
    found: Elements = identity(spec, dtype)
    for space in spec.spaces:
        if space.name not in scales:
            continue
        value, shared = scales[space.name], 1
        matrix = space.group == "general_linear"
        if matrix:
            shared = 2 + len(spec.per_size(space))
        if value.ndim > shared and channel is not None:
            value = value[..., channel]
        perm = jnp.arange(space.size)
        found[space.name] = value if matrix else Monomial(perm, value)
    return found


def check_scales(spec: WeightSpec, scales: Any, channels: int, who: str) -> None:
    """Raises unless `scales` has one scale per scaled unit and one matrix per head.

    Looks at structure only, so it works on traced values.

    Raises:
        ValueError: names what is missing, unexpected or misshapen.
    """
    group = ", ".join(f"{s.name}: {s.group}({s.size})" for s in spec.spaces)
    wants = (
        f"{who} should return scales of the group of beta's spec, the product of "
        f"[{group}]"
    )
    hint = "Build alpha with the spec of beta."
    if not isinstance(scales, dict):
        raise ValueError(f"{wants}; got a {type(scales).__name__}. {hint}")
    expected: dict[str, tuple[int, ...]] = {
        space.name: (space.size,) for space in scaled_spaces(spec)
    }
    for space in linear_spaces(spec):
        expected[space.name] = (*spec.per_size(space), space.size, space.size)
    missing = [name for name in expected if name not in scales]
    extra = [name for name in scales if name not in expected]
    if missing or extra:
        raise ValueError(
            f"{wants}: expected one entry for each of {list(expected)}; got one "
            f"without {missing} and with {extra}. {hint}"
        )
    for name, wants_shape in expected.items():
        shape = tuple(scales[name].shape)
        if shape not in (wants_shape, (*wants_shape, channels)):
            raise ValueError(
                f"{wants}: scales of {name!r} should have shape {wants_shape} or "
                f"{(*wants_shape, channels)}, got {shape}. {hint}"
            )
