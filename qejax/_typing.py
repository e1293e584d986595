"""Names of arrays and trees that every room shares, and the shape letters.

Shape letters, used in every docstring:

====== ==================================================
`B`    input networks (a zoo or a batch of it)
`N`    data points an input network is applied to
`L`    layers of an input network
`n_l`  width of layer `l`
`n_s`  number of units of unit space `s`
`C`    feature channels, always the last axis
`H`    heads
`D`    model width
`k`    kernel side
`P`    parameters of one input network
====== ==================================================
"""

from typing import Any, TypeAlias

from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray

Theta: TypeAlias = Any
"""Weights of one input network: a pytree of arrays, each a leaf of the spec or cut
into several."""

Leaves: TypeAlias = dict[str, Array]
"""The leaves of a `Theta` or of features by path, in the order of the spec."""

Scalar: TypeAlias = Float[Array, ""]

__all__ = [
    "Array",
    "Bool",
    "Float",
    "Int",
    "Leaves",
    "PRNGKeyArray",
    "Scalar",
    "Theta",
]
