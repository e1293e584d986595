"""Canonical form: the point of an orbit at which everything but order is fixed.

`kappa(g theta) = p kappa(theta) g^-1` with `p` a permutation, so that after
`canonical_form` only permutations are left. One sweep over the unit spaces in the order
of the network: a positively scaled unit is divided by the norm of its incoming weights
and bias, a signed unit multiplied by the sign of an odd statistic of them, both taken
after the units before it are canonical. There is no trainable part, so run it once per
zoo.

Where matrices act, weights are settled first (`_settle.py`), and what a head or an
adapter computes is split evenly between its two sides: `Q K^T = U S V^T` becomes
`U S^(1/2)` and `V S^(1/2)`, singular values in descending order.

Units are fixed by the first leaves, in network order, that write them with a non-zero
value. A dead unit (no leaf writes it) computes zero, so what reads it is left out of
the norms of later units, and its scale is fixed by the norm of its outgoing weights
instead. Nothing is added inside a norm: an epsilon there is not invariant.

Source: the canonical map of Tran et al. 2026, arXiv:2604.23720, appendix (gauge
fixing), made total (dead units, shared unit spaces) and free of overflow.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qejax._typing import Array, Leaves, Scalar, Theta
from qejax.groups import Dihedral, Monomial
from qejax.spaces import _frames, _scaled
from qejax.spaces._balanced import split_evenly
from qejax.spaces._elements import Elements
from qejax.spaces._phases import (
    phase_free,
    signed_spec,
    smooth,
    unturned,
)
from qejax.spaces._scaled import Scaled
from qejax.spaces._settle import (
    has_matrices,
    nested,
    settle,
    settled_spec,
)
from qejax.spaces._spec import Leaf, WeightSpec
from qejax.spaces._telling import telling_of
from qejax.spaces._views import from_views, nan_unless_finite, views


class Canonical(NamedTuple):
    """The normal form of one network.

    Attributes:
        theta: structure and shapes of the network. Incoming weights of every live,
            positively scaled unit have norm one together with its bias. Leaves that
            read units and write fixed outputs are divided by their own norm: that is
            where the product of all scales ends up, and it may be out of range.
        log_norm: natural logarithm of that norm, by path of the divided leaves; 0 for
            a leaf of zeros.
    """

    theta: Theta
    log_norm: dict[str, Scalar]


class _Sizes(NamedTuple):
    """By unit space: `[n_s]` size by which units are divided, and whether it is set."""

    size: dict[str, Scaled]
    known: dict[str, Array]


def canonical_form(spec: WeightSpec, theta: Theta) -> Canonical:
    """Returns the normal form of one network under scales and signs.

    For every `g` of the group of `spec`, `canonical_form(spec, act(spec, g, theta))`
    is `canonical_form(spec, theta)` with units permuted, and the same `log_norm`;
    idempotent. Holds at any scale, for dead and nearly dead units, to the rounding of
    the dtype. Units whose incoming and outgoing weights are all zero keep theirs.

    Ties: a signed unit whose incoming weights have no odd statistic (antisymmetric to
    the last bits) is decided by its outgoing weights, and kept as it is if they have
    none either.

    Differentiable where no matrices act, with the exponents and signs constant. Where a
    unit dies the form is not continuous; gradients are finite there, those of a dead
    unit's norm zero.

    Matrices: a zero singular value makes a zero pair of columns, and the result is then
    on the closure of the orbit, not on it; it computes the same function. Where two
    singular values (or two principal axes of a stream) are equal their columns are some
    basis of the plane, and the form is one of several. Between close values rounding
    is amplified by one over their relative distance. Likewise one of several: the signs
    of a stream's axes where all leaves that tell them are zero, and a stream without
    norms in directions that are not written before it is first read. A network with an
    entry that is not finite has a form of NaNs.

    Args:
        spec: the weight space; spaces of the group `permutation` are left alone.
        theta: finite weights of one network, no batch axis (batch with `jax.vmap`).

    Returns:
        See `Canonical`; dtypes of `theta`.

    Raises:
        ValueError: if `theta` does not fit `spec`.

    Example:
        >>> import jax
        >>> from qejax import nets
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> theta = net.init(jax.random.key(0))
        >>> normal = canonical_form(net.spec, theta)
        >>> first = normal.theta["layer_00"]
        >>> square = jnp.sum(first["kernel"] ** 2, 0) + first["bias"] ** 2
        >>> [round(float(s), 5) for s in square]
        [1.0, 1.0, 1.0]
    """
    leaves = given = views(spec, theta)
    leaves, _ = unturned(spec, leaves)
    spec = signed_spec(spec)
    size: dict[str, Scaled] = {}
    if has_matrices(spec):
        leaves = _framed(spec, leaves)
    else:
        size = _sweep(spec, leaves, _scaled_spaces(spec)).size
    normal: Leaves = {}
    log_norm: dict[str, Scalar] = {}
    for leaf in spec.leaves:
        if not _is_output(leaf) and not any(axis.space in size for axis in leaf.axes):
            normal[leaf.path] = leaves[leaf.path]
            continue
        moved = _rescaled(leaf, leaves[leaf.path], size)
        if _is_output(leaf):
            flat = _scaled.reshape(moved, (-1,))
            total = _scaled.norm(flat, axis=0)
            total = _scaled.where(total.mantissa > 0, total, Scaled(*_like_one(total)))
            log_norm[leaf.path] = _scaled.log(total)
            moved = _scaled.mul(moved, _scaled.power(total, -1))
        normal[leaf.path] = _scaled.join(moved)
    form = Canonical(from_views(spec, normal, theta), log_norm)
    return nan_unless_finite(form, given) if has_matrices(spec) else form


def restore(spec: WeightSpec, canonical: Canonical) -> Theta:
    """Returns the weights on the orbit that a canonical form stands for.

    They compute the function of the original network; leaves overflow only where the
    true value leaves the range of the dtype.
    """
    leaves = views(spec, canonical.theta)
    for path, log_norm in canonical.log_norm.items():
        leaves[path] = leaves[path] * jnp.exp(log_norm)
    return from_views(spec, leaves, canonical.theta)


def canonical_element(spec: WeightSpec, theta: Theta) -> Elements:
    """Returns `kappa(theta)`: the element that brings `theta` to its normal form.

    `act(spec, kappa, theta)` equals `restore(spec, canonical_form(spec, theta))`.
    Permutations are the identity. Scales are plain numbers here and can leave the
    range of the dtype where `canonical_form` does not.
    """
    if has_matrices(spec):
        raise ValueError(
            f"canonical_element: expected a spec of permutations, scales and signs, "
            f"got the groups {sorted({s.group for s in spec.spaces})} and "
            f"{len(spec.shifts)} shifts. Where a singular value is zero no element "
            f"leads to the normal form: use canonical_form."
        )
    leaves, turns = unturned(spec, views(spec, theta))
    sizes = _sweep(signed_spec(spec), leaves, _scaled_spaces(spec)).size
    kappa: Elements = {}
    for name, size in sizes.items():
        scale = _scaled.join(_scaled.power(size, -1))
        one = Monomial(jnp.arange(scale.shape[0]), scale)
        if name in turns:
            taken = (-scale * turns[name]).astype(jnp.int32)
            one = Dihedral(one.perm, one.scale, taken)
        kappa[name] = one
    return kappa


def log_norm_paths(spec: WeightSpec) -> tuple[str, ...]:
    """Returns the paths of the leaves that `canonical_form` divides by their norm.

    They read units and write fixed outputs; the keys of `Canonical.log_norm`.
    """
    return tuple(leaf.path for leaf in spec.leaves if _is_output(leaf))


def _is_output(leaf: Leaf) -> bool:
    powers = [axis.power for axis in leaf.axes if axis.space is not None]
    return bool(powers) and all(power < 0 for power in powers)


def _like_one(x: Scaled) -> tuple[Array, Array]:
    return jnp.ones_like(x.mantissa), jnp.zeros_like(x.exponent)


def settled(spec: WeightSpec, theta: Theta) -> Theta:
    """Returns the settled weights of one network, of `settled_spec(spec)`.

    For every `g` of the group of `spec` there is one of the group of
    `settled_spec(spec)` that brings `settled(spec, theta)` to
    `settled(spec, act(spec, g, theta))`: shifts, scales of norms, rotary heads and
    rotations of streams are gone; permutations, scales and signs of units, and general
    linear maps of heads and adapters are as they came. A network with an entry that is
    not finite has a form of NaNs.

    Args:
        spec: the weight space.
        theta: finite weights of one network, no batch axis (batch with `jax.vmap`).

    Returns:
        `theta` itself where there is nothing to settle, whatever its entries; else a
        nested dict.

    Raises:
        ValueError: if `theta` does not fit `spec`, or the normal form of a stream
            cannot be told from it.
    """
    if settled_spec(spec) == spec:
        return theta
    leaves = given = views(spec, theta)
    leaves, _ = unturned(spec, leaves)
    spec = signed_spec(spec)
    if has_matrices(spec):
        leaves = settle(spec, leaves, _resized).given
    found = reduced(spec, from_views(spec, leaves, theta))
    return nan_unless_finite(found, given)


def reduced(spec: WeightSpec, theta: Theta) -> Theta:
    """Returns what is left of weights in normal form, of `settled_spec(spec)`.

    Without the leaves that are constant then, and with phases read without their half
    periods (`_phases.py`). `theta` itself where that is nothing.
    """
    free = settled_spec(spec)
    if free == spec:
        return theta
    leaves = phase_free(spec, views(spec, theta))
    return nested(free, {leaf.path: leaves[leaf.path] for leaf in free.leaves})


def _framed(spec: WeightSpec, leaves: Leaves) -> Leaves:
    """The normal form where matrices act: settled, signs fixed, heads balanced."""
    white = settle(spec, leaves, _resized).white
    open_signs = {s.name for s in spec.spaces if s.group in ("sign", "general_linear")}
    for space in spec.spaces:
        name = space.name
        if space.group == "sign":
            white = _resized(spec, white, frozenset({name}), frozenset())
        if space.group == "general_linear":
            both = _frames.touches(spec, name)
            white = split_evenly(white, both)
            telling = telling_of(spec, white, name, open_signs - {name})
            sign = _frames.diagonal(_frames.column_signs(*telling))
            white = _frames.transformed(white, both, sign, sign)
        open_signs -= {name}
    return white


def _resized(
    spec: WeightSpec, leaves: Leaves, free: frozenset[str], pending: frozenset[str]
) -> Leaves:
    size = _sweep(spec, leaves, free, pending).size
    size = {name: size[name] for name in free}
    return {
        leaf.path: _scaled.join(_rescaled(leaf, leaves[leaf.path], size))
        if any(axis.space in free for axis in leaf.axes)
        else leaves[leaf.path]
        for leaf in spec.leaves
    }


def _scaled_spaces(spec: WeightSpec) -> frozenset[str]:
    return frozenset(s.name for s in spec.spaces if s.group != "permutation")


def _sweep(
    spec: WeightSpec,
    leaves: Leaves,
    free: frozenset[str],
    pending: frozenset[str] = frozenset(),
) -> _Sizes:
    """Sizes of the units of `free`; leaves that touch `pending` spaces are left out."""
    dtype = jnp.result_type(*leaves.values())
    unknown = free | pending
    leaves = smooth(spec, leaves)
    sizes = _Sizes(
        {s.name: _scaled.ones(s.size, dtype) for s in spec.spaces},
        {s.name: jnp.full(s.size, s.name not in unknown) for s in spec.spaces},
    )
    for name, group in itertools.groupby(spec.leaves, _written):
        if name in free:
            rows = [_incoming(leaf, leaves[leaf.path], name, sizes) for leaf in group]
            sizes = _settle(spec, name, rows, 1, sizes)
    for space in reversed(spec.spaces):
        for leaf in spec.leaves:
            if space.name in free and leaf.reads(space.name):
                row = _incoming(leaf, leaves[leaf.path], space.name, sizes, -1)
                degree = max(-a.power for a in leaf.axes if a.space == space.name)
                sizes = _settle(spec, space.name, [row], -degree, sizes)
    return sizes


def _written(leaf: Leaf) -> str | None:
    for axis in leaf.axes:
        if axis.space is not None and axis.power > 0:
            return axis.space
    return None


def _rescaled(leaf: Leaf, x: Array, size: dict[str, Scaled]) -> Scaled:
    """The leaf divided by the sizes of the units it writes and times those it reads."""
    out = _scaled.split(x)
    for position, axis in enumerate(leaf.axes):
        if axis.space in size:
            shape = tuple(-1 if p == position else 1 for p in range(x.ndim))
            factor = _scaled.power(size[axis.space], -axis.power)
            out = _scaled.mul(out, _scaled.reshape(factor, shape))
    return out


def _incoming(
    leaf: Leaf, x: Array, space: str, sizes: _Sizes, direction: int = 1
) -> tuple[Scaled, np.ndarray]:
    """Entries of a leaf at each unit of `space`, `[n_s, m]`, and weights `[m]`.

    `direction` 1 takes the axis that writes the space, -1 the one that reads it. The
    other axes are canonical; entries at units that are not settled are zero. Weights
    tell fixed positions apart and are equal along moved axes, so that a weighted sum
    does not depend on the order of units.
    """
    own = next(
        position
        for position, axis in enumerate(leaf.axes)
        if axis.space == space and axis.power * direction > 0
    )
    scaled = _scaled.split(x)
    weights = np.ones([1] * x.ndim)
    for position, axis in enumerate(leaf.axes):
        if position == own:
            continue
        shape = tuple(-1 if p == position else 1 for p in range(x.ndim))
        if axis.space is None:
            # Any fixed weights without symmetry do.
            weights = weights * (1 + 0.5 * np.sin(1 + np.arange(axis.size))).reshape(
                shape
            )
            continue
        known = sizes.known[axis.space]
        factor = _scaled.power(sizes.size[axis.space], -axis.power)
        factor = Scaled(jnp.where(known, factor.mantissa, 0), factor.exponent)
        scaled = _scaled.mul(scaled, _scaled.reshape(factor, shape))
    others = tuple(n for p, n in enumerate(x.shape) if p != own)
    weights = np.broadcast_to(weights.squeeze(own), others).reshape(-1)
    order = (own, *(p for p in range(x.ndim) if p != own))
    rows = Scaled(
        scaled.mantissa.transpose(order).reshape(x.shape[own], -1),
        scaled.exponent.transpose(order).reshape(x.shape[own], -1),
    )
    return rows, weights


def _settle(
    spec: WeightSpec,
    space: str,
    rows: list[tuple[Scaled, np.ndarray]],
    power: int,
    sizes: _Sizes,
) -> _Sizes:
    """Sets the sizes of units that are open, from entries that scale with `power`."""
    entries = Scaled(
        jnp.concatenate([row.mantissa for row, _ in rows], axis=1),
        jnp.concatenate([row.exponent for row, _ in rows], axis=1),
    )
    weights = np.concatenate([w for _, w in rows])
    group = spec.space_by_name[space].group
    found = _SIZE_OF[group](entries, weights, power)
    decided = found.mantissa != 0
    old, known = sizes.size[space], sizes.known[space]
    size = _scaled.where(decided & ~known, found, old)
    # Without it XLA of jax 0.11 and 0.12 fuses them with all sizes before them, and
    # did not end in nine minutes on a network of three hidden layers.
    size, known = jax.lax.optimization_barrier((size, known | decided))
    return _Sizes({**sizes.size, space: size}, {**sizes.known, space: known})


def _norm_size(entries: Scaled, weights: np.ndarray, power: int) -> Scaled:
    """Norm of the entries, turned into a size; zero where all entries are zero."""
    del weights
    total = _scaled.norm(entries, axis=1)
    live = total.mantissa > 0
    safe = _scaled.where(live, total, Scaled(*_like_one(total)))
    size = safe if power > 0 else _scaled.power(_scaled.root(safe, -power), -1)
    return Scaled(jnp.where(live, size.mantissa, 0), size.exponent)


def _sign_size(entries: Scaled, weights: np.ndarray, power: int) -> Scaled:
    """Sign of the first odd moment that is clear of rounding; zero if there is none."""
    if power % 2 == 0:  # Who reads units by an even function does not see a sign.
        return Scaled(*(jnp.zeros_like(part[:, 0]) for part in entries))
    v = _scaled.direction(entries, axis=1)
    scale = jnp.asarray(weights, v.dtype)[None, :]
    floor = 8 * v.shape[1] * jnp.finfo(v.dtype).eps
    sign = jnp.zeros(v.shape[0], v.dtype)
    for moment in (v, v**3):
        total = jnp.sum(scale * moment, axis=1)
        clear = jnp.abs(total) > floor * jnp.sum(jnp.abs(scale * moment), axis=1)
        sign = jnp.where((sign == 0) & clear, jnp.sign(total), sign)
    return Scaled(sign, jnp.zeros(v.shape[0], jnp.int32))


_SIZE_OF = {"positive_scale": _norm_size, "sign": _sign_size}
