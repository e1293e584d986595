"""Elementwise activations with the symmetry each of them allows.

A new activation is a new row. `relu^k` is a family: `max(x, 0) ** k`, for any integer
`k >= 2`.

A row states a group that is a symmetry, the largest of `GROUPS`; two activations have
more. `abs` is homogeneous for negative factors up to their sign, `|-x| == |x|`: units
also flip on the side that writes them alone, which changes nothing for their readers.
`identity` commutes with every factor that is not zero, and between two such layers with
every invertible matrix. What goes beyond positive scales is not used.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from qejax._typing import Array


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its symmetry.

    Attributes:
        name: as users write it.
        function: `x -> y`, elementwise.
        group: the largest group in `qejax.groups.GROUPS` with
            `function(s x) == s ** degree * function(x)` for its scales `s`.
        degree: of that law; 1 for odd functions and where only permutations act.
        gain: of kernels at the start; 2 where half of the inputs are cut off.
    """

    name: str
    function: Callable[[Array], Array]
    group: str
    degree: int = 1
    gain: int = 1


_ROWS = (
    Activation("relu", jax.nn.relu, "positive_scale", gain=2),
    Activation("leaky_relu", jax.nn.leaky_relu, "positive_scale", gain=2),
    Activation("abs", jnp.abs, "positive_scale"),
    Activation("identity", lambda x: x, "positive_scale"),
    Activation("linear", lambda x: x, "positive_scale"),
    Activation("tanh", jnp.tanh, "sign"),
    Activation("erf", jax.lax.erf, "sign"),
    Activation("gelu", jax.nn.gelu, "permutation"),
    Activation("silu", jax.nn.silu, "permutation"),
    Activation("sigmoid", jax.nn.sigmoid, "permutation"),
    Activation("softplus", jax.nn.softplus, "permutation"),
)

ACTIVATIONS: dict[str, Activation] = {row.name: row for row in _ROWS}
"""Activations by name; `relu^k` for an integer `k >= 2` comes on top."""


def activation(name: str) -> Activation:
    """Returns the activation called `name`.

    Args:
        name: a key of `ACTIVATIONS`, or `relu^k` with an integer `k >= 2`.

    Raises:
        ValueError: if the name is unknown; lists the names there are.

    Example:
        >>> activation("relu^2").degree
        2
    """
    if not isinstance(name, str):
        raise ValueError(
            f"activation: expected a name such as 'relu', got {name!r} of type "
            f"{type(name).__name__}."
        )
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    power = re.fullmatch(r"relu\^([2-9]|[1-9][0-9]+)", name)
    if power is None:
        raise ValueError(
            f"activation {name!r} is unknown: expected one of {list(ACTIVATIONS)} or "
            f"relu^k with an integer k of at least 2."
        )
    degree = int(power.group(1))
    return Activation(
        name, lambda x: jax.nn.relu(x) ** degree, "positive_scale", degree, gain=2
    )
