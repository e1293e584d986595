"""Scales of units as values of layers: the connected part of the group.

A map into the group that is continuous on a connected set cannot vary in a discrete
factor (permutations, signs), so a learned group element is one positive scale per unit
of the positively scaled spaces.
"""

from typing import Any

import jax.numpy as jnp

from qejax._typing import Array
from qejax.groups import Monomial
from qejax.layers._features import Features
from qejax.spaces import Elements, UnitSpace, WeightSpec

Scales = dict[str, Array]
"""By positively scaled unit space, `[n_s]` for all channels or `[n_s, C]`."""


def scaled_spaces(spec: WeightSpec) -> tuple[UnitSpace, ...]:
    """Returns the unit spaces whose group has a connected part."""
    return tuple(s for s in spec.spaces if s.group == "positive_scale")


def act_scales(spec: WeightSpec, scales: Scales, feats: Features) -> Features:
    """Scales units of features, every channel by its own element.

    Equals `act_features` by `elements(spec, scales, c)` on channel `c`.

    Args:
        spec: the weight space.
        scales: by scaled unit space, `[n_s]` or `[n_s, C]`, positive.
        feats: `[*leaf.view, C]` by leaf path.

    Returns:
        Features of the same shapes and dtypes.
    """
    moved: Features = {}
    for leaf in spec.leaves:
        x, total = feats[leaf.path], None
        for position, axis in enumerate(leaf.axes):
            if axis.space in scales and axis.power != 0:
                factor = scales[axis.space].astype(x.dtype) ** axis.power
                channels = factor.shape[1] if factor.ndim == 2 else 1
                shape = [1] * len(leaf.axes) + [channels]
                shape[position] = axis.size
                factor = factor.reshape(shape)
                total = factor if total is None else total * factor
        # One pass over the features, forwards and backwards.
        moved[leaf.path] = x if total is None else x * total
    return moved


def elements(spec: WeightSpec, scales: Scales, channel: int | None = None) -> Elements:
    """Returns the group element of scales, identity on what they do not move.

    Args:
        spec: the weight space.
        scales: by scaled unit space.
        channel: which channel's, for scales `[n_s, C]`; `None` for scales `[n_s]`.
    """
    dtype = jnp.result_type(*scales.values()) if scales else jnp.float32
    found: Elements = {}
    for space in spec.spaces:
        scale = scales.get(space.name, jnp.ones(space.size, dtype))
        if scale.ndim == 2 and channel is not None:
            scale = scale[:, channel]
        found[space.name] = Monomial(jnp.arange(space.size), scale)
    return found


def check_scales(spec: WeightSpec, scales: Any, channels: int, who: str) -> None:
    """Raises unless `scales` has one scale per unit of every scaled space.

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
    expected = {space.name: space.size for space in scaled_spaces(spec)}
    missing = [name for name in expected if name not in scales]
    extra = [name for name in scales if name not in expected]
    if missing or extra:
        raise ValueError(
            f"{wants}: expected one entry for each of {list(expected)}; got one "
            f"without {missing} and with {extra}. {hint}"
        )
    for name, size in expected.items():
        shape = tuple(scales[name].shape)
        if shape not in ((size,), (size, channels)):
            raise ValueError(
                f"{wants}: scales of {name!r} should have shape ({size},) or "
                f"({size}, {channels}), got {shape}. {hint}"
            )
