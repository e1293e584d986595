"""Elements of the symmetry group of a weight space: one per unit space.

An element is a dict from the name of a unit space to an element of its group; the
operations are those of the groups, space by space.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from qejax._typing import PRNGKeyArray
from qejax.groups import GROUPS, Monomial
from qejax.spaces._spec import WeightSpec

Elements = dict[str, Monomial]
"""One group element per unit space, by name."""


def identity(spec: WeightSpec, dtype: DTypeLike = jnp.float32) -> Elements:
    """Returns the element that moves nothing, so that `act` with it changes no bit."""
    return {s.name: GROUPS[s.group].identity(s.size, dtype) for s in spec.spaces}


def mul(spec: WeightSpec, h: Elements, g: Elements) -> Elements:
    """Returns `hg`, first `g` then `h`: `act(hg, t) == act(h, act(g, t))`.

    Raises:
        ValueError: if `h` or `g` does not fit `spec` (see `check_spaces`).
    """
    check_spaces(spec, h)
    check_spaces(spec, g)
    return {s.name: GROUPS[s.group].mul(h[s.name], g[s.name]) for s in spec.spaces}


def inv(spec: WeightSpec, g: Elements) -> Elements:
    """Returns the inverse, whose product with `g` is the identity.

    Raises:
        ValueError: if `g` does not fit `spec` (see `check_spaces`).
    """
    check_spaces(spec, g)
    return {s.name: GROUPS[s.group].inv(g[s.name]) for s in spec.spaces}


def sample(
    key: PRNGKeyArray,
    spec: WeightSpec,
    spread: float = 10.0,
    dtype: DTypeLike = jnp.float32,
) -> Elements:
    """Returns a random element of the whole group.

    Args:
        key: consumed.
        spec: the weight space.
        spread: at least 1 and finite; positive scales are log-uniform in
            `[1/spread, spread]`.
        dtype: of the scales.

    Returns:
        One element per unit space, permutations uniform, signs fair.

    Raises:
        ValueError: if `spread` is below 1, infinite or NaN.

    Example:
        >>> from qejax import nets
        >>> spec = nets.mlp_spec((4, 3, 2), activation="relu")
        >>> g = sample(jax.random.key(0), spec, spread=2.0)
        >>> g["hidden_0"].perm.shape
        (3,)
    """
    if not 1 <= spread < math.inf:
        raise ValueError(
            f"sample(spread=...): scales are drawn from [1/spread, spread], so spread "
            f"should be at least 1 and finite, got {spread}."
        )
    keys = jax.random.split(key, max(len(spec.spaces), 1))
    return {
        space.name: GROUPS[space.group].sample(key, space.size, spread, dtype)
        for key, space in zip(keys, spec.spaces, strict=False)
    }


def check_spaces(spec: WeightSpec, g: Elements) -> None:
    """Raises unless `g` has one element of the right form per unit space.

    A `Monomial` each, with an integer `perm` and a floating `scale`, both of shape
    `(size,)`. Looks at structure, shapes and dtypes, never at values, so it works on
    traced values.

    Raises:
        ValueError: names the unit space, what was expected and what was found.
    """
    expected = [space.name for space in spec.spaces]
    if not isinstance(g, Mapping) or sorted(g) != sorted(expected):
        found = list(g) if isinstance(g, Mapping) else type(g).__name__
        raise ValueError(
            f"a group element needs one entry per unit space: expected {expected}, got "
            f"{found}. Inputs and outputs never move; leave them out."
        )
    for space in spec.spaces:
        one = g[space.name]
        where = f"group element of unit space {space.name!r}"
        if not isinstance(one, Monomial):
            raise ValueError(
                f"{where}: expected a Monomial(perm, scale), got a "
                f"{type(one).__name__}. Make it with qejax.spaces.sample or identity."
            )
        for name, kind in (("perm", jnp.integer), ("scale", jnp.floating)):
            part: Any = getattr(one, name)
            shape, dtype = jnp.shape(part), jnp.result_type(part)
            if shape != (space.size,) or not jnp.issubdtype(dtype, kind):
                raise ValueError(
                    f"{where}: `{name}` should be {kind.__name__} of shape "
                    f"({space.size},), one entry per unit, got {dtype} of shape "
                    f"{shape}. For a batch of elements use jax.vmap."
                )


def check_elements(spec: WeightSpec, g: Elements) -> None:
    """Raises unless `g` is an element of the group of `spec`.

    Looks at values: for tests and loaders, not for traced code.

    Raises:
        ValueError: names the unit space and the field, expected and found.
    """
    check_spaces(spec, g)
    for space in spec.spaces:
        try:
            GROUPS[space.group].check(g[space.name], space.size)
        except ValueError as error:
            raise ValueError(f"unit space {space.name!r}: {error}") from error
