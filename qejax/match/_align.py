"""The element of the group that brings one network nearest to another one."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.core import Tracer

from qejax._exact import exact
from qejax._typing import Array, Float, Leaves, Scalar, Theta
from qejax.gauges import assigned
from qejax.groups import GROUPS
from qejax.match._barrier import barrier
from qejax.match._descend import (
    State,
    descended,
    in_order,
    only_permutes,
    started,
    unshifted,
)
from qejax.match._permutations import permutations
from qejax.match._permuting import permuting
from qejax.spaces import Elements, WeightSpec, from_views, identity, views

Units = Mapping[str, Float[Array, "N ... n"]]
"""Activations by unit space, as `Network.units` returns them."""


@exact
def align(
    spec: WeightSpec,
    theta_a: Theta,
    theta_b: Theta,
    *,
    units: tuple[Units, Units] | None = None,
    loss: Callable[[Theta], Scalar] | None = None,
    sweeps: int = 20,
) -> Elements:
    """Returns the `g` for which `act(spec, g, theta_b)` is near `theta_a`.

    Minimises `||theta_a - act(spec, g, theta_b)||^2`, one unit space after another:
    permutations by optimal assignment, with the best factor of every pair of units
    (signs and half periods in closed form, scales by Newton's method), orthogonal
    matrices by Procrustes, invertible ones by Procrustes between balanced factors,
    shifts by their difference; heads by what is left after the best matrices between
    each pair. Only the first sweep of the third start may raise the distance.

    It starts three times and returns the nearest end: from `theta_b` as it is; from
    where matching by permutations alone ends, so that the result is never farther than
    that; and from unit spaces told one after another from the inputs on, each by the
    weights between it and those before it, which finds two networks of one orbit
    exactly, but for some transformers without a residual stream. An end is a local
    minimum; the whole problem is NP-hard.

    With a `loss` it returns the element with the lowest barrier of all that this leads
    to, permutations alone included and, with `units`, both ways of telling units.

    The result is an element of the group and keeps the function. What weights do not
    tell stays: the factor of a unit whose weights are all zero, the matrix of a head
    where its product has no rank. Traced weights that are not finite lead anywhere.

    One pair, no batch axis: `jax.vmap(align, (None, 0, 0))` aligns many, and on many
    devices `shard_map` with `check_vma=False` does (see `gauges.assigned`).

    Args:
        spec: of both networks. With the groups of another spec of the same leaves,
            `permutations(spec)`, one matches by permutations alone.
        theta_a: weights of the network that stays.
        theta_b: weights of the network that moves.
        units: activations of both on the same inputs. Units of the spaces that both
            have are then assigned by the correlation of these, and only the rest by
            weights: what is said of distances above is then said of the rest.
        loss: of the weights of one network, such as on a few inputs; see above.
        sweeps: of one start at most; it ends when one changes nothing.

    Returns:
        One element per unit space and shift, of the dtype of the weights.

    Raises:
        ValueError: if a network does not fit `spec` or is not finite, dtypes differ,
            activations fit no space or one another, or `sweeps` is less than 1.

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
    if sweeps < 1:
        raise ValueError(
            f"align(sweeps=...): expected at least 1 over all unit spaces, got "
            f"{sweeps}. Without any nothing is aligned."
        )
    first = _views("theta_a", spec, theta_a)
    second = _views("theta_b", spec, theta_b)
    _check_dtypes(first, second)
    told = _told(spec, units)
    if loss is None:
        _, ends = _ends(spec, first, second, told, sweeps)
        return _least(ends, jax.vmap(lambda state: state.total)(ends)).g
    return _lowest(spec, loss, theta_a, theta_b, told, sweeps)


def _lowest(
    spec: WeightSpec,
    loss: Callable[[Theta], Scalar],
    theta_a: Theta,
    theta_b: Theta,
    told: Mapping[str, Array],
    sweeps: int,
) -> Elements:
    """The element with the lowest barrier, of all starts and all they lead to."""
    first, second = views(spec, theta_a), views(spec, theta_b)
    found: list[State] = []
    for own in [told, {}] if told else [told]:
        found += _ends(spec, first, second, own, sweeps)
        if not only_permutes(spec):
            found += _permuted(spec, first, second, own, sweeps)
    every = jax.tree.map(lambda *x: jnp.concatenate(x), *found)

    def height(own: Leaves) -> Scalar:
        return barrier(loss, theta_a, from_views(spec, own, theta_b), POINTS).height

    return _least(every, jax.lax.map(height, every.leaves)).g


POINTS = 11
"""Of the line between two networks, on which a loss is measured."""


def _least(states: State, costs: Array) -> State:
    at = jnp.argmin(jnp.where(jnp.isnan(costs), jnp.inf, costs))
    return jax.tree.map(lambda x: x[at], states)


def _ends(
    spec: WeightSpec,
    first: Leaves,
    second: Leaves,
    told: Mapping[str, Array],
    sweeps: int,
) -> tuple[State, State]:
    """Several starts, and the local minima that they lead to, stacked."""
    e = identity(spec, jnp.result_type(*first.values()))
    forced = [False, True]
    plain, _ = unshifted(spec, first)
    leaves, shifts = unshifted(spec, second)
    starts = [
        _start(spec, first, e, second, told),
        _start(spec, first, e | shifts, leaves, told),
    ]
    if not only_permutes(spec):
        _, ends = _permuted(spec, first, second, told, sweeps)
        starts.append(_least(ends, jax.vmap(lambda state: state.total)(ends)))
        forced.append(False)
    compared = in_order(spec)

    def end(given: tuple[State, Array]) -> State:
        state, forced = given
        early = (plain, compared, forced)
        return descended(spec, first, state, frozenset(told), early, sweeps)

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    return stacked, jax.lax.map(end, (stacked, jnp.asarray(forced)))


def _permuted(
    spec: WeightSpec,
    first: Leaves,
    second: Leaves,
    told: Mapping[str, Array],
    sweeps: int,
) -> tuple[State, State]:
    """The starts and ends of permutations alone, as elements of the whole group."""
    e = identity(spec, jnp.result_type(*first.values()))

    def whole(states: State) -> State:
        perms = {name: one.perm for name, one in states.g.items()}
        return jax.lax.map(lambda own: _start(spec, first, e, second, own), perms)

    starts, ends = _ends(permutations(spec), first, second, told, sweeps)
    return whole(starts), whole(ends)


def _start(
    spec: WeightSpec,
    first: Leaves,
    g: Elements,
    leaves: Leaves,
    perms: Mapping[str, Array],
) -> State:
    """The state of an element, and of permutations behind it."""
    e = identity(spec, jnp.result_type(*first.values()))
    state = started(first, leaves, g)
    for name, perm in perms.items():
        h = permuting(spec, name, perm, e[name])
        state = state.moved(spec, name, h, first, jnp.asarray(True))
    return state


def _views(name: str, spec: WeightSpec, theta: Theta) -> Leaves:
    try:
        leaves = views(spec, theta)
    except ValueError as error:
        raise ValueError(f"align: of two networks, {name} is none: {error}") from None
    for path, x in leaves.items():
        if not isinstance(x, Tracer) and not jnp.all(jnp.isfinite(x)):
            raise ValueError(
                f"align: weights of {name} should be finite, got some in leaf "
                f"{path!r} that are not. Such a network has no distance to any other: "
                f"leave it out."
            )
    return {path: jnp.asarray(x) for path, x in leaves.items()}


def _check_dtypes(first: Leaves, second: Leaves) -> None:
    for path, x in first.items():
        if x.dtype != second[path].dtype:
            raise ValueError(
                f"align: both networks should be of one dtype, got {x.dtype} and "
                f"{second[path].dtype} in leaf {path!r}. Cast one of them."
            )


def _told(spec: WeightSpec, units: tuple[Units, Units] | None) -> dict[str, Array]:
    """Permutations by the correlation of activations, by unit space."""
    if units is None:
        return {}
    known = {space.name for space in spec.spaces}
    if not known & set(units[0]) & set(units[1]):
        raise ValueError(
            f"align: activations should be of some of the unit spaces {sorted(known)}, "
            f"got those of {sorted(units[0])} and {sorted(units[1])}. Use those of "
            f"qejax.nets.Network.units."
        )
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
        if units[0][name].shape != units[1][name].shape:
            raise ValueError(
                f"align: activations of {name!r} should be of the same inputs in both "
                f"networks, got the shapes {units[0][name].shape} and "
                f"{units[1][name].shape}. Run both on one batch."
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
