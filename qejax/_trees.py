"""Key paths of pytrees, and differences between two trees in words.

A path is the `/`-joined sequence of keys from the root to a leaf, with every key
written as a string: `{"layer_00": {"kernel": k}}` has the one path
`"layer_00/kernel"`. Trees are compared by path, never by position: JAX sorts dict
keys as strings, so position is not the order of layers.
"""

from typing import Any

import jax

from qejax._typing import Array


def path_of(key_path: tuple[Any, ...]) -> str:
    """Returns the `/`-joined path of a JAX key path.

    Example:
        >>> tree = {"a": {"b": 1.0}}
        >>> [path_of(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)]
        ['a/b']
    """
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def flatten(tree: Any) -> dict[str, Any]:
    """Returns the leaves of `tree` by path, in JAX's order.

    Args:
        tree: any pytree.

    Returns:
        A dict from path to leaf.

    Raises:
        ValueError: if two leaves have the same path (an int key and its string).
    """
    leaves: dict[str, Any] = {}
    for key_path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        path = path_of(key_path)
        if path in leaves:
            raise ValueError(
                f"two leaves of the tree have the path {path!r}: expected one leaf a "
                f"path, got an integer and a string key of the same text. Use string "
                f"keys only."
            )
        leaves[path] = leaf
    return leaves


def nest(leaves: dict[str, Any]) -> dict[str, Any]:
    """Returns the nested dict whose leaves have the paths of `leaves`.

    Example:
        >>> nest({"a/b": 1, "a/c": 2})
        {'a': {'b': 1, 'c': 2}}
    """
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree


def describe_difference(expected: Any, got: Any) -> str | None:
    """Returns the first difference between two trees in words, or None.

    Keys, then shapes, then dtypes are compared; values never are. Leaves need
    `shape` and `dtype` (arrays or `jax.ShapeDtypeStruct`).

    Example:
        >>> import jax.numpy as jnp
        >>> describe_difference({"a": jnp.ones(2)}, {"a": jnp.ones(3)})
        "at 'a': expected shape (2,), got (3,)"
    """
    want, have = flatten(expected), flatten(got)
    missing = [path for path in want if path not in have]
    extra = [path for path in have if path not in want]
    if missing or extra:
        return f"missing leaves {missing}, unexpected leaves {extra}"
    for path, leaf in want.items():
        if tuple(leaf.shape) != tuple(have[path].shape):
            return (
                f"at {path!r}: expected shape {tuple(leaf.shape)}, "
                f"got {tuple(have[path].shape)}"
            )
        if leaf.dtype != have[path].dtype:
            return f"at {path!r}: expected {leaf.dtype}, got {have[path].dtype}"
    return None


def check_tree(expected: Any, got: Any, what: str) -> None:
    """Raises unless `got` has the keys, shapes and dtypes of `expected`.

    Call it before every `nnx.merge`, which is positional and checks nothing.

    Args:
        expected: a template; arrays or `jax.ShapeDtypeStruct`.
        got: the tree to check.
        what: what `got` is, for the message ("restored parameters").

    Raises:
        ValueError: names the first difference.
    """
    difference = describe_difference(expected, got)
    if difference is not None:
        raise ValueError(
            f"{what} do not fit the model: {difference}. Build the model with the "
            f"options that the tree was made with."
        )


def stack(trees: list[Any]) -> Any:
    """Returns one tree whose leaves are the stacked leaves of `trees`.

    Leaves of the result have a leading axis `B = len(trees)`.
    """
    return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *trees)


def num_parameters(tree: Any) -> int:
    """Returns the number of scalars in all leaves of `tree`."""
    leaves: list[Array] = jax.tree.leaves(tree)
    return sum(int(leaf.size) for leaf in leaves)
