"""From weights to the leaves of a spec and back, with every mismatch named."""

from typing import Any

import jax
import jax.numpy as jnp

from qejax import _trees
from qejax._typing import Leaves, Theta
from qejax.spaces._cuts import joined, part
from qejax.spaces._spec import WeightSpec


def check_theta(spec: WeightSpec, theta: Theta) -> None:
    """Raises unless `theta` has exactly the arrays of `spec`, with their shapes.

    Looks at structure only, so it works on traced values and costs nothing at run
    time. Dtypes are not checked beyond being floating.

    Args:
        spec: the weight space.
        theta: weights of one network, no batch axis (batch with `jax.vmap`).

    Raises:
        ValueError: names the first leaf that is missing, unexpected, has the wrong
            shape or is not floating.
    """
    leaves = _trees.flatten(theta)
    expected = {leaf.array: leaf.array_shape for leaf in spec.leaves}
    missing = [path for path in expected if path not in leaves]
    extra = [path for path in leaves if path not in expected]
    if missing or extra:
        raise ValueError(
            f"theta does not fit its spec: the first difference is at "
            f"{(missing or extra)[0]!r}: missing leaves {_first(missing)}, unexpected "
            f"leaves {_first(extra)}; expected {_first(list(expected))}. Rename the "
            f"leaves, or build the spec from this network."
        )
    for path, shape in expected.items():
        got: Any = leaves[path]
        if tuple(got.shape) != shape:
            raise ValueError(
                f"theta does not fit its spec: leaf {path!r} should have shape "
                f"{shape}, got {tuple(got.shape)}. {_batch_advice(shape, got)}"
            )
        if not jnp.issubdtype(got.dtype, jnp.floating):
            raise ValueError(
                f"theta does not fit its spec: leaf {path!r} should be floating, got "
                f"{got.dtype}."
            )


def _batch_advice(shape: tuple[int, ...], got: Any) -> str:
    """What to do about a shape: stacked weights, or a spec that was made from them."""
    if shape[1:] == tuple(got.shape):
        return (
            "The spec has an axis in front, as if made from stacked networks: make it "
            "from one, jax.tree.map(lambda a: a[0], params)."
        )
    return (
        "One network has no batch axis: use jax.vmap for many, or "
        "jax.tree.map(lambda a: a[0], theta) for the first of them."
    )


def _first(paths: list[str], most: int = 6) -> str:
    """Some of the paths, and how many there are."""
    if len(paths) <= most:
        return str(paths)
    return f"{str(paths[:most])[:-1]}, ...] ({len(paths)} in all)"


def views(spec: WeightSpec, theta: Theta) -> Leaves:
    """Returns the leaves of `theta` by path, in the order and views of the spec.

    Args:
        spec: the weight space.
        theta: weights of one network.

    Returns:
        A dict from path to an array of shape `leaf.view`.

    Raises:
        ValueError: as `check_theta`.
    """
    check_theta(spec, theta)
    arrays = _trees.flatten(theta)
    return {
        leaf.path: part(leaf, arrays[leaf.array]).reshape(leaf.view)
        for leaf in spec.leaves
    }


def from_views(spec: WeightSpec, leaves: Leaves, like: Theta) -> Theta:
    """Returns a tree with the structure of `like` and the values of `leaves`.

    The inverse of `views`: `from_views(spec, views(spec, theta), theta)` is `theta`.
    """
    flat, structure = jax.tree_util.tree_flatten_with_path(like)
    ordered = []
    for key_path, _ in flat:
        held = spec.leaves_by_array[_trees.path_of(key_path)]
        ordered.append(joined(held, leaves))
    return jax.tree.unflatten(structure, ordered)


def nan_unless_finite(result: Any, leaves: Leaves) -> Any:
    """Returns the result, all of it NaN if an entry of the leaves is not finite.

    Normal forms of matrices put zeros in place of what is not above rounding, and NaN
    is above nothing: without this a broken network looks like an ordinary one.

    Args:
        result: a tree of floating arrays.
        leaves: what it was computed from.
    """
    each = [jnp.all(jnp.isfinite(x)) for x in leaves.values()]
    finite = jnp.all(jnp.stack(each))
    return jax.tree.map(lambda x: jnp.where(finite, x, jnp.nan), result)
