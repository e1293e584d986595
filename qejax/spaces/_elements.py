"""Elements of the symmetry group of a weight space: one per unit space.

An element is a dict from the name of a unit space to an element of its group; the
operations are those of the groups, space by space.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax._typing import Array, PRNGKeyArray
from qejax.groups import GROUPS
from qejax.spaces._move import act_leaf
from qejax.spaces._spec import UnitSpace, WeightSpec

Elements = dict[str, Any]
"""By unit space, an element of its group (with a leading axis for a space per another
one), and by shift, an array of the view of the leaf that it moves."""


def _each(space: UnitSpace, function: Callable[..., Any]) -> Any:
    """`function` of elements, for every unit of the space that this one is per."""
    return function if space.per is None else jax.vmap(function)


def identity(spec: WeightSpec, dtype: DTypeLike = jnp.float32) -> Elements:
    """Returns the element that moves nothing, so that `act` with it changes no bit.

    Where matrices or shifts move a leaf, no number: a zero may lose its sign.
    """
    e: Elements = {}
    for space in spec.spaces:
        one = GROUPS[space.group].identity(space.size, dtype)
        lead = spec.per_size(space)
        e[space.name] = jax.tree.map(
            lambda x, lead=lead: jnp.broadcast_to(x, (*lead, *x.shape)), one
        )
    return e | {s.name: jnp.zeros(spec.shift_size(s), dtype) for s in spec.shifts}


def mul(spec: WeightSpec, h: Elements, g: Elements) -> Elements:
    """Returns `hg`, first `g` then `h`: `act(hg, t) == act(h, act(g, t))`.

    Raises:
        ValueError: if `h` or `g` does not fit `spec` (see `check_spaces`).
    """
    check_spaces(spec, h)
    check_spaces(spec, g)
    product: Elements = {}
    for space in spec.spaces:
        first = g[space.name]
        if space.per is not None:
            first = _gathered(first, h[space.per].perm)
        times = _each(space, GROUPS[space.group].mul)
        product[space.name] = times(h[space.name], first)
    for shift in spec.shifts:
        leaf = shift.moves(spec.leaf_by_path[shift.leaf])
        moved = act_leaf(leaf, spec, h, g[shift.name])
        product[shift.name] = h[shift.name] + moved
    return product


def inv(spec: WeightSpec, g: Elements) -> Elements:
    """Returns the inverse, whose product with `g` is the identity.

    Raises:
        ValueError: if `g` does not fit `spec` (see `check_spaces`).
    """
    check_spaces(spec, g)
    inverse: Elements = {}
    for space in spec.spaces:
        one = _each(space, GROUPS[space.group].inv)(g[space.name])
        if space.per is not None:
            one = _gathered(one, inverse[space.per].perm)
        inverse[space.name] = one
    for shift in spec.shifts:
        leaf = shift.moves(spec.leaf_by_path[shift.leaf])
        inverse[shift.name] = -act_leaf(leaf, spec, inverse, g[shift.name])
    return inverse


def _gathered(element: Any, perm: Array) -> Any:
    return jax.tree.map(lambda x: x[perm], element)


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
            `[1/spread, spread]`, invertible matrices have condition number `spread`.
        dtype: of scales, matrices and shifts; float32 unless given, with
            `jax_enable_x64` as well. Weights in float64 need it: `act` returns them in
            float64 whatever moves them, kept to float32 only.

    Returns:
        One element per unit space, permutations uniform, signs fair, rotations uniform;
        shifts are normal with deviation 1.

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
    rows = (*spec.spaces, *spec.shifts)
    keys = dict(
        zip(
            (row.name for row in rows),
            jax.random.split(key, max(len(rows), 1)),
            strict=False,
        )
    )
    g: Elements = {}
    for space in spec.spaces:
        own = keys[space.name]
        lead = spec.per_size(space)
        own = jax.random.split(own, lead) if lead else own

        def draw(key: PRNGKeyArray, space: UnitSpace = space) -> Any:
            return GROUPS[space.group].sample(key, space.size, spread, dtype)

        g[space.name] = _each(space, draw)(own)
    for shift in spec.shifts:
        g[shift.name] = jax.random.normal(
            keys[shift.name], spec.shift_size(shift), dtype
        )
    return g


def check_spaces(spec: WeightSpec, g: Elements) -> None:
    """Raises unless `g` has one element of the right form per unit space and shift.

    A `Monomial` each, with an integer `perm` and a floating `scale`, both of shape
    `(size,)`, a `Dihedral` with integer `turns` besides, or the array of a matrix
    group; with a leading axis for a space per another one. Looks at structure, shapes
    and dtypes, never at values, so it works on traced values.

    Raises:
        ValueError: names the unit space, what was expected and what was found.
    """
    _check_names(spec, g)
    for space in spec.spaces:
        one, group = g[space.name], GROUPS[space.group]
        where = f"group element of unit space {space.name!r}"
        lead = spec.per_size(space)
        parts: dict[str, tuple[Any, Any, tuple[int, ...]]]
        form: Any = group.identity(space.size, jnp.float32)
        if group.monomial is None:
            parts = {"matrix": (one, jnp.floating, (*lead, *form.shape))}
        elif type(one) is not type(form):
            raise ValueError(
                f"{where}: expected a {type(form).__name__}({', '.join(form._fields)}),"
                f" got {type(one).__name__}. Make it with qejax.spaces.sample or "
                f"identity."
            )
        else:
            parts = {
                name: (getattr(one, name), _kind(entry), (*lead, *entry.shape))
                for name, entry in form._asdict().items()
            }
        for name, (part, kind, shape) in parts.items():
            _check_part(where, name, part, kind, shape)
    for shift in spec.shifts:
        where = f"group element of shift {shift.name!r}"
        shape = spec.shift_size(shift)
        _check_part(where, "array", g[shift.name], jnp.floating, shape)


def _kind(x: Array) -> Any:
    whole = jnp.issubdtype(x.dtype, jnp.integer)
    return jnp.integer if whole else jnp.floating


def _check_names(spec: WeightSpec, g: Elements) -> None:
    if not isinstance(g, Mapping):
        raise ValueError(
            f"a group element should be a dict with one entry for each unit space and "
            f"shift, got {type(g).__name__}. Make it with qejax.spaces.sample or "
            f"identity."
        )
    expected = [row.name for row in (*spec.spaces, *spec.shifts)]
    missing = [name for name in expected if name not in g]
    extra = [name for name in g if name not in set(expected)]
    if missing or extra:
        first = (
            f"{missing[0]!r} is missing" if missing else f"{extra[0]!r} is unexpected"
        )
        raise ValueError(
            f"a group element needs one entry for each unit space and shift, "
            f"{len(expected)} in all, got {len(missing)} too few and {len(extra)} too "
            f"many: {first}. Inputs and outputs never move; leave them out."
        )


def _check_part(
    where: str, name: str, part: Any, kind: Any, wants: tuple[int, ...]
) -> None:
    shape = getattr(part, "shape", None)
    if shape != wants or not jnp.issubdtype(part.dtype, kind):
        found = (
            f"{part.dtype} of shape {shape}"
            if hasattr(part, "dtype")
            else type(part).__name__
        )
        raise ValueError(
            f"{where}: `{name}` should be {kind.__name__} of shape {wants}, got "
            f"{found}. For a batch of elements use jax.vmap."
        )


def check_elements(spec: WeightSpec, g: Elements) -> None:
    """Raises unless `g` is an element of the group of `spec`.

    Looks at values: for tests and loaders, not for traced code.

    Raises:
        ValueError: names the unit space, in a space per another one the unit of that
            one, and the field; expected and found.
    """
    check_spaces(spec, g)
    for space in spec.spaces:
        lead = spec.per_size(space)
        for index in np.ndindex(*lead):
            one = jax.tree.map(lambda x, index=index: x[index], g[space.name])
            try:
                GROUPS[space.group].check(one, space.size)
            except ValueError as error:
                at = f", at {_place(index)} of {space.per!r}" if lead else ""
                raise ValueError(f"unit space {space.name!r}{at}: {error}") from error
    for shift in spec.shifts:
        wrong = np.argwhere(~np.isfinite(np.asarray(g[shift.name])))
        if len(wrong):
            raise ValueError(
                f"shift {shift.name!r}: entries should be finite, got {len(wrong)} "
                f"that are not, the first at {_place(wrong[0].tolist())}. Draw it with "
                f"qejax.spaces.sample."
            )


def _place(index: Sequence[int]) -> str:
    """An index in words: of one axis a number, else a tuple."""
    return str(index[0] if len(index) == 1 else tuple(index))
