"""Statistics of one network's weights: pure vectors, nothing trained.

They are what boosted trees read, what a zoo stores beside its weights, and what the
head of a predictor reads beside its features. All take one network; batch them with
`map_networks`. Raw statistics are not invariant to anything but permutations; those of
the normal form are invariant to the whole group.

Source of the raw ones: Unterthiner et al. 2020, arXiv:2002.11448.
"""

import jax
import jax.numpy as jnp

from qejax._typing import Array, Float, Theta
from qejax.spaces._canonical import (
    Canonical,
    canonical_form,
    log_norm_paths,
    reduced,
)
from qejax.spaces._settle import settled_spec
from qejax.spaces._spec import WeightSpec
from qejax.spaces._views import views

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def raw_statistics(spec: WeightSpec, theta: Theta) -> Float[Array, " F"]:
    """Returns mean, variance and five quantiles of every leaf, in spec order.

    Not invariant to scales: on purpose, this is the baseline of the field.

    Example:
        >>> from qejax import nets
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> raw_statistics(net.spec, net.init(jax.random.key(0))).shape
        (28,)
    """
    return jnp.concatenate([_moments(x) for x in views(spec, theta).values()])


def canonical_statistics(spec: WeightSpec, theta: Theta) -> Float[Array, " F"]:
    """Returns `raw_statistics` of the normal form, and its log norms.

    Invariant to the whole group of `spec`. Leaves that are constant in a normal form
    are left out.
    """
    normal = canonical_form(spec, theta)
    of_leaves = raw_statistics(settled_spec(spec), reduced(spec, normal.theta))
    return jnp.concatenate([of_leaves, log_norms(normal)])


def log_norms(normal: Canonical) -> Float[Array, " l"]:
    """Returns the logarithms of the norms that a normal form was divided by.

    Empty for a network without hidden units.
    """
    dtype = jax.tree.leaves(normal.theta)[0].dtype
    norms = [jnp.asarray(norm, dtype)[None] for norm in normal.log_norm.values()]
    return jnp.concatenate([jnp.zeros(0, dtype), *norms])


def statistic_names(spec: WeightSpec) -> tuple[str, ...]:
    """Returns the names of the entries of `canonical_statistics`, `F` of them.

    `PATH:mean`, `PATH:variance` and a `PATH:quantile=...` each for every leaf, then
    `PATH:log_norm` for the leaves of `log_norm_paths`.

    Example:
        >>> from qejax import nets
        >>> names = statistic_names(nets.mlp((4, 3, 2), activation="relu").spec)
        >>> names[3], names[-1]
        ('layer_00/kernel:quantile=0.25', 'layer_01/kernel:log_norm')
    """
    of_leaf = ("mean", "variance", *(f"quantile={q:g}" for q in QUANTILES))
    leaves = settled_spec(spec).leaves
    names = [f"{leaf.path}:{name}" for leaf in leaves for name in of_leaf]
    return (*names, *(f"{path}:log_norm" for path in log_norm_paths(spec)))


def _moments(x: Array) -> Array:
    flat = x.reshape(-1)
    quantiles = jnp.quantile(flat, jnp.asarray(QUANTILES, flat.dtype))
    return jnp.concatenate([jnp.stack([flat.mean(), flat.var()]), quantiles])
