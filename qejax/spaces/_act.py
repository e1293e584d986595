"""The one action of the library, its dense matrix, and the flat vector.

For a kernel `K: [n_{l-1}, n_l]` between two unit spaces with elements `(p, s)`:
`(g K)[i, j] = s_l[j] * K[p_{l-1}[i], p_l[j]] * s_{l-1}[i] ** -k`, with `k` the degree
of the activation between them. An axis that a matrix group moves is multiplied by the
matrix where units are written, by its inverse transpose where they are read. Everything
about the architecture is in the spec.

Source: Tran et al. 2024, arXiv:2409.11697, equation 12 (transposed: Flax stores
kernels `[in, out]`).
"""

import jax
import jax.numpy as jnp

from qejax._typing import Array, Float, Leaves, Theta
from qejax.spaces._elements import Elements, check_spaces
from qejax.spaces._leaf import Axis, Leaf
from qejax.spaces._move import act_leaf
from qejax.spaces._phases import act_turns
from qejax.spaces._spec import Shift, WeightSpec
from qejax.spaces._views import from_views, views


def act(spec: WeightSpec, g: Elements, theta: Theta) -> Theta:
    """Rewires one network without changing the function that it computes.

    Unit `i` of a space of the result is unit `g[space].perm[i]` of `theta`, with its
    incoming weights and bias multiplied by `g[space].scale[i]` and its outgoing
    weights divided by it (to the degree of the activation). A left action:
    `act(spec, mul(spec, h, g), theta) == act(spec, h, act(spec, g, theta))`.

    One network, no batch axis; batch over a zoo, and over one element per network,
    with `jax.vmap(act, in_axes=(None, 0, 0))`.

    Args:
        spec: the weight space.
        g: one element per unit space; the values are not checked
            (see `check_elements`).
        theta: weights that fit `spec`, of JAX or NumPy.

    Returns:
        Weights with the structure, shapes and dtypes of `theta`.

    Raises:
        ValueError: if `g` or `theta` does not fit `spec`.

    Example:
        >>> import jax.numpy as jnp
        >>> from qejax import nets
        >>> from qejax.groups import Monomial
        >>> spec = nets.mlp_spec((1, 2, 1), activation="relu")
        >>> def layer(kernel, bias):
        ...     return {"kernel": jnp.array(kernel), "bias": jnp.array(bias)}
        >>> theta = {
        ...     "layer_00": layer([[1.0, 2.0]], [0.0, 3.0]),
        ...     "layer_01": layer([[5.0], [7.0]], [1.0]),
        ... }
        >>> g = {"hidden_0": Monomial(jnp.array([1, 0]), jnp.array([2.0, 1.0]))}
        >>> moved = act(spec, g, theta)
        >>> print(moved["layer_00"]["kernel"], moved["layer_01"]["kernel"].T)
        [[4. 1.]] [[3.5 5. ]]
    """
    check_spaces(spec, g)
    leaves = views(spec, theta)
    moved = {
        leaf.path: act_leaf(leaf, spec, g, leaves[leaf.path]) for leaf in spec.leaves
    }
    moved = act_turns(spec, g, moved)
    return from_views(spec, act_shifts(spec, g, moved), theta)


def act_shifts(spec: WeightSpec, g: Elements, leaves: Leaves) -> Leaves:
    """Adds the shifts of `g`, and takes off the biases what they add downstream.

    Args:
        spec: the weight space.
        g: an array for each shift; other entries are not read.
        leaves: by path, `[*leaf.view]`, already moved by the unit spaces.
    """
    for shift in spec.shifts:
        leaves = act_shift(spec, shift, g[shift.name], leaves)
    return leaves


def act_shift(spec: WeightSpec, shift: Shift, t: Array, leaves: Leaves) -> Leaves:
    """Adds one shift `t` and takes off what it adds downstream; see `act_shifts`."""
    shifted = dict(leaves)
    t = t.astype(leaves[shift.leaf].dtype)
    shifted[shift.leaf] = leaves[shift.leaf] + jnp.expand_dims(t, shift.along)
    for route in shift.routes:
        if route.kernel is None:
            through = jnp.broadcast_to(t, leaves[route.bias].shape)
        else:
            kernel = _felt(spec, route.kernel, leaves[route.kernel])
            through = jnp.einsum(
                route.subscripts, t.astype(kernel.dtype), kernel, precision="highest"
            )
        shifted[route.bias] = shifted[route.bias] - through
    return shifted


def _felt(spec: WeightSpec, path: str, kernel: Array) -> Array:
    """The part of a kernel that no shift of its own moves, so that shifts commute."""
    for shift in spec.shifts:
        if shift.leaf == path and shift.along:
            kernel = kernel - jnp.mean(kernel, shift.along, keepdims=True)
    return kernel


def act_features(
    spec: WeightSpec, g: Elements, feats: dict[str, Array]
) -> dict[str, Array]:
    """Moves features, leaves with trailing axes, by the same element on every channel.

    Args:
        spec: the weight space.
        g: one element per unit space.
        feats: by leaf path, `[*leaf.view, ...]`; trailing axes are channels.

    Returns:
        Features of the same shapes and dtypes.

    Raises:
        ValueError: if `g` does not fit `spec`, or the spec has shifts: features of
            channels that a shift moves are those of its `settled_spec`.
    """
    if spec.shifts:
        raise ValueError(
            f"act_features: expected a spec without shifts, got "
            f"{[shift.name for shift in spec.shifts]}. Use features of "
            f"qejax.spaces.settled_spec(spec)."
        )
    check_spaces(spec, g)
    return {
        leaf.path: act_leaf(leaf, spec, g, feats[leaf.path]) for leaf in spec.leaves
    }


def act_units(
    spec: WeightSpec, g: Elements, units: dict[str, Array], power: int = 0
) -> dict[str, Array]:
    """Moves features of units.

    Args:
        spec: the weight space.
        g: one element per unit space.
        units: by unit space, `[n_s, ...]`, or `[m, n_s, ...]` of a space per another.
        power: of the scale by which the features transform; 0 permutes only.

    Returns:
        Features of the same shapes and dtypes.

    Raises:
        ValueError: if `g` does not fit `spec`.
    """
    check_spaces(spec, g)
    moved = {}
    for name, x in units.items():
        space = spec.space_by_name[name]
        axes = tuple(Axis(n, space.per) for n in spec.per_size(space))
        leaf = Leaf(name, (*axes, Axis(space.size, name, power)))
        moved[name] = act_leaf(leaf, spec, g, x)
    return moved


def ravel(spec: WeightSpec, theta: Theta) -> Float[Array, " P"]:
    """Returns all weights as one vector, leaves in the order of the spec.

    Args:
        spec: the weight space.
        theta: weights of one network.

    Returns:
        `[P]`, each leaf flattened row by row.

    Raises:
        ValueError: if `theta` does not fit `spec`.
    """
    return jnp.concatenate([leaf.reshape(-1) for leaf in views(spec, theta).values()])


def unravel(spec: WeightSpec, vector: Float[Array, " P"], like: Theta) -> Theta:
    """Returns the weights whose `ravel` is `vector`, in the structure of `like`.

    Raises:
        ValueError: if `vector` does not have `P` entries.
    """
    if vector.shape != (spec.num_parameters,):
        raise ValueError(
            f"unravel: vector should have shape ({spec.num_parameters},), got "
            f"{vector.shape}."
        )
    leaves, start = {}, 0
    for leaf in spec.leaves:
        leaves[leaf.path] = vector[start : start + leaf.size].reshape(leaf.view)
        start += leaf.size
    return from_views(spec, leaves, like)


def dense_matrix(spec: WeightSpec, g: Elements) -> Float[Array, "P P"]:
    """Returns `rho(g)`: `ravel(act(g, theta)) == rho(g) @ ravel(theta) + offset(g)`.

    One block per leaf on the diagonal, and one for each route of a shift below it. For
    checks at small sizes: it has `P * P` entries.
    """
    check_spaces(spec, g)
    dtype = jnp.result_type(float, *_floating(g))
    size, start = spec.num_parameters, 0
    rows: Leaves = {}
    for leaf in spec.leaves:
        own = jnp.eye(leaf.size, size, start, dtype)
        rows[leaf.path] = act_leaf(leaf, spec, g, own.reshape(*leaf.view, size))
        start += leaf.size

    def column(leaves: Leaves) -> Leaves:
        silent = act_shifts(spec, g, jax.tree.map(jnp.zeros_like, leaves))
        moved = act_shifts(spec, g, leaves)
        return jax.tree.map(jnp.subtract, moved, silent)

    if spec.shifts:
        rows = jax.vmap(column, -1, -1)(rows)
    flat = [rows[leaf.path].reshape(leaf.size, size) for leaf in spec.leaves]
    return jnp.concatenate(flat)


def offset(spec: WeightSpec, g: Elements) -> Float[Array, " P"]:
    """Returns what `act` adds to any weights: zero without shifts and turns."""
    check_spaces(spec, g)
    dtype = jnp.result_type(float, *_floating(g))
    zeros = {leaf.path: jnp.zeros(leaf.view, dtype) for leaf in spec.leaves}
    shifted = act_shifts(spec, g, act_turns(spec, g, zeros))
    return jnp.concatenate([shifted[leaf.path].reshape(-1) for leaf in spec.leaves])


def _floating(g: Elements) -> list[Array]:
    leaves = jax.tree.leaves(g)
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
