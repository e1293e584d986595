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

from typing import NamedTuple

import jax.numpy as jnp

from qejax._exact import exact
from qejax._typing import Leaves, Scalar, Theta
from qejax.groups import Dihedral, Monomial
from qejax.spaces import _frames, _scaled
from qejax.spaces._balanced import split_evenly
from qejax.spaces._elements import Elements
from qejax.spaces._leaf import Leaf
from qejax.spaces._phases import (
    phase_free,
    signed_spec,
    unturned,
)
from qejax.spaces._scaled import Scaled
from qejax.spaces._settle import (
    has_matrices,
    nested,
    settle,
    settled_spec,
)
from qejax.spaces._sizes import like_one, rescaled, resized, scaled_spaces, sweep
from qejax.spaces._spec import WeightSpec
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


@exact
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
        size = sweep(spec, leaves, scaled_spaces(spec)).size
    normal: Leaves = {}
    log_norm: dict[str, Scalar] = {}
    for leaf in spec.leaves:
        if not _is_output(leaf) and not any(axis.space in size for axis in leaf.axes):
            normal[leaf.path] = leaves[leaf.path]
            continue
        moved = rescaled(leaf, leaves[leaf.path], size)
        if _is_output(leaf):
            flat = _scaled.reshape(moved, (-1,))
            total = _scaled.norm(flat, axis=0)
            total = _scaled.where(total.mantissa > 0, total, Scaled(*like_one(total)))
            log_norm[leaf.path] = _scaled.log(total)
            moved = _scaled.mul(moved, _scaled.power(total, -1))
        normal[leaf.path] = _scaled.join(moved)
    form = Canonical(from_views(spec, normal, theta), log_norm)
    return nan_unless_finite(form, given) if has_matrices(spec) else form


@exact
def restore(spec: WeightSpec, canonical: Canonical) -> Theta:
    """Returns the weights on the orbit that a canonical form stands for.

    They compute the function of the original network; leaves overflow only where the
    true value leaves the range of the dtype.
    """
    leaves = views(spec, canonical.theta)
    for path, log_norm in canonical.log_norm.items():
        leaves[path] = leaves[path] * jnp.exp(log_norm)
    return from_views(spec, leaves, canonical.theta)


@exact
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
    sizes = sweep(signed_spec(spec), leaves, scaled_spaces(spec)).size
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


@exact
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
        leaves = settle(spec, leaves, resized).given
    found = reduced(spec, from_views(spec, leaves, theta))
    return nan_unless_finite(found, given)


@exact
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
    white = settle(spec, leaves, resized).white
    open_signs = {s.name for s in spec.spaces if s.group in ("sign", "general_linear")}
    for space in spec.spaces:
        name = space.name
        if space.group == "sign":
            white = resized(spec, white, frozenset({name}), frozenset())
        if space.group == "general_linear":
            both = _frames.touches(spec, name)
            white = split_evenly(white, both)
            telling = telling_of(spec, white, name, open_signs - {name})
            sign = _frames.diagonal(_frames.column_signs(*telling))
            white = _frames.transformed(white, both, sign, sign)
        open_signs -= {name}
    return white
