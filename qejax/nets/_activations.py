"""Elementwise activations with the symmetry each of them allows.

A new activation is a new row. Families of them have a number in their name: `relu^k`,
`max(x, 0) ** k` for any integer `k >= 2`, `sine(w0)`, `sin(w0 x)` for any `w0 > 0`, and
`gaussian(w0)`, `exp(-(w0 x)^2 / 2)`.

Gaussians are even: units flip on the side that writes them alone. That is degree 2 of
the sign group, `s^2 = 1` for readers. It is all there is for one hidden layer, besides
order: with `q_i = (w_i . x + b_i)^2`, two `q` differ by a constant only if `(w, b)`
agree up to a sign (compare squares, then what is linear in `x`), and exponentials of
polynomials that do not differ by constants are linearly independent. So the unordered
set of `(+-(w_i, b_i), a_i)` can be read off the function, unless a weight is zero or
two units are the same. That proof is for one hidden layer; for more of them it is
tested that no continuous symmetry is missing (`tests/laws/test_maximal.py`).

A row states a group that is a symmetry, the largest of `GROUPS`; two activations have
more. `abs` is homogeneous for negative factors up to their sign, `|-x| == |x|`: units
also flip on the side that writes them alone, which changes nothing for their readers.
`identity` commutes with every factor that is not zero, and between two such layers with
every invertible matrix. What goes beyond positive scales is not used.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from qejax._typing import Array
from qejax.nets._sine import sine


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
        turn: what may be added to an input and flips the output, 0 for nothing.
    """

    name: str
    function: Callable[[Array], Array]
    group: str
    degree: int = 1
    gain: float = 1
    turn: float = 0.0

    @property
    def still(self) -> str:
        """The group without turns: that of units which nothing can be added to."""
        return "sign" if self.turn else self.group


def _gelu_erf(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


_ROWS = (
    Activation("relu", jax.nn.relu, "positive_scale", gain=2),
    Activation("leaky_relu", jax.nn.leaky_relu, "positive_scale", gain=2),
    Activation("abs", jnp.abs, "positive_scale"),
    Activation("identity", lambda x: x, "positive_scale"),
    Activation("linear", lambda x: x, "positive_scale"),
    Activation("tanh", jnp.tanh, "sign"),
    Activation("erf", jax.lax.erf, "sign"),
    Activation("gelu", jax.nn.gelu, "permutation"),  # by tanh, the default of JAX
    Activation("gelu_erf", _gelu_erf, "permutation"),  # exact, that of PyTorch
    Activation("silu", jax.nn.silu, "permutation"),
    Activation("sigmoid", jax.nn.sigmoid, "permutation"),
    Activation("softplus", jax.nn.softplus, "permutation"),
)

ACTIVATIONS: dict[str, Activation] = {row.name: row for row in _ROWS}
"""Activations by name; families such as `relu^k` and `sine(w0)` come on top."""


def _power(match: re.Match[str]) -> Activation:
    degree = int(match.group(1))
    return Activation(
        match.group(0),
        lambda x: jax.nn.relu(x) ** degree,
        "positive_scale",
        degree,
        gain=2,
    )


def _sine(match: re.Match[str]) -> Activation:
    frequency = float(match.group(1))
    return Activation(
        match.group(0),
        lambda x: sine(frequency * x),
        "dihedral",
        # Sitzmann et al. 2020, arXiv:2006.09661, section 3.2: inputs of variance 1.
        gain=2 / frequency**2,
        turn=math.pi / frequency,
    )


def _gaussian(match: re.Match[str]) -> Activation:
    rate = float(match.group(1))
    return Activation(
        match.group(0),
        lambda x: jnp.exp(-((rate * x) ** 2) / 2),
        "sign",
        degree=2,
        gain=2 / rate**2,
    )


_NUMBER = r"(0*[1-9][0-9]*(?:\.[0-9]+)?|0*\.0*[1-9][0-9]*)"

_FAMILIES: tuple[tuple[str, Callable[[re.Match[str]], Activation]], ...] = (
    (r"relu\^([2-9]|[1-9][0-9]+)", _power),
    (rf"sine\({_NUMBER}\)", _sine),
    (rf"gaussian\({_NUMBER}\)", _gaussian),
)
"""Patterns of names, and what they stand for."""


def activation(name: str) -> Activation:
    """Returns the activation called `name`.

    Args:
        name: a key of `ACTIVATIONS`, `relu^k` with an integer `k >= 2`, `sine(w0)`
            or `gaussian(w0)` with a rate such as 30 or 0.5.

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
    for pattern, family in _FAMILIES:
        found = re.fullmatch(pattern, name)
        if found is not None:
            return family(found)
    raise ValueError(
        f"activation {name!r} is unknown: expected one of {list(ACTIVATIONS)}, relu^k "
        f"with an integer k of at least 2, sine(w0) or gaussian(w0) with w0 above 0."
    )


def activation_code(name: str) -> tuple[int, float]:
    """Returns the number of an activation's row or family, and what its name says.

    Rows come first, then families; the number in a family's name is given as its
    natural logarithm, 0 where there is none. For networks that are read as data.

    Args:
        name: of an activation.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> activation_code("relu"), activation_code("relu^2")[1] == math.log(2)
        ((0, 0.0), True)
    """
    activation(name)
    for number, (pattern, _) in enumerate(_FAMILIES, start=len(ACTIVATIONS)):
        found = re.fullmatch(pattern, name)
        if found is not None:
            return number, math.log(float(found.group(1)))
    return list(ACTIVATIONS).index(name), 0.0


NUM_CODES = len(ACTIVATIONS) + len(_FAMILIES)
"""Numbers that `activation_code` can return."""
