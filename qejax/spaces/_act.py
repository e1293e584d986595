"""The one action of the library, its dense matrix, and the flat vector.

For a kernel `K: [n_{l-1}, n_l]` between two unit spaces with elements `(p, s)`:
`(g K)[i, j] = s_l[j] * K[p_{l-1}[i], p_l[j]] * s_{l-1}[i] ** -k`, with `k` the degree
of the activation between them. Everything about the architecture is in the spec.

Source: Tran et al. 2024, arXiv:2409.11697, equation 12 (transposed: Flax stores
kernels `[in, out]`).
"""

import functools

import jax
import jax.numpy as jnp

from qejax._typing import Array, Float, Theta
from qejax.groups import GROUPS, Monomial
from qejax.spaces._elements import Elements, check_spaces
from qejax.spaces._spec import Leaf, WeightSpec, from_views, views


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
    return from_views(spec, moved, theta)


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
    """
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
        units: by unit space, `[n_s, ...]`.
        power: of the scale by which the features transform; 0 permutes only.

    Returns:
        Features of the same shapes and dtypes.

    Raises:
        ValueError: if `g` does not fit `spec`.
    """
    check_spaces(spec, g)
    groups = spec.space_by_name
    return {
        name: GROUPS[groups[name].group].move(g[name], x, 0, power)
        for name, x in units.items()
    }


def act_leaf(leaf: Leaf, spec: WeightSpec, g: Elements, x: Array) -> Array:
    """Moves one leaf `x: [*leaf.view, ...]`, trailing axes carried along.

    All permutations of the leaf are one gather, and its scales are multiplied in the
    same loop, so that a backend reads and writes the leaf once.
    """
    moved = leaf.moved()
    if not moved:
        return x
    x = jnp.asarray(x)
    groups = spec.space_by_name
    parts: list[tuple[Array, Array | None]] = []
    for position in moved:
        axis = leaf.axes[position]
        assert axis.space is not None
        row = GROUPS[groups[axis.space].group]
        perm, factor = row.monomial(g[axis.space], axis.power)
        parts.append((jnp.asarray(perm), factor))
    permute = _PERMUTE.get(jax.default_backend(), gather_axes)
    x = permute(x, dict(zip(moved, (perm for perm, _ in parts), strict=True)))
    for position, (_, factor) in zip(moved, parts, strict=True):
        if factor is not None:
            x = x * _along(factor.astype(x.dtype), position, x.ndim)
    return x


def _along(vector: Array, axis: int, ndim: int) -> Array:
    return vector.reshape((1,) * axis + (-1,) + (1,) * (ndim - axis - 1))


def gather_axes(x: Array, perms: dict[int, Array]) -> Array:
    """Permutes several axes of `x` by one gather of scalars, or of its last axes.

    Every axis up to the last one that moves gets an index, those that stay an `arange`.
    The result then comes out in the order in which it is stored, and the whole leaf is
    one loop on a CPU; a gather per axis moves the gathered axis to the front and back.

    Measured on 2 cores (`benchmarks/bench_act.py`), processor time of an elementwise
    pass over 4,096 CNNs (three 3x3 convolutions, 16 channels) over that of `vmap(act)`:
    a gather per axis 0.55, one index into the flattened axes 0.75 (0.4 for MLPs),
    one-hot products 0.3, this 0.9.

    Args:
        x: any array.
        perms: by axis, `[x.shape[axis]]`, each a permutation (not checked).

    Returns:
        `y` with `y[i, j, ...] = x[perms[0][i], perms[1][j], ...]`, bit by bit.
    """
    ndim = max(perms) + 1
    index = tuple(
        _along(perms.get(axis, jnp.arange(size)).astype(jnp.int32), axis, ndim)
        for axis, size in enumerate(x.shape[:ndim])
    )
    # In bounds and unique by construction: the defaults would add a comparison and a
    # select per element, and a slower scatter to the gradient.
    return x.at[index].get(
        mode="promise_in_bounds", unique_indices=True, wrap_negative_indices=False
    )


def multiply_axes(x: Array, perms: dict[int, Array]) -> Array:
    """Permutes several axes of `x` by products with 0-1 matrices, for matrix units.

    Equal to `gather_axes` for finite `x` (a zero may lose its sign): every sum has one
    term that is not zero, and the products are not rounded. A non-finite entry spreads.
    """
    for axis, perm in perms.items():
        rows = jax.nn.one_hot(perm, x.shape[axis], dtype=x.dtype)
        moved = jnp.tensordot(x, rows, ((axis,), (1,)), precision="highest")
        x = jnp.moveaxis(moved, -1, axis)
    return x


_PERMUTE = {"tpu": multiply_axes}
"""How axes are permuted by backend, `gather_axes` elsewhere; see the numbers there."""


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
    """Returns `rho(g)` with `ravel(act(g, theta)) == rho(g) @ ravel(theta)`.

    Block diagonal, one block per leaf, each the Kronecker product of the matrices of
    its axes. For checks at small sizes: it has `P * P` entries.
    """
    check_spaces(spec, g)
    blocks = [_leaf_matrix(leaf, spec, g) for leaf in spec.leaves]
    size, start = spec.num_parameters, 0
    rho = jnp.zeros((size, size), blocks[0].dtype)
    for block in blocks:
        stop = start + block.shape[0]
        rho = rho.at[start:stop, start:stop].set(block)
        start = stop
    return rho


def _leaf_matrix(leaf: Leaf, spec: WeightSpec, g: Elements) -> Array:
    dtype = (
        jnp.result_type(*(_scale(element) for element in g.values())) if g else float
    )
    groups = spec.space_by_name
    factors = [jnp.ones((1, 1), dtype)]
    for axis in leaf.axes:
        if axis.space is None:
            factors.append(jnp.eye(axis.size, dtype=dtype))
        else:
            matrix = GROUPS[groups[axis.space].group].matrix
            factors.append(matrix(g[axis.space], axis.power))
    return functools.reduce(jnp.kron, factors)


def _scale(element: Monomial) -> Array:
    return element.scale
