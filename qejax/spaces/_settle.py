"""Settling: what has a normal form that needs no layer of its own is brought to it.

Shifts are removed, scales of norms absorbed by what reads them, rotary heads balanced
and turned, streams rotated to their principal axes. What is left acts linearly and
simply: permutations, scales and signs of units, and general linear maps of heads and
adapters. A metanetwork reads settled weights.

A stream's principal axes must not depend on what is still free, so they are taken from
a copy of the weights in which units have unit size and heads are orthonormal
(`white`): rotations of a head do not change `sum of w w^T`.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qejax import _trees
from qejax._typing import Array, Leaves, Theta
from qejax.groups import GROUPS
from qejax.spaces import _frames
from qejax.spaces._act import act_shift
from qejax.spaces._frames import Touch, touches
from qejax.spaces._leaf import Axis
from qejax.spaces._phases import phase_free_spec, signed_spec
from qejax.spaces._products import reached
from qejax.spaces._sizes import check_hosts
from qejax.spaces._spec import UnitSpace, WeightSpec
from qejax.spaces._telling import telling_of

SETTLED = ("absorbed", "linear_stream", "orthogonal", "orthogonal_ones", "rotary")
"""Groups that `settled` takes out."""

Rescale = Callable[[WeightSpec, Leaves, frozenset[str], frozenset[str]], Leaves]
"""Divides units of some spaces by their sizes: `(spec, leaves, spaces, pending)`."""


class Settled(NamedTuple):
    """Two copies of one network's weights, by path and in views.

    Attributes:
        given: settled, all other symmetries as they came.
        white: the same with sizes of units and frames of heads fixed as well, up to
            signs and rotations.
    """

    given: Leaves
    white: Leaves


def has_matrices(spec: WeightSpec) -> bool:
    """Whether anything but permutations, scales and signs moves the weights."""
    return bool(spec.shifts) or any(
        GROUPS[space.group].monomial is None for space in spec.spaces
    )


def unshifted(spec: WeightSpec, leaves: Leaves) -> Leaves:
    """Returns leaves on the same orbit in which every shifted leaf is zero.

    Its means are, where a shift is constant along some axes.
    """
    for shift in spec.shifts:
        x = leaves[shift.leaf]
        mean = jnp.mean(x, shift.along) if shift.along else x
        leaves = act_shift(spec, shift, -mean, leaves)
        leaves[shift.leaf] = _frames.clear(leaves[shift.leaf], x)
    return leaves


def settle(spec: WeightSpec, leaves: Leaves, rescale: Rescale) -> Settled:
    """Returns the settled weights of one network; see `Settled`.

    Args:
        spec: the weight space.
        leaves: by path, in views.
        rescale: of positively scaled units.
    """
    leaves = unshifted(spec, leaves)
    both = Settled(leaves, leaves)
    pending = {s.name for s in spec.spaces if s.group != "permutation"}
    for group, names in _runs(spec):
        pending -= set(names)
        if group == "positive_scale":
            white = rescale(spec, both.white, frozenset(names), frozenset(pending))
            both = both._replace(white=white)
            continue
        for name in names:
            both = _whitened(spec, both, spec.space_by_name[name])
    signed = {s.name for s in spec.spaces if s.group in _SIGNED}
    for space in spec.spaces:
        if space.group in _TURNED:
            both = _turned(spec, both, space, signed)
            signed -= {space.name}
    for space in spec.spaces:
        if space.group in ("absorbed", "rotary"):
            both = _signed(spec, both, space, signed)
            signed -= {space.name}
    return both


_SIGNED = ("sign", "general_linear", *SETTLED)
"""Groups whose units have no sign, or no frame, until it is fixed."""

_TURNED = ("linear_stream", "orthogonal", "orthogonal_ones")


def _runs(spec: WeightSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Spaces of one group behind one another, in network order.

    An adapter's units have to be orthonormal before the head that they write, and
    after one that they read.
    """
    for group, run in itertools.groupby(spec.spaces, lambda space: space.group):
        yield group, tuple(space.name for space in run)


def _apply(
    both: Settled, touching: tuple[Touch, ...], write: Array, read: Array
) -> Settled:
    return Settled(*(_frames.transformed(x, touching, write, read) for x in both))


def _whitened(spec: WeightSpec, both: Settled, space: UnitSpace) -> Settled:
    """Writers of the space orthonormal: of units at most rotations are left."""
    touching = touches(spec, space.name)
    if space.group == "absorbed":
        write, read = _norms(both.white, touching)
        return _apply(both, touching, write, read)
    if space.group == "rotary":
        write, read = _pair_norms(both.white, touching)
        return _apply(both, touching, write, read)
    if space.group == "linear_stream":
        return _orthonormal_stream(spec, both, touching, space)
    if space.group == "general_linear":
        parts = [tuple(t for t in touching if t.writes == w) for w in (True, False)]
        rows = [_frames.stacked(both.white, part) for part in parts]
        u, values, v = _frames.product(*rows)
        white = _frames.replaced(both.white, parts[0], u)
        white = _frames.replaced(white, parts[1], v * values[..., None, :])
        return both._replace(white=white)
    return both


def _norms(leaves: Leaves, touching: tuple[Touch, ...]) -> tuple[Array, Array]:
    """Divides a scale by its norm; what reads a scale of zero reads zero."""
    rows = _frames.stacked(leaves, tuple(t for t in touching if t.writes))
    top = jnp.max(jnp.abs(rows), -2, keepdims=True)
    live = jnp.where(top > 0, top, 1)
    norm = top * jnp.sqrt(jnp.sum((rows / live) ** 2, -2, keepdims=True))
    return 1 / jnp.where(norm > 0, norm, 1), norm


def _pair_norms(leaves: Leaves, touching: tuple[Touch, ...]) -> tuple[Array, Array]:
    """Makes queries and keys of a pair of units equally long: zero if either is."""
    sizes = []
    for writes in (True, False):
        rows = _frames.stacked(leaves, tuple(t for t in touching if t.writes == writes))
        square = jnp.sum(rows * rows, -2)
        half = square.shape[-1] // 2
        sizes.append(square[..., :half] + square[..., half:])
    write, read = sizes
    live = (write > 0) & (read > 0)
    scales = []
    for over, under in ((read, write), (write, read)):
        ratio = jnp.where(live, over, 0) / jnp.where(live, under, 1)
        scales.append(jnp.sqrt(jnp.sqrt(jnp.concatenate([ratio, ratio], -1))))
    return _frames.diagonal(scales[0]), _frames.diagonal(scales[1])


def _orthonormal_stream(
    spec: WeightSpec, both: Settled, touching: tuple[Touch, ...], space: UnitSpace
) -> Settled:
    """Columns of what first writes the stream orthonormal.

    With where the layers on it lead, if that alone has fewer rows than the stream has
    units and is added to. Directions that nothing of it writes stay as they are for
    later writers, and are zero if there are none.
    """
    start = next((n for n, t in enumerate(touching) if not t.writes), len(touching))
    first, later = touching[:start], touching[start:]
    rows = written = _frames.stacked(both.white, first)
    again = any(t.writes for t in later)
    if again:
        rows = reached(spec, both.white, space.name, written)
    if rows.shape[0] < space.size and again:
        raise ValueError(
            f"unit space {space.name!r}: the normal form of a stream without norms "
            f"needs at least {space.size} rows that write it before the first layer "
            f"reads it, or a layer that reads it and adds to it, got {rows.shape[0]}, "
            f"from {[t.leaf.path for t in first]}. Use a narrower stream, or a norm."
        )
    u, values, vt = _frames.split(rows)
    u = u[: written.shape[0]]
    live = jnp.where(values > 0, values, 1)
    r = jnp.where(values > 0, values, float(again))[:, None] * vt
    back = jnp.where(values > 0, 1 / live, float(again))[:, None] * vt
    white = _frames.replaced(both.white, first, u)
    return Settled(
        _frames.transformed(both.given, touching, back, r),
        _frames.transformed(white, later, back, r),
    )


def _turned(
    spec: WeightSpec, both: Settled, space: UnitSpace, signed: set[str]
) -> Settled:
    """The stream rotated to its principal axes, signs by an odd statistic."""
    touching = touches(spec, space.name)
    ones = space.group == "orthogonal_ones"
    frame = _frames.principal_frame(both.white, touching, ones)
    both = _apply(both, touching, frame, frame)
    leaves, telling = telling_of(spec, both.white, space.name, signed)
    if not ones:
        sign = _frames.diagonal(_frames.column_signs(leaves, telling))
        both = _apply(both, touching, sign, sign)
        return _balanced_stream(both, touching, space)
    # Signs of the axes that the frame has, orthogonal to the ones.
    basis = jnp.asarray(_frames.fixed_ones_basis(space.size), frame.dtype)
    inner = {
        t.leaf.path: _frames.transformed(leaves, (t,), basis.T, basis.T)[t.leaf.path]
        for t in telling
    }
    sign = _frames.column_signs(inner, telling)
    turned = basis @ _frames.diagonal(sign)
    turn = turned @ basis.T + jnp.full_like(frame, 1 / space.size)
    return _apply(both, touching, turn, turn)


def _balanced_stream(
    both: Settled, touching: tuple[Touch, ...], space: UnitSpace
) -> Settled:
    """A stream written once, its size shared between writers and readers.

    With orthonormal writers a head that writes it would have equal singular values.
    """
    order = [t.writes for t in touching]
    if space.group != "linear_stream" or order != sorted(order, reverse=True):
        return both
    readers = tuple(t for t in touching if not t.writes)
    size = jnp.sqrt(jnp.sum(_frames.stacked(both.white, readers) ** 2, 0))
    half = _frames.root_of_clear(size)
    live = jnp.where(half > 0, half, 1)
    inverse = jnp.where(half > 0, 1 / live, 0)
    return _apply(both, touching, _frames.diagonal(half), _frames.diagonal(inverse))


def _signed(
    spec: WeightSpec, both: Settled, space: UnitSpace, signed: set[str]
) -> Settled:
    """Signs of absorbed scales, phases of rotary pairs."""
    touching = touches(spec, space.name)
    leaves, telling = telling_of(spec, both.white, space.name, signed)
    if space.group == "absorbed":
        # Leaves that a shift has cleared tell nothing.
        cleared = {shift.leaf for shift in spec.shifts if not shift.along}
        telling = tuple(t for t in telling if t.leaf.path not in cleared) or telling
        writers = tuple(t for t in telling if t.writes) or telling
        sign = _frames.diagonal(_frames.column_signs(leaves, writers))
        return _apply(both, touching, sign, sign)
    rows = _frames.stacked(leaves, telling)
    weights = np.concatenate([t.weights(n) for n, t in enumerate(telling)])
    total = jnp.einsum("m,...md->...d", jnp.asarray(weights, rows.dtype), rows)
    half = total.shape[-1] // 2
    real, imaginary = total[..., :half], total[..., half:]
    size = jnp.sqrt(real**2 + imaginary**2)
    live = jnp.where(size > 0, size, 1)
    back = jnp.stack([real, -imaginary], -1) / live[..., None]
    phase = jnp.where(size[..., None] > 0, back, jnp.asarray([1, 0], rows.dtype))
    matrix = GROUPS["rotary"].matrix
    turn = (jax.vmap(matrix, (0, None)) if phase.ndim == 3 else matrix)(phase, 1)
    return _apply(both, touching, turn, turn)


@lru_cache(maxsize=256)
def settled_spec(spec: WeightSpec) -> WeightSpec:
    """Returns the spec of `settled` weights.

    Leaves that settling makes constant (what a shift moves, the scale of a norm) are
    left out, axes of settled spaces never move, leaves with phases are read without
    their half periods, parts of one array are arrays of their own. A spec with nothing
    to settle is returned as it is.

    Raises:
        ValueError: if units in blocks have scales or signs of their own.
    """
    check_hosts(spec)
    spec, given = signed_spec(spec), spec
    gone = {shift.leaf for shift in spec.shifts if not shift.along}
    settled = {s.name: s for s in spec.spaces if s.group in SETTLED}
    for name, space in settled.items():
        writers = {t.leaf for t in touches(spec, name) if t.writes}
        left = [leaf for leaf in writers if leaf.path not in gone]
        if space.group == "absorbed" and len(left) == 1 and len(left[0].axes) == 2:
            (scale,) = left
            if scale.axes[0].space == space.per:
                gone.add(scale.path)
    if not spec.shifts and not settled:
        return phase_free_spec(given)
    leaves = tuple(
        replace(
            leaf,
            axes=tuple(
                Axis(axis.size) if axis.space in settled else axis for axis in leaf.axes
            ),
            cut=None,
        )
        for leaf in spec.leaves
        if leaf.path not in gone
    )
    spaces = tuple(s for s in spec.spaces if s.name not in settled)
    return phase_free_spec(WeightSpec(spaces, leaves))


def nested(spec: WeightSpec, leaves: Leaves) -> Theta:
    """Returns the nested dict of a spec's leaves, in stored shapes."""
    return _trees.nest(
        {leaf.path: leaves[leaf.path].reshape(leaf.stored) for leaf in spec.leaves}
    )
