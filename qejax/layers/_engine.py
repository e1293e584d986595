"""Runs a table of terms: one matrix product per key, everything else is layout.

The parameters of a key are one array `[S, T]`: rows are the sources (each with its
fixed positions, then channels), columns the targets. With a bound on the rank they are
two arrays `[S, r]` and `[r, T]`.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from qejax._typing import Array, PRNGKeyArray
from qejax.layers._features import Features
from qejax.layers._terms import CONSTANT, Mixer, Pattern, mixers
from qejax.spaces import WeightSpec

Weights = dict[str, dict[str, Array]]
"""By key, `{"kernel": [S, T]}` or `{"down": [S, r], "up": [r, T]}`."""


def init_weights(
    key: PRNGKeyArray,
    spec: WeightSpec,
    in_channels: int,
    out_channels: int,
    max_rank: int | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Weights:
    """Returns random parameters; biases (rows of the constant) are zero.

    Every output sums over all terms of its leaf, so columns have the standard deviation
    `1 / sqrt(sum of their fan-ins)`: unit features give unit features.

    Args:
        key: consumed.
        spec: the weight space.
        in_channels: `C`.
        out_channels: `C'`.
        max_rank: bound on the rank of every matrix; `None` for none.
        dtype: of the parameters.
    """
    plan = mixers(spec)
    fan_in: dict[str, int] = {}
    for mixer in plan:
        for target in mixer.targets:
            path, rows = target.leaf.path, _rows(mixer, in_channels)
            fan_in[path] = fan_in.get(path, 0) + rows
    weights: Weights = {}
    for mixer, k in zip(plan, jax.random.split(key, max(len(plan), 1)), strict=False):
        std = jnp.concatenate(
            [
                jnp.full(p.multiplicity * out_channels, fan_in[p.leaf.path] ** -0.5)
                for p in mixer.targets
            ]
        ).astype(dtype)[None]
        live = jnp.concatenate(
            [
                jnp.full(_width(p, in_channels), p.leaf != CONSTANT)
                for p in mixer.sources
            ]
        ).astype(dtype)[:, None]
        shape = (_rows(mixer, in_channels), std.shape[1])
        if max_rank is None or max_rank >= min(shape):
            kernel = jax.random.normal(k, shape, dtype)
            weights[mixer.name] = {"kernel": kernel * live * std}
        else:
            down, up = jax.random.split(k)
            kernel = jax.random.normal(down, (shape[0], max_rank), dtype)
            rows = jax.random.normal(up, (max_rank, shape[1]), dtype)
            weights[mixer.name] = {
                "down": kernel * live * shape[0] ** -0.5,
                "up": rows * std * (shape[0] / max_rank) ** 0.5,
            }
    return weights


def apply(
    spec: WeightSpec, weights: Weights, feats: Features, out_channels: int
) -> Features:
    """Returns the image of features under the map with these weights.

    Args:
        spec: the weight space.
        weights: as `init_weights`; cast to the dtype of the features.
        feats: `[*leaf.view, C]` by path.
        out_channels: `C'`.

    Returns:
        `[*leaf.view, C']` by path, in the dtype of `feats`.
    """
    dtype = jnp.result_type(*feats.values())
    total: Features = {}
    for mixer in mixers(spec):
        columns = [_gather(p, feats, dtype) for p in mixer.sources]
        mixed = _mix(jnp.concatenate(columns, -1), weights[mixer.name])
        start = 0
        for target in mixer.targets:
            stop = start + _width(target, out_channels)
            part = _scatter(target, mixed[..., start:stop], out_channels)
            path = target.leaf.path
            total[path] = total[path] + part if path in total else part
            start = stop
    return {
        leaf.path: _filled(total.get(leaf.path), (*leaf.view, out_channels), dtype)
        for leaf in spec.leaves
    }


def _mix(x: Array, weights: dict[str, Array]) -> Array:
    names = ("kernel",) if "kernel" in weights else ("down", "up")
    for name in names:
        x = jnp.einsum("...s,st->...t", x, weights[name].astype(x.dtype))
    return x


def _width(pattern: Pattern, channels: int) -> int:
    return 1 if pattern.leaf == CONSTANT else pattern.multiplicity * channels


def _rows(mixer: Mixer, channels: int) -> int:
    return sum(_width(pattern, channels) for pattern in mixer.sources)


def _gather(pattern: Pattern, feats: Features, dtype: DTypeLike) -> Array:
    """One source: `[*sizes of the key, F * C]`, means over its own blocks."""
    if pattern.leaf == CONSTANT:
        return jnp.ones(1, dtype)
    leaf, x = pattern.leaf, feats[pattern.leaf.path].astype(dtype)
    rank = len(leaf.axes)
    # Blocks are numbered from 0, fixed axes from `rank`, the channel comes last.
    subscripts, label = [], iter(pattern.labels)
    for position, axis in enumerate(leaf.axes):
        subscripts.append(next(label) if axis.space else rank + position)
    channel = 2 * rank
    shared = range(len(pattern.key))
    kept = [*shared, *(rank + position for position in leaf.fixed()), channel]
    reduced = jnp.einsum(x, [*subscripts, channel], kept)
    size = {
        label: leaf.axes[position].size
        for label, position in zip(pattern.labels, leaf.moved(), strict=True)
    }
    for block, n in size.items():
        if block >= len(pattern.key):
            reduced = reduced / n
    return reduced.reshape(*(size[block] for block in shared), -1)


def _scatter(pattern: Pattern, y: Array, channels: int) -> Array:
    """One target: broadcasts to `[*leaf.view, C']`; `y` is `[*key sizes, F * C']`."""
    leaf, shared = pattern.leaf, len(pattern.key)
    y = y.reshape(*y.shape[:shared], *pattern.fixed, channels)
    label = dict(zip(leaf.moved(), pattern.labels, strict=True))
    first: dict[int, int] = {}
    order: list[int] = []
    shape = [1] * len(leaf.axes)
    repeated = []
    for position, axis in enumerate(leaf.axes):
        if axis.space is None:
            order.append(shared + leaf.fixed().index(position))
            shape[position] = axis.size
            continue
        block = label[position]
        if block in first:
            repeated.append((first[block], position))
        elif block < shared:
            order.append(block)
            shape[position] = axis.size
        first.setdefault(block, position)
    y = y.transpose(*order, y.ndim - 1).reshape(*shape, channels)
    for lead, other in repeated:
        n = leaf.axes[other].size
        delta = [n if p in (lead, other) else 1 for p in range(len(leaf.axes))]
        y = y * jnp.eye(n, dtype=y.dtype).reshape(*delta, 1)
    return y


def _filled(x: Array | None, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    # A leaf that no equivariant map reaches stays zero.
    return jnp.zeros(shape, dtype) if x is None else jnp.broadcast_to(x, shape)
