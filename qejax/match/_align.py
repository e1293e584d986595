"""The element of the group that brings one network nearest to another one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from qejax._exact import exact
from qejax._typing import Array, Float, Leaves, Scalar, Theta
from qejax.groups import GROUPS
from qejax.match._factors import FACTORS, element
from qejax.match._matrices import MATRICES
from qejax.match._rows import Rows, rows_of
from qejax.spaces import (
    Elements,
    UnitSpace,
    WeightSpec,
    act,
    act_leaf,
    identity,
    mul,
    views,
)

Units = Mapping[str, Float[Array, "N ... n"]]
"""Activations by unit space, as `Network.units` returns them."""


@exact
def align(
    spec: WeightSpec,
    theta_a: Theta,
    theta_b: Theta,
    *,
    units: tuple[Units, Units] | None = None,
    sweeps: int = 20,
) -> Elements:
    """Returns the `g` for which `act(spec, g, theta_b)` is near `theta_a`.

    Minimises `||theta_a - act(spec, g, theta_b)||^2`, one unit space after another:
    permutations by optimal assignment, with the best factor of every pair of units
    (signs and half periods in closed form, scales by Newton's method), orthogonal
    matrices by Procrustes, invertible ones by Procrustes between balanced factors,
    shifts by their difference; heads by what is left after the best matrices between
    each pair. No update that raises the distance is taken: the result is never farther
    than `theta_b` itself. It is a local minimum; the whole problem is NP-hard.

    One pair, no batch axis: `jax.vmap(align, (None, 0, 0))` aligns many.

    Args:
        spec: of both networks. With the groups of another spec of the same leaves,
            `permutations(spec)`, one matches by permutations alone.
        theta_a: weights of the network that stays.
        theta_b: weights of the network that moves.
        units: activations of both on the same inputs. Units of the spaces that both
            have are then assigned by the correlation of these, and only the rest by
            weights.
        sweeps: over all unit spaces, at most; it ends when one changes nothing.

    Returns:
        One element per unit space and shift, of the dtype of the weights.

    Raises:
        ValueError: if a network does not fit `spec`, or activations do not fit a
            space.

    Source:
        Ainsworth et al. 2023, arXiv:2209.04836, algorithm 1 (permutations); factors and
        matrices our own.

    Example:
        >>> from qejax import nets, spaces
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> theta = net.init(jax.random.key(0))
        >>> g = spaces.sample(jax.random.key(1), net.spec)
        >>> moved = spaces.act(net.spec, g, theta)
        >>> back = spaces.act(net.spec, align(net.spec, theta, moved), moved)
        >>> bool(jnp.allclose(back["layer_00"]["kernel"], theta["layer_00"]["kernel"]))
        True
    """
    first = _views("theta_a", spec, theta_a)
    _views("theta_b", spec, theta_b)
    dtype = jnp.result_type(*first.values())
    told = _told(spec, units)
    e = identity(spec, dtype)
    state = _State(e, theta_b, _distance(spec, first, theta_b), jnp.asarray(True))
    for name, perm in told.items():
        start = e[name]._replace(perm=perm)
        state = state.moved(spec, {**e, name: start}, first, always=True)

    def sweep(carry: tuple[int, _State]) -> tuple[int, _State]:
        number, state = carry
        before = state.left
        for space in spec.spaces:
            h = _update(
                spec, space, first, views(spec, state.theta), space.name in told
            )
            state = state.moved(spec, {**e, space.name: h}, first)
        for shift in spec.shifts:
            now = views(spec, state.theta)
            off = first[shift.leaf] - now[shift.leaf]
            off = jnp.mean(off, shift.along) if shift.along else off
            state = state.moved(spec, {**e, shift.name: off.astype(dtype)}, first)
        going = state.left < before * (1 - _ENOUGH)
        return number + 1, state._replace(going=going)

    return jax.lax.while_loop(
        lambda carry: carry[1].going & (carry[0] < sweeps), sweep, (0, state)
    )[1].g


_ENOUGH = 1e-6
"""Of the distance: a sweep that gains less is the last one."""


class _State(NamedTuple):
    """An element, what it makes of the second network, and how far that is."""

    g: Elements
    theta: Theta
    left: Scalar
    going: Array

    def moved(
        self, spec: WeightSpec, h: Elements, first: Leaves, always: bool = False
    ) -> "_State":
        """Returns the state behind one more element, if that is nearer."""
        theta = act(spec, h, self.theta)
        left = _distance(spec, first, theta)
        better = jnp.asarray(always) | (left < self.left)
        g, theta, left = jax.tree.map(
            lambda new, old: jnp.where(better, new, old),
            (mul(spec, h, self.g), theta, left),
            (self.g, self.theta, self.left),
        )
        return _State(g, theta, left, self.going)


def _views(name: str, spec: WeightSpec, theta: Theta) -> Leaves:
    try:
        return views(spec, theta)
    except ValueError as error:
        raise ValueError(f"align: of two networks, {name} is none: {error}") from None


def _distance(spec: WeightSpec, first: Leaves, theta: Theta) -> Scalar:
    """The squared distance of all weights."""
    leaves = views(spec, theta)
    return sum(
        (jnp.sum((first[path] - x) ** 2) for path, x in leaves.items()),
        jnp.zeros((), jnp.result_type(*first.values())),
    )


def _update(
    spec: WeightSpec, space: UnitSpace, first: Leaves, second: Leaves, told: bool
) -> Any:
    """The best element of one space, all others as they are."""
    inner = [other for other in spec.spaces if other.per == space.name]
    if inner and not told:
        return _with_inner(spec, space, inner, first, second)
    a, b = (list(rows_of(spec, space.name, x)) for x in (first, second))

    def one(values: tuple[list[Array], list[Array]]) -> Any:
        rows = [
            [row._replace(values=x) for row, x in zip(own, new, strict=True)]
            for own, new in zip((a, b), values, strict=True)
        ]
        return best(space.group, *rows, told=told)

    values = ([row.values for row in a], [row.values for row in b])
    return one(values) if space.per is None else jax.vmap(one)(values)


def best(
    group: str, first: Sequence[Rows], second: Sequence[Rows], told: bool = False
) -> Any:
    """Returns the element that brings rows nearest to others.

    Args:
        group: of the units.
        first: rows `[n, R]` of the network that stays.
        second: of the one that moves.
        told: whether units stand where they should; then only factors are told.
    """
    if group in MATRICES:
        matrix = MATRICES[group](first, second)
        like = GROUPS[group].identity(first[0].values.shape[0], matrix.dtype)
        return jnp.where(jnp.all(jnp.isfinite(matrix)), matrix, like)
    found = FACTORS[group](first, second)
    size = found.cost.shape[0]
    perm = jnp.arange(size) if told else assigned(found.cost)
    return element(group, perm, found)


def assigned(cost: Float[Array, "n n"]) -> Array:
    """Returns `perm` with the least `sum_i cost[i, perm[i]]`."""
    top = jnp.max(jnp.where(jnp.isfinite(cost), cost, 0))
    rows, columns = optax.assignment.hungarian_algorithm(
        jnp.where(jnp.isfinite(cost), cost, top)
    )
    return jnp.zeros(cost.shape[0], jnp.int32).at[rows].set(columns.astype(jnp.int32))


def _with_inner(
    spec: WeightSpec,
    host: UnitSpace,
    inner: Sequence[UnitSpace],
    first: Leaves,
    second: Leaves,
) -> Any:
    """Units with spaces of their own, by what is left behind the best of these.

    Every unit is compared with every other one: all of them are moved on by `k`, for
    all `k`.
    """
    size = host.size
    touching = [
        leaf for leaf in spec.leaves if any(a.space == host.name for a in leaf.axes)
    ]
    dtype = jnp.result_type(*first.values())
    e = identity(spec, dtype)

    def on(leaves: Leaves, name: str, h: Any) -> Leaves:
        own = {
            leaf.path: act_leaf(leaf, spec, {**e, name: h}, leaves[leaf.path])
            for leaf in touching
        }
        return leaves | own

    def left(step: Array) -> Array:
        perm = (jnp.arange(size) + step) % size
        leaves = on(second, host.name, e[host.name]._replace(perm=perm))
        for space in inner:
            h = _update(spec, space, first, leaves, told=False)
            leaves = on(leaves, space.name, h)
        total = jnp.zeros(size, dtype)
        for leaf in touching:
            place = next(n for n, a in enumerate(leaf.axes) if a.space == host.name)
            off = jnp.moveaxis(first[leaf.path] - leaves[leaf.path], place, 0)
            total = total + jnp.sum(off.reshape(size, -1) ** 2, -1)
        return total

    each = jax.lax.map(left, jnp.arange(size))
    i, j = jnp.arange(size)[:, None], jnp.arange(size)[None]
    perm = assigned(each[(j - i) % size, i])
    return e[host.name]._replace(perm=perm)


def _told(spec: WeightSpec, units: tuple[Units, Units] | None) -> dict[str, Array]:
    """Permutations by the correlation of activations, by unit space."""
    if units is None:
        return {}
    found = {}
    for space in spec.spaces:
        name = space.name
        if name not in units[0] or name not in units[1]:
            continue
        if GROUPS[space.group].monomial is None or space.per is not None:
            continue
        for which, own in zip(("first", "second"), units, strict=True):
            if own[name].shape[-1] != space.size:
                raise ValueError(
                    f"align: activations of {name!r} in the {which} network should "
                    f"have {space.size} units along the last axis, got the shape "
                    f"{own[name].shape}. Use those of qejax.nets.Network.units."
                )
        a, b = (_standard(own[name]) for own in units)
        pairs = jnp.einsum("ri,rj->ij", a, b, precision="highest")
        signed = space.group in ("sign", "dihedral")
        found[name] = assigned(-jnp.abs(pairs) if signed else -pairs)
    return found


def _standard(x: Array) -> Array:
    """Samples and positions `[R, n]`, mean 0 and norm 1; a unit that is constant 0."""
    rows = x.reshape(-1, x.shape[-1])
    rows = rows - jnp.mean(rows, 0, keepdims=True)
    norm = jnp.sqrt(jnp.sum(rows**2, 0, keepdims=True))
    return rows / jnp.where(norm > 0, norm, 1)
