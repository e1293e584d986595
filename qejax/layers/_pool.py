"""From features to numbers that no symmetry of the network changes.

`InvariantPool` reads features on which scales and signs still act, `pool_graph`
features that are already invariant to them and only permute.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array, Float
from qejax.layers._features import Features, check_features
from qejax.layers._graph import GraphFeatures
from qejax.layers._message_passing import key_of
from qejax.spaces import Leaf, WeightSpec


def pool_graph(features: GraphFeatures) -> Float[Array, " M"]:
    """Returns mean and deviation over every node set and the mean over every edge set.

    Invariant to permutations of the units. `M = C (2 nodes + edges)`, in the order of
    the features.
    """
    parts = []
    for x in features.nodes.values():
        parts += [jnp.mean(x, 0), jnp.sqrt(jnp.var(x, 0) + 1e-6)]
    parts += [jnp.mean(x, tuple(range(x.ndim - 1))) for x in features.edges.values()]
    return jnp.concatenate(parts)


class InvariantPool(nnx.Module):
    """Maps features to a vector that is invariant to the whole group of the spec.

    `pool(act_features(spec, g, U)) == pool(U)` at any scale. Every unit is divided by
    the norm of its incoming features over all channels, space by space in network
    order; leaves that only read units are then divided by their own norm, whose
    logarithm is kept. Where signs act, entries are read through products of two mixed
    channels. What is left only permutes: a layer on every entry, then mean and root
    mean square over units.

    Args:
        spec: the weight space.
        in_channels: of the features, `C`.
        channels: of the result per leaf.
        param_dtype: of the parameters.
        rngs: `params` is used.

    Attributes:
        size: length of the result.
    """

    def __init__(
        self,
        spec: WeightSpec,
        in_channels: int,
        channels: int,
        *,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.spec = spec
        self.in_channels = in_channels
        self.channels = channels
        self.size = 2 * channels * len(spec.leaves) + sum(map(_only_reads, spec.leaves))
        self.entry = nnx.Dict()
        for leaf in spec.leaves:
            fixed = math.prod(leaf.axes[p].size for p in leaf.fixed())
            width = channels * (2 if _signed(spec, leaf) else 1)
            self.entry[key_of(leaf.path)] = nnx.Linear(
                fixed * in_channels,
                width,
                use_bias=not _signed(spec, leaf),
                param_dtype=param_dtype,
                rngs=rngs,
            )

    def __call__(self, feats: Features) -> Float[Array, " M"]:
        """Returns the vector `[size]`.

        Args:
            feats: by leaf path, `[*leaf.view, C]`.

        Raises:
            ValueError: if the features do not fit the spec or the channels.
        """
        check_features(self.spec, feats, self.in_channels, "InvariantPool")
        feats, norms = normalise_features(self.spec, feats)
        parts = list(norms.values())
        for leaf in self.spec.leaves:
            moved = leaf.moved()
            x = feats[leaf.path].transpose(*moved, *leaf.fixed(), len(leaf.axes))
            x = x.reshape(*(leaf.axes[p].size for p in moved), -1)
            # Unit norm per unit: bring an entry to the order of one.
            x = x * math.sqrt(leaf.size / max(_units_written(leaf), 1))
            x = self.entry[key_of(leaf.path)](x)
            if _signed(self.spec, leaf):
                left, right = jnp.split(x, 2, -1)
                x = left * right
            x = jax.nn.silu(x).reshape(-1, self.channels)
            parts += [jnp.mean(x, 0), jnp.sqrt(jnp.mean(x * x, 0) + 1e-6)]
        return jnp.concatenate([jnp.atleast_1d(part) for part in parts])


def normalise_features(
    spec: WeightSpec, feats: Features
) -> tuple[Features, dict[str, Array]]:
    """Removes positive scales from features, exactly.

    Args:
        spec: the weight space; spaces of other groups than `positive_scale` are left.
        feats: by leaf path, `[*leaf.view, C]`.

    Returns:
        Features that scales no longer change, and the logarithm of the norm by which
        every leaf that only reads units was divided.
    """
    sizes: dict[str, Array] = {}
    for space in spec.spaces:
        if space.group == "positive_scale":
            rows = [
                _rows(leaf, _rescale(leaf, feats[leaf.path], sizes), space.name)
                for leaf in spec.leaves
                if leaf.writes(space.name) and _ready(spec, leaf, space.name, sizes)
            ]
            sizes[space.name] = _safe_norm(jnp.concatenate(rows, 1))
    normal: Features = {}
    norms: dict[str, Array] = {}
    for leaf in spec.leaves:
        x = _rescale(leaf, feats[leaf.path], sizes)
        if _only_reads(leaf):
            norm = _safe_norm(x.reshape(1, -1))[0]
            norm = jnp.where(norm > 0, norm, 1)
            x, norms[leaf.path] = x / norm, jnp.log(norm)
        normal[leaf.path] = x
    return normal, norms


def _ready(spec: WeightSpec, leaf: Leaf, space: str, sizes: dict[str, Array]) -> bool:
    """Whether the scales of all other spaces of a leaf are known."""
    groups = spec.space_by_name
    return all(
        axis.space is None
        or (axis.space == space and axis.power > 0)
        or axis.space in sizes
        or groups[axis.space].group != "positive_scale"
        for axis in leaf.axes
    )


def _rescale(leaf: Leaf, x: Array, sizes: dict[str, Array]) -> Array:
    for position, axis in enumerate(leaf.axes):
        if axis.space in sizes:
            shape = [1] * x.ndim
            shape[position] = axis.size
            size = sizes[axis.space]
            # A dead unit computes zero, so what reads it is no part of the function.
            factor = jnp.where(size > 0, jnp.where(size > 0, size, 1) ** -axis.power, 0)
            x = x * factor.astype(x.dtype).reshape(shape)
    return x


def _rows(leaf: Leaf, x: Array, space: str) -> Array:
    own = next(
        p for p, axis in enumerate(leaf.axes) if axis.space == space and axis.power > 0
    )
    return jnp.moveaxis(x, own, 0).reshape(leaf.axes[own].size, -1)


def _safe_norm(rows: Array) -> Array:
    """Norms of rows without overflow; 0, with a zero gradient, for a row of zeros."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(rows), 1))
    safe = jnp.where(largest > 0, largest, 1)
    square = jnp.sum((rows / safe[:, None]) ** 2, 1)
    return largest * jnp.sqrt(jnp.where(square > 0, square, 1))


def _only_reads(leaf: Leaf) -> bool:
    powers = [axis.power for axis in leaf.axes if axis.space is not None]
    return bool(powers) and all(power < 0 for power in powers)


def _units_written(leaf: Leaf) -> int:
    return math.prod(axis.size for axis in leaf.axes if axis.power > 0)


def _signed(spec: WeightSpec, leaf: Leaf) -> bool:
    groups = spec.space_by_name
    return any(
        axis.space is not None and groups[axis.space].group == "sign"
        for axis in leaf.axes
    )
