"""What the checks are made with: elements that move something, unrelated networks."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax import _trees, spaces
from qejax._typing import Array, PRNGKeyArray
from qejax.groups import GROUPS
from qejax.spaces import Elements, UnitSpace, WeightSpec

_TRIES = 16


# Compiled once per spec: a check calls them for every unit space.
act = jax.jit(spaces.act, static_argnums=0)
inv = jax.jit(spaces.inv, static_argnums=0)
_act_features = jax.jit(spaces.act_features, static_argnums=0)


def draw_elements(
    key: PRNGKeyArray, spec: WeightSpec, spread: float, dtype: DTypeLike
) -> Elements:
    """Returns an element that moves every unit space that can be moved.

    One draw can be the identity on a small space; it is drawn again then.

    Raises:
        ValueError: if the group of the spec has one element only.
    """
    g: Elements = {}
    for number, space in enumerate(spec.spaces):
        group = GROUPS[space.group]
        for one in jax.random.split(jax.random.fold_in(key, number), _TRIES):
            g[space.name] = group.sample(one, space.size, spread, dtype)
            if not _is_identity(space, g[space.name]):
                break
    if not movable(spec, g):
        raise ValueError(
            f"nothing to check: expected a spec whose group moves something, got the "
            f"unit spaces {list(spec.spaces)}, on which it has the identity only. "
            f"Check a network with at least two hidden units in a layer."
        )
    return g


def _is_identity(space: UnitSpace, g: Any) -> bool:
    e = GROUPS[space.group].identity(space.size, g.scale.dtype)
    pairs = zip(jax.tree.leaves(g), jax.tree.leaves(e), strict=True)
    return all(bool(np.all(np.asarray(a) == np.asarray(b))) for a, b in pairs)


def only(spec: WeightSpec, g: Elements, name: str) -> Elements:
    """The element that is `g` on one unit space and the identity on the others."""
    dtype = g[name].scale.dtype
    return {**spaces.identity(spec, dtype), name: g[name]}


def one_sided(spec: WeightSpec, name: str) -> WeightSpec:
    """The spec in which nothing reads unit space `name`: elements move its writers."""
    leaves = tuple(
        replace(
            leaf,
            axes=tuple(
                replace(axis, space=None, power=0)
                if axis.space == name and axis.power < 0
                else axis
                for axis in leaf.axes
            ),
        )
        for leaf in spec.leaves
    )
    return replace(spec, leaves=leaves)


def movable(spec: WeightSpec, g: Elements) -> list[str]:
    """Names of the unit spaces that `g` moves."""
    return [s.name for s in spec.spaces if not _is_identity(s, g[s.name])]


def unrelated(key: PRNGKeyArray, tree: Any) -> Any:
    """Returns a tree of independent normal entries, leaf by leaf of the same size.

    The root mean square of each leaf is that of `tree`, 1 where that is zero.
    """
    leaves, structure = jax.tree.flatten(tree)
    sizes = [leaf.size for leaf in leaves]
    # One draw for all leaves: a program per leaf would take seconds to compile.
    normal = np.asarray(jax.random.normal(key, (sum(sizes),), leaves[0].dtype))
    pieces = np.split(normal, np.cumsum(sizes)[:-1])
    drawn = [
        jnp.asarray(_rms(leaf) * piece.reshape(leaf.shape), leaf.dtype)
        for leaf, piece in zip(leaves, pieces, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def _rms(leaf: Array) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(leaf))))) or 1.0


def move(spec: WeightSpec, g: Elements, tree: Any, what: str) -> Any:
    """Moves weights, or features: leaves `[*leaf.view, ...]` by path.

    Raises:
        ValueError: if `tree` is neither; says what it was.
    """
    leaves = _trees.flatten(tree)
    known = spec.leaf_by_path
    if set(leaves) == set(known):
        if all(tuple(leaves[path].shape) == known[path].stored for path in known):
            return act(spec, g, tree)
        if all(
            tuple(leaves[path].shape[: len(known[path].axes)]) == known[path].view
            for path in known
        ):
            return _act_features(spec, g, leaves)
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    expected = {path: leaf.view for path, leaf in known.items()}
    raise ValueError(
        f"{what} should be weights or features of the spec, one leaf for each of "
        f"{expected} and channels behind; got {shapes}. Use assert_invariant for maps "
        f"to something that no element moves."
    )
