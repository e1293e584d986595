"""Low-rank adapters (LoRA) of any linear map of any network here.

A layer with an adapter uses the kernel `kernel + alpha / r * (a b)`, `a: [*read, r]`
and `b: [r, *written]`. Two networks: `adapted` trains its base as well, `adapter` has
the adapters alone for weights.

A zoo of adapters is of the second kind. Its configuration holds that of the base and a
digest of the base's weights; the weights are handed to `Adapter.with_base`. Stored
beside the adapters, they are one more bucket of the zoo with one network in it, so that
they need no format of their own. Rejected: the weights inside the configuration (a
manifest of megabytes, hashed again and again), and a seed in their place (no trained
base has one, and JAX does not promise the same draw in its next version).

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from qejax import _trees
from qejax._typing import Array, Leaves, PRNGKeyArray, Theta
from qejax.nets._adapter_config import AdaptedConfig, AdapterConfig
from qejax.nets._adapter_spec import (
    Pair,
    adapter_part,
    fixed,
    layer_of,
    pairs_of,
    targets_of,
    unseen,
    with_adapters,
)
from qejax.nets._network import After, Network
from qejax.spaces import Part, WeightSpec, check_theta

_DRAWS = 1 << 20
"""Where the draws of adapters start; those of the base are small numbers."""


@dataclass(frozen=True)
class Adapted(Network):
    """A network with adapters, as pure functions; see `adapted`.

    Attributes:
        base: the network that is adapted.
        pairs: the adapters, in network order.
    """

    config: AdaptedConfig
    base: Network = field(compare=False, repr=False)
    pairs: tuple[Pair, ...] = field(compare=False, repr=False)

    def init(self, key: PRNGKeyArray, dtype: DTypeLike = "float32") -> Theta:
        """Returns the weights of `base.init(key)`, and adapters that add nothing yet.

        `a` is normal with variance `1 / fan_in`, `b` zero: the function is the base's.
        """
        leaves = _trees.flatten(self.base.init(key, dtype))
        return _trees.nest(leaves | _start(self.pairs, key, dtype))

    def merge(self, theta: Theta) -> Theta:
        """Returns weights of `base` that compute the same function.

        Raises:
            ValueError: if `theta` does not fit the spec.
        """
        check_theta(self.spec, theta)
        leaves = _trees.flatten(theta)
        base = {leaf.path: leaves[leaf.path] for leaf in self.base.spec.leaves}
        return _merged(base, leaves, self.pairs, self.config.scale)

    def run(self, theta: Theta, x: Array, after: After) -> Array:
        """Returns the outputs of the base with merged weights; see `Network.run`."""
        return self.base.run(self.merge(theta), x, after)


@dataclass(frozen=True)
class Adapter(Network):
    """Adapters of fixed weights, as pure functions; see `adapter`.

    Attributes:
        base: the network that is adapted.
        pairs: the adapters, in network order.
        weights: of the base by path, float32; `None` until `with_base`.
    """

    config: AdapterConfig
    base: Network = field(compare=False, repr=False)
    pairs: tuple[Pair, ...] = field(compare=False, repr=False)
    weights: Mapping[str, np.ndarray] | None = field(
        default=None, compare=False, repr=False
    )

    def with_base(self, weights: Theta) -> "Adapter":
        """Returns this network, able to run, with the weights that it adapts.

        Args:
            weights: of `base`; kept in float32.

        Raises:
            ValueError: if they do not fit the base, or are not those whose digest the
                configuration holds.
        """
        leaves, digest = _frozen(self.base.spec, weights)
        if digest != self.config.base_sha256:
            raise ValueError(
                f"adapter.with_base: expected the weights that were adapted, with "
                f"SHA-256 {self.config.base_sha256[:16]}..., got {digest[:16]}... "
                f"They are stored with the zoo that the adapters came from."
            )
        return replace(self, weights=leaves)

    def init(self, key: PRNGKeyArray, dtype: DTypeLike = "float32") -> Theta:
        """Returns adapters that add nothing yet: `a` normal, `b` zero.

        The variance of `a` is `1 / fan_in`.
        """
        return _trees.nest(_start(self.pairs, key, dtype))

    def merge(self, theta: Theta) -> Theta:
        """Returns weights of `base` that compute the same function.

        They have the dtype of the adapters; all of the base is copied.

        Raises:
            ValueError: if `theta` does not fit the spec, or the weights of the base
                are missing.
        """
        if self.weights is None:
            raise ValueError(
                "adapter: running needs the weights that are adapted, a configuration "
                "holds their digest only, got none. Pass them to `with_base`."
            )
        check_theta(self.spec, theta)
        leaves = _trees.flatten(theta)
        dtype = leaves[self.pairs[0].a.path].dtype
        base = {path: jnp.asarray(x, dtype) for path, x in self.weights.items()}
        return _merged(base, leaves, self.pairs, self.config.scale)

    def run(self, theta: Theta, x: Array, after: After) -> Array:
        """Returns the outputs of the base with merged weights; see `Network.run`."""
        return self.base.run(self.merge(theta), x, after)


def adapted(
    net: Network,
    rank: int,
    targets: str | Sequence[str] | None = None,
    *,
    alpha: float | None = None,
) -> Network:
    """Returns a network with adapters whose own weights are weights as well.

    Every symmetry of `net` moves the adapters with their kernels, and GL(r) acts
    between `a` and `b`. Not kept: shifts of biases that are made up for through a
    kernel with an adapter. That bias would lose a multiple of `a b`, and `act` is
    linear in the weights. What only the sum sees, kernel against `a b`, is no element
    of a group here: `merge` it.

    Args:
        net: without adapters.
        rank: `r`, of every adapter.
        targets: layers, by their paths or the ends of those; `None` for all that have
            a kernel. Tables of embeddings are adapted where they are named.
        alpha: adapters are multiplied by `alpha / r`; `r` by default.

    Returns:
        The network. `theta` is that of `net` with leaves `lora_a: [*read, r]` and
        `lora_b: [r, *written]` beside every kernel of a target.

    Raises:
        ValueError: if a target is unknown, the rank is below 1 or beyond the inputs or
            outputs of a target, or `net` has adapters.

    Example:
        >>> from qejax import nets
        >>> net = adapted(nets.mlp((4, 8, 3)), 2, "layer_00")
        >>> [(space.name, space.group) for space in net.spec.spaces]
        [('layer_00.lora_a', 'general_linear'), ('hidden_0', 'positive_scale')]
        >>> net.spec.leaf_by_path["layer_00/lora_b"].stored
        (2, 8)
    """
    return build_adapted(_config(net, rank, targets, alpha), net)


def adapter(
    net: Network,
    base: Theta,
    rank: int,
    targets: str | Sequence[str] | None = None,
    *,
    alpha: float | None = None,
) -> Adapter:
    """Returns the network whose weights are adapters of fixed weights.

    Its symmetry is GL(r) per adapter, and where a norm centres what a kernel writes or
    has centred what it reads, the mean of the adapter along the stream.
    `nets.build(config)` returns it without the weights of the base: metanetworks read
    it, and it runs after `with_base`.

    Args:
        net: what is adapted.
        base: its weights, kept in float32 and no part of `theta`.
        rank: `r`, of every adapter.
        targets: as `adapted`.
        alpha: as `adapted`.

    Returns:
        The network, able to run; `theta` is `{layer: {"lora_a", "lora_b"}}`, nested as
        that of `net`. Each network merges its adapters with a copy of the base.

    Raises:
        ValueError: as `adapted`, and if `base` does not fit `net`.

    Example:
        >>> from qejax import nets
        >>> mlp, key = nets.mlp((4, 8, 3)), jax.random.key(0)
        >>> net = adapter(mlp, mlp.init(key), rank=2)
        >>> {path: leaf.stored for path, leaf in net.spec.leaf_by_path.items()}
        {'layer_00/lora_a': (4, 2), 'layer_00/lora_b': (2, 8), \
'layer_01/lora_a': (8, 2), 'layer_01/lora_b': (2, 3)}
        >>> x = jnp.ones((1, 4))
        >>> bool(jnp.all(net.apply(net.init(key), x) == mlp.apply(mlp.init(key), x)))
        True
        >>> nets.build(net.config.to_dict()) == net
        True
    """
    leaves, digest = _frozen(net.spec, base)
    config = _config(net, rank, targets, alpha)
    fields = (config.base, config.rank, config.targets, config.alpha)
    return replace(build_adapter(AdapterConfig(*fields, digest), net), weights=leaves)


def _config(
    net: Network,
    rank: int,
    targets: str | Sequence[str] | None,
    alpha: float | None,
) -> AdaptedConfig:
    """The configuration; it checks and completes what users pass."""
    fields: Any = (net.config, rank, targets, alpha)
    return AdaptedConfig(*fields)


def build_adapted(config: AdaptedConfig, base: Network) -> Network:
    """Returns the network of a configuration; see `adapted`."""
    kernels = targets_of(base.spec, config.targets)
    config = replace(config, targets=tuple(layer_of(leaf) for leaf in kernels))
    parts = {leaf.path: adapter_part(leaf, leaf, config.rank) for leaf in kernels}
    spec = with_adapters(base.spec, parts)
    return Adapted(config, spec, (), base, pairs_of(kernels, parts))


def build_adapter(config: AdapterConfig, base: Network) -> Adapter:
    """Returns the network of a configuration, without weights; see `adapter`."""
    kernels = targets_of(base.spec, config.targets)
    config = replace(config, targets=tuple(layer_of(leaf) for leaf in kernels))
    parts = {
        leaf.path: adapter_part(leaf, fixed(leaf), config.rank) for leaf in kernels
    }
    total = sum(parts.values(), Part(shifts=unseen(base.spec, parts)))
    return Adapter(config, total.spec(), (), base, pairs_of(kernels, parts))


def _start(pairs: Sequence[Pair], key: PRNGKeyArray, dtype: DTypeLike) -> Leaves:
    """Adapters at the start, by path."""
    leaves: Leaves = {}
    for number, (_, a, b) in enumerate(pairs):
        draw = jax.random.fold_in(key, _DRAWS + number)
        fan_in = math.prod(a.stored[:-1])
        leaves[a.path] = jax.random.normal(draw, a.stored, dtype) / math.sqrt(fan_in)
        leaves[b.path] = jnp.zeros(b.stored, dtype)
    return leaves


def _merged(
    base: Mapping[str, Array],
    leaves: Mapping[str, Array],
    pairs: Sequence[Pair],
    scale: float,
) -> Theta:
    """Weights of the base, adapters added to their kernels."""
    merged = dict(base)
    for kernel, a, b in pairs:
        change = jnp.tensordot(leaves[a.path], leaves[b.path], 1)
        merged[kernel.path] = merged[kernel.path] + scale * change
    return _trees.nest(merged)


def _frozen(spec: WeightSpec, theta: Theta) -> tuple[dict[str, np.ndarray], str]:
    """Weights by path in float32, and the SHA-256 of their paths, shapes and bytes."""
    check_theta(spec, theta)
    given = _trees.flatten(theta)
    leaves: dict[str, np.ndarray] = {}
    digest = hashlib.sha256()
    for leaf in spec.leaves:
        array = np.ascontiguousarray(given[leaf.path], "<f4")
        leaves[leaf.path] = array
        digest.update(f"{leaf.path} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return leaves, digest.hexdigest()
