"""What the checks are made with: elements that move something, unrelated networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax import _trees, spaces
from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.spaces import Elements, WeightSpec

_TRIES = 16


# Compiled once per spec: a check calls them for every unit space.
act = jax.jit(spaces.act, static_argnums=0)
inv = jax.jit(spaces.inv, static_argnums=0)
_act_features = jax.jit(spaces.act_features, static_argnums=0)


def draw_elements(
    key: PRNGKeyArray, spec: WeightSpec, spread: float, dtype: DTypeLike
) -> Elements:
    """Returns an element that moves every unit space and shift that can be moved.

    One draw can be the identity on a small space; it is drawn again then.

    Raises:
        ValueError: if the group of the spec has one element only.
    """
    first, *others = jax.random.split(key, _TRIES)
    g = spaces.sample(first, spec, spread, dtype)
    for one in others:
        stuck = set(g) - set(movable(spec, g))
        if not stuck:
            break
        again = spaces.sample(one, spec, spread, dtype)
        g |= {name: again[name] for name in stuck}
    if not movable(spec, g):
        raise ValueError(
            f"nothing to check: expected a spec whose group moves something, got the "
            f"unit spaces {list(spec.spaces)}, on which it has the identity only. "
            f"Check a network with at least two hidden units in a layer."
        )
    return g


def only(spec: WeightSpec, g: Elements, name: str) -> Elements:
    """The element that is `g` on one unit space or shift, the identity elsewhere.

    Elements of spaces that are per this one stay the identity too.
    """
    floating = [
        x for x in jax.tree.leaves(g[name]) if jnp.issubdtype(x.dtype, jnp.floating)
    ]
    return {**spaces.identity(spec, floating[0].dtype), name: g[name]}


def has_one_side(spec: WeightSpec, g: Elements, name: str, theta: Theta) -> bool:
    """Whether `act_one_sided` changes the function: not what nothing reads.

    Nor what readers do not feel: even units (gaussians) flip on the side that writes
    them alone, so that without a new order both sides are in the group.
    """
    if any(shift.name == name for shift in spec.shifts):
        return all(shift.routes for shift in spec.shifts if shift.name == name)
    readers = [x.path for x in spec.leaves if x.reads(name) and not x.writes(name)]
    old = _trees.flatten(theta)
    new = _trees.flatten(act(spec, only(spec, g, name), theta))
    return not readers or any(not np.array_equal(old[p], new[p]) for p in readers)


def act_one_sided(spec: WeightSpec, g: Elements, name: str, theta: Theta) -> Theta:
    """Moves the leaves that write one unit space or shift, and not those that read it.

    Of a unit space, leaves that read it and do not write it stay as they are. A shift
    is added to its leaf, without the routes that make up for it.

    Args:
        spec: of `theta`.
        g: only its part `name` is used.
        name: of a unit space or a shift.
        theta: weights of one network.

    Returns:
        Weights of another function.
    """
    shifted = {shift.name: shift.leaf for shift in spec.shifts}
    leaves = spec.leaf_by_path

    def one(key_path: Any, old: Array, new: Array) -> Array:
        leaf = leaves[_trees.path_of(key_path)]
        if name in shifted:
            return new if leaf.path == shifted[name] else old
        return old if leaf.reads(name) and not leaf.writes(name) else new

    moved = act(spec, only(spec, g, name), theta)
    return jax.tree_util.tree_map_with_path(one, theta, moved)


def movable(spec: WeightSpec, g: Elements) -> list[str]:
    """Names of the unit spaces and shifts that `g` moves."""
    e = spaces.identity(spec)
    return [name for name in e if not _equal(g[name], e[name])]


def _equal(g: Any, e: Any) -> bool:
    pairs = zip(jax.tree.leaves(g), jax.tree.leaves(e), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


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
