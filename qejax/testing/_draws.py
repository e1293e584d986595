"""What the checks are made with: elements that move something, unrelated networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax import _trees, spaces
from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.spaces import Elements, Leaf, WeightSpec

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
    moved = act(spec, only(spec, g, name), theta)
    old, new = (spaces.views(spec, weights) for weights in (theta, moved))
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

    def moves(leaf: Leaf) -> bool:
        if name in shifted:
            return leaf.path == shifted[name]
        return leaf.writes(name) or not leaf.reads(name)

    moved = act(spec, only(spec, g, name), theta)
    old, new = (spaces.views(spec, weights) for weights in (theta, moved))
    leaves = {
        leaf.path: (new if moves(leaf) else old)[leaf.path] for leaf in spec.leaves
    }
    return spaces.from_views(spec, leaves, theta)


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
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    if shapes == {leaf.array: leaf.array_shape for leaf in spec.leaves}:
        return act(spec, g, tree)
    if set(leaves) == set(known) and all(
        shapes[path][: len(leaf.axes)] == leaf.view for path, leaf in known.items()
    ):
        return _act_features(spec, g, leaves)
    expected = {path: leaf.view for path, leaf in known.items()}
    raise ValueError(
        f"{what} should be weights or features of the spec, one leaf for each of "
        f"{expected} and channels behind; got {shapes}. Use assert_invariant for maps "
        f"to something that no element moves."
    )
