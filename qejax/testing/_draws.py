"""What the checks are made with: elements that move something, unrelated networks."""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax import _trees, spaces
from qejax._typing import Array, PRNGKeyArray
from qejax.groups import GROUPS
from qejax.spaces import Elements, WeightSpec

_TRIES = 16


# Compiled once per spec: a check calls them for every unit space.
act = jax.jit(spaces.act, static_argnums=0)
inv = jax.jit(spaces.inv, static_argnums=0)
_act_features = jax.jit(spaces.act_features, static_argnums=0)


def draw_elements(
    key: PRNGKeyArray, spec: WeightSpec, spread: float, dtype: DTypeLike
) -> Elements:
    """Returns an element that moves every unit space that can be moved.

    One draw can be the identity on a small space; of some draws, the one that moves a
    random vector most is taken.

    Raises:
        ValueError: if the group of the spec has one element only.
    """
    g = {
        space.name: _draw(
            jax.random.fold_in(key, number),
            space.group,
            space.size,
            float(spread),
            np.dtype(dtype).name,
        )
        for number, space in enumerate(spec.spaces)
    }
    if not movable(spec, g):
        raise ValueError(
            f"nothing to check: expected a spec whose group moves something, got the "
            f"unit spaces {list(spec.spaces)}, on which it has the identity only. "
            f"Check a network with at least two hidden units in a layer."
        )
    return g


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _draw(key: PRNGKeyArray, name: str, size: int, spread: float, dtype: str) -> Any:
    group = GROUPS[name]
    keys = jax.random.split(key, _TRIES + 1)
    units = jax.random.normal(keys[0], (size,), dtype)
    draws = jax.vmap(lambda one: group.sample(one, size, spread, dtype))(keys[1:])
    moved = jax.vmap(lambda g: jnp.sum(jnp.abs(group.move(g, units, 0, 1) - units)))
    best = jnp.argmax(moved(draws))
    return jax.tree.map(lambda leaf: leaf[best], draws)


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
    names = []
    for space in spec.spaces:
        e = GROUPS[space.group].identity(space.size, g[space.name].scale.dtype)
        pairs = zip(jax.tree.leaves(g[space.name]), jax.tree.leaves(e), strict=True)
        if any(bool(np.any(np.asarray(a) != np.asarray(b))) for a, b in pairs):
            names.append(space.name)
    return names


@jax.jit
def unrelated(key: PRNGKeyArray, tree: Any) -> Any:
    """Returns a tree of independent normal entries, leaf by leaf of the same size."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, max(len(leaves), 1))
    return jax.tree.unflatten(
        structure, [redraw(k, x) for k, x in zip(keys, leaves, strict=False)]
    )


def redraw(key: PRNGKeyArray, leaf: Array) -> Array:
    """Normal entries with the root mean square of `leaf`; 1 where that is zero."""
    size = jnp.sqrt(jnp.mean(leaf * leaf))
    size = jnp.where(size > 0, size, jnp.ones_like(size))
    return size * jax.random.normal(key, leaf.shape, leaf.dtype)


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
