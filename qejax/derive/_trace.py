"""From a function to its jaxpr, with what cannot be derived refused."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from qejax import _trees
from qejax._typing import Theta


def in_double(tree: Any) -> Any:
    """Returns the tree with floating leaves in float64, others as arrays."""

    def one(x: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(x), jnp.floating)
        return jnp.asarray(x, jnp.float64) if floating else jnp.asarray(x)

    return jax.tree.map(one, tree)


def as_arrays(tree: Any) -> Any:
    """Returns the tree with arrays of JAX for leaves, dtypes as they are."""
    return jax.tree.map(jnp.asarray, tree)


def arrays_alone(
    apply: Callable[..., Any], inputs: tuple[Any, ...]
) -> tuple[Callable[..., Any], list[Any]]:
    """Returns a function of the arrays among its inputs, and these.

    Booleans of Python, strings and whatever else is no array stay as they are.

    Raises:
        ValueError: if an input has no entries: nothing is asked of the function then.
    """
    leaves, shape = jax.tree.flatten(inputs)
    moving = [number for number, leaf in enumerate(leaves) if _is_array(leaf)]
    for number in moving:
        if 0 in np.shape(leaves[number]):
            raise ValueError(
                f"derive_spec: inputs should have at least one entry, got the shape "
                f"{np.shape(leaves[number])} of array {number}. Pass a batch of "
                f"at least one, or close over what is empty."
            )

    def run(theta: Theta, *arrays: Any) -> Any:
        whole = list(leaves)
        for number, array in zip(moving, arrays, strict=True):
            whole[number] = array
        return apply(theta, *jax.tree.unflatten(shape, whole))

    return run, [leaves[number] for number in moving]


def _is_array(leaf: Any) -> bool:
    kind = getattr(leaf, "dtype", None)
    return kind is not None or (
        isinstance(leaf, int | float | complex) and not isinstance(leaf, bool)
    )


def is_key(x: Any) -> bool:
    """Whether an array is one of random keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.extended)


def check_weights(theta: Theta) -> dict[str, Any]:
    """Returns the leaves of weights by path.

    Raises:
        ValueError: if there are none, or one is not an array of real numbers.
    """
    leaves = _trees.flatten(theta)
    if not leaves:
        raise ValueError(
            "derive_spec: theta should have at least one array of weights, got none. "
            "Pass the parameters that the function reads."
        )
    for path, leaf in leaves.items():
        if getattr(leaf, "size", 1) == 0:
            raise ValueError(
                f"derive_spec: leaf {path!r} of theta should have at least one entry, "
                f"got the shape {tuple(leaf.shape)}. Leave out what is empty."
            )
        kind = getattr(leaf, "dtype", None)
        if kind is None or not jnp.issubdtype(kind, jnp.floating):
            what = type(leaf).__name__ if kind is None else str(kind)
            raise ValueError(
                f"derive_spec: leaf {path!r} of theta should be a floating array, got "
                f"{what}. Close over what is not a weight: "
                f"derive_spec(lambda theta, x: apply({{**theta, **rest}}, x), ...)."
            )
    return leaves


def lowest_precision(jaxpr: Any) -> Any:
    """Returns the floating dtype with the fewest digits that a function computes in."""
    found = jnp.dtype(jnp.float64)
    for eqn in jaxpr.eqns:
        inner = [x for x in eqn.params.values() if hasattr(x, "eqns")]
        inner += [x.jaxpr for x in eqn.params.values() if hasattr(x, "jaxpr")]
        dtypes = [lowest_precision(getattr(x, "jaxpr", x)) for x in inner]
        dtypes += [v.aval.dtype for v in eqn.outvars if hasattr(v.aval, "dtype")]
        for dtype in dtypes:
            if jnp.issubdtype(dtype, jnp.floating):
                found = max(found, jnp.dtype(dtype), key=lambda d: jnp.finfo(d).eps)
    return found


def traced(apply: Callable[..., Any], theta: Theta, inputs: Sequence[Any]) -> Any:
    """Returns the `ClosedJaxpr` of a function, in the dtypes of its weights.

    Raises:
        ValueError: if it returns something that is no array, has side effects, or is
            another function when it is traced again.
    """

    def run(theta: Theta, *inputs: Any) -> Any:
        result = apply(theta, *inputs)
        for key_path, leaf in jax.tree_util.tree_leaves_with_path(result):
            if not hasattr(leaf, "dtype") and not isinstance(leaf, int | float | bool):
                where = _trees.path_of(key_path)
                raise ValueError(
                    f"derive_spec: the function should return arrays, got "
                    f"{type(leaf).__name__}{where and f' at {where!r}'}. Return the "
                    f"outputs alone."
                )
        return result

    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), theta)
    # A function of its own each time: JAX would not trace the same one again.
    closed, again = (
        jax.make_jaxpr(functools.partial(run))(shapes, *inputs) for _ in range(2)
    )
    if closed.effects:
        raise ValueError(
            f"derive_spec: expected a pure function, got one with side effects "
            f"{sorted(map(str, closed.effects))}. Take callbacks and prints out of it."
        )
    if not _alike(closed, again):
        raise ValueError(
            "derive_spec: expected the same function whenever it is traced, got two "
            "that differ: it is not deterministic. Turn off dropout, and pass keys and "
            "counters as inputs."
        )
    return closed


def _alike(first: Any, second: Any) -> bool:
    """Whether two jaxprs have the same operations and the same constants."""
    mine, yours = (getattr(x, "jaxpr", x) for x in (first, second))
    if len(mine.eqns) != len(yours.eqns):
        return False
    pairs = zip(
        getattr(first, "consts", ()), getattr(second, "consts", ()), strict=True
    )
    if not all(_same_number(a, b) for a, b in pairs):
        return False
    for a, b in zip(mine.eqns, yours.eqns, strict=True):
        if a.primitive is not b.primitive or len(a.invars) != len(b.invars):
            return False
        for v, w in zip(a.invars, b.invars, strict=True):
            literals = [isinstance(x, jax.extend.core.Literal) for x in (v, w)]
            if any(literals) and not (all(literals) and _same_number(v.val, w.val)):
                return False
        for key, value in a.params.items():
            if not _same_parameter(value, b.params.get(key)):
                return False
    return True


def _same_parameter(a: Any, b: Any) -> bool:
    if hasattr(a, "eqns") or hasattr(a, "jaxpr"):
        return a is b or _alike(a, b)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(_same_parameter, a, b))
    return True


def _same_number(a: Any, b: Any) -> bool:
    if a is b or jnp.issubdtype(jnp.result_type(a), jax.dtypes.extended):
        return True
    x, y = np.asarray(a), np.asarray(b)
    nan = x.dtype.kind in "fc"
    return x.shape == y.shape and bool(np.array_equal(x, y, equal_nan=nan))


def unread(closed: Any, paths: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns paths of the leaves that no result depends on."""
    jaxpr = closed.jaxpr
    literal = jax.extend.core.Literal
    live = {v for v in jaxpr.outvars if not isinstance(v, literal)}
    for eqn in reversed(jaxpr.eqns):
        if any(v in live for v in eqn.outvars):
            live |= {v for v in eqn.invars if not isinstance(v, literal)}
    pairs = zip(paths, jaxpr.invars, strict=False)
    return tuple(path for path, var in pairs if var not in live)
