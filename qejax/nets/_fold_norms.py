"""Scales and biases of norms moved into what reads them: a larger group of symmetries.

Behind a learned scale a stream permutes, and no linear action turns it. Once the scale
is part of the readers' kernels, rotations of the stream are a symmetry as well, and the
means that centring takes out of what is read.

Source: norm absorption as in Ashkboos et al. 2024, arXiv:2401.15024.
"""

from dataclasses import replace

import jax.numpy as jnp

from qejax import _trees
from qejax._typing import Array, Leaves, Theta
from qejax.nets._network import Network
from qejax.nets._transformer import build_transformer
from qejax.nets._transformer_config import TransformerConfig
from qejax.spaces import WeightSpec, act, check_theta, identity, views


def fold_norms(network: Network, theta: Theta) -> tuple[Network, Theta]:
    """Returns a transformer whose norms have no scales, and weights that fit it.

    It computes the same function, and so do its weights under the group of its own
    spec, which is larger. Where norms had biases, attention and dense layers have them
    afterwards (of zeros, if they had none).

    Args:
        network: a transformer; a norm is read by linear layers only (`placement="pre"`,
            or no residual).
        theta: weights of one network, no batch axis (batch with `jax.vmap`; the
            network returned is the same for all).

    Returns:
        The network and its weights, dtypes of `theta`. A network whose norms have no
        scales, or that has no norms, is returned with its weights as they are.

    Raises:
        ValueError: if the network is no transformer, if the result of a norm is added
            to something, or if `theta` does not fit.

    Example:
        >>> import jax
        >>> from qejax import nets
        >>> net = nets.transformer(4, 1, 2, 8, image=(4, 4, 1), patch=2)
        >>> folded, _ = fold_norms(net, net.init(jax.random.key(0)))
        >>> [n.spec.spaces[0].group for n in (net, folded)]
        ['permutation', 'orthogonal_ones']
    """
    config = network.config
    if not isinstance(config, TransformerConfig):
        raise ValueError(
            f"fold_norms: expected a transformer, got a network of kind "
            f"{config.kind!r}. BatchNorm is folded by `fold_batch_norm`."
        )
    check_theta(network.spec, theta)
    if config.norm == "none" or not config.affine:
        return network, theta
    if config.placement == "post" and config.residual:
        raise ValueError(
            "fold_norms: expected norms that linear layers read, got placement='post' "
            "with residual=True, where their results are added to something. Their "
            "scales have to stay."
        )
    if config.norm == "layer":
        config = replace(config, attention_bias=True, mlp_bias=True)
    # A fixed table of positions would pin the stream, and the scale behind it, too.
    free = replace(
        config, position="none" if config.position == "sine" else config.position
    )
    spec = build_transformer(free).spec
    given = _trees.flatten(theta)
    dtype = jnp.result_type(*given.values())
    leaves: Leaves = {
        leaf.path: given.get(leaf.path, jnp.zeros(leaf.stored, dtype))
        for leaf in spec.leaves
    }
    norms = [path.removesuffix("/scale") for path in leaves if path.endswith("/scale")]
    moved = views(spec, _without_biases(spec, norms, _trees.nest(leaves)))
    for norm in norms:
        moved = _without_scale(spec, f"{norm}/scale", moved)
    folded = build_transformer(replace(config, affine=False))
    kept = {
        leaf.path: moved[leaf.path].reshape(leaf.stored) for leaf in folded.spec.leaves
    }
    return folded, _trees.nest(kept)


def _without_biases(spec: WeightSpec, norms: list[str], theta: Theta) -> Theta:
    """Moves the biases of norms into those of their readers."""
    leaves = views(spec, theta)
    biases = {f"{norm}/bias" for norm in norms}
    g = identity(spec, jnp.result_type(*leaves.values()))
    for shift in spec.shifts:
        if shift.leaf in biases and not shift.along:
            g[shift.name] = -leaves[shift.leaf]
    return act(spec, g, theta)


def _without_scale(spec: WeightSpec, path: str, leaves: Leaves) -> Leaves:
    """Multiplies what reads a norm by its scale, zeros included."""
    (space,) = (a.space for a in spec.leaf_by_path[path].axes if a.size == 1)
    scale = leaves[path].reshape(-1)
    moved = dict(leaves)
    for leaf in spec.leaves:
        for position, axis in enumerate(leaf.axes):
            if axis.space == space and axis.power < 0:
                host = spec.per_axis(leaf, position)
                assert host is not None
                moved[leaf.path] = moved[leaf.path] * _along(scale, host, leaf.view)
    return moved


def _along(scale: Array, position: int, view: tuple[int, ...]) -> Array:
    return scale.reshape([-1 if p == position else 1 for p in range(len(view))])
