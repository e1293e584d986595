"""Statistics of one network's outputs: pure vectors, nothing trained.

They are what boosted trees read, and what the head of a predictor reads beside its
features. All take one network; batch them with `map_networks`. They are invariant to
the whole group. Those of the weights are in `qejax.spaces`.
"""

import jax
import jax.numpy as jnp

from qejax._finite import log, root
from qejax._typing import Array, Float, PRNGKeyArray, Theta
from qejax.groups import singular_values
from qejax.layers import smooth_inputs
from qejax.nets import Network
from qejax.spaces import WeightSpec, views

FINE_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
LEAST = 1e-30
"""Least denominator: what a network with decayed weights passes on is small."""


def smooth_images(
    key: PRNGKeyArray, shape: tuple[int, ...], num: int = 64
) -> Float[Array, "N ..."]:
    """Returns the random images that probe statistics are taken on; no data.

    See `qejax.layers.smooth_inputs`.
    """
    return smooth_inputs(key, num, shape)


def probe_statistics(
    network: Network, theta: Theta, images: Float[Array, "N ..."]
) -> Float[Array, " F"]:
    """Returns statistics of the outputs on given inputs.

    Entropy, margins, confidence, spread and mean of the outputs, their singular values
    and how often each output wins. Outputs are sorted or pooled, so that their order
    does not matter. Invariant to every symmetry of the network.

    Args:
        network: the architecture.
        theta: weights of one network; in normal form the result is as exact at large
            scales.
        images: `[N, ...]`.
    """
    # Without the barrier a compiler computes all patches of the images by itself.
    return output_statistics(network.apply(theta, jax.lax.optimization_barrier(images)))


def output_statistics(outputs: Float[Array, "N n_L"]) -> Float[Array, " F"]:
    """Returns the statistics of `probe_statistics` for given outputs (logits)."""
    num, classes = outputs.shape
    logits = outputs - outputs.mean(1, keepdims=True)
    logs = jax.nn.log_softmax(logits)
    probabilities = jnp.exp(logs)
    entropy = -(probabilities * logs).sum(1)
    mean_probability = probabilities.mean(0)
    mixed = -(mean_probability * log(mean_probability)).sum()
    ordered = jnp.sort(logits, 1)
    margin = ordered[:, -1] - ordered[:, max(classes - 2, 0)]
    mean = logits.mean(0)
    centred = logits - mean[None]
    spread = root(centred.var(0))
    values, shares, effective = spectrum(centred / jnp.sqrt(num), max(classes - 1, 1))
    wins = jax.nn.one_hot(logits.argmax(1), classes, dtype=logits.dtype).mean(0)
    information = mixed - entropy.mean()
    parts = [
        summary(entropy),
        summary(log(margin, 1e-6)),
        jnp.stack([mixed, information, log(information, 1e-9)]),
        log(jnp.sort(spread)),
        jnp.sort(mean),
        jnp.stack(
            [
                log(root(mean.var())),
                log(spread.mean()),
                log(spread.mean()) - log(root(mean.var()), 1e-6),
            ]
        ),
        values,
        effective[None],
        shares,
        jnp.sort(wins),
        -(wins * log(wins)).sum()[None],
        jnp.sort(mean_probability),
        summary(log(norm(centred, 1), 1e-9)),
        summary(logs.max(1)),
    ]
    return jnp.concatenate(parts)


def sensitivity_statistics(
    outputs: Float[Array, "N n_L"], changed: Float[Array, "N n_L"]
) -> Float[Array, " F"]:
    """Returns how much outputs move when the inputs change a little.

    Args:
        outputs: on the probes.
        changed: on the changed probes.
    """
    moved = changed - outputs
    moved = moved - moved.mean(1, keepdims=True)
    square = (moved**2).sum(1)
    spread = outputs - outputs.mean(0, keepdims=True)
    spread = spread - spread.mean(1, keepdims=True)
    same = outputs.argmax(1) == changed.argmax(1)
    kept = same.astype(outputs.dtype).mean()
    ratio = log(square.mean()) - log((spread**2).sum(1).mean())
    return jnp.concatenate([summary(log(root(square), 1e-9)), jnp.stack([ratio, kept])])


def spectra(spec: WeightSpec, theta: Theta) -> Float[Array, " F"]:
    """Returns statistics of singular values of a normal form.

    Of every head and adapter, pooled over heads: the shares of its singular values and
    the logarithm of its norm; of every other kernel, flattened to the matrix of its
    last axis, the same. Invariant to the whole group.

    Args:
        spec: of settled weights.
        theta: a normal form, in which what a head computes is split evenly between two
            leaves, so that columns have the singular values as square norms.
    """
    parts: list[Array] = []
    leaves = views(spec, theta)
    bonds = {s.name: s for s in spec.spaces if s.group == "general_linear"}
    seen: set[str] = set()
    for leaf in spec.leaves:
        x = leaves[leaf.path]
        for position, axis in enumerate(leaf.axes):
            if axis.space in bonds and axis.space not in seen and axis.power > 0:
                seen.add(axis.space)
                host = spec.per_axis(leaf, position)
                kept = {position} if host is None else {position, host}
                square = jnp.sum(x * x, [p for p in range(x.ndim) if p not in kept])
                parts += _spread_of(square.reshape(-1, axis.size))
        if len(leaf.axes) > 1 and not any(axis.space in bonds for axis in leaf.axes):
            values = singular_values(x.reshape(-1, x.shape[-1]))
            parts += _spread_of(values[None])
    return jnp.concatenate(parts)


def _spread_of(values: Float[Array, "h d"]) -> list[Array]:
    """Statistics of descending singular values, pooled over heads."""
    total = values.sum(1)
    shares = values / jnp.where(total > 0, total, 1)[:, None]
    entropy = -(shares * log(shares)).sum(1)
    rows = jnp.stack([log(total, LEAST), entropy, shares.max(1)])
    return [rows.mean(1), root(rows.var(1)), summary(shares)]


def summary(x: Array) -> Float[Array, "9"]:
    """Returns mean, deviation and seven quantiles of all entries."""
    flat = x.reshape(-1)
    quantiles = jnp.quantile(flat, jnp.asarray(FINE_QUANTILES, flat.dtype))
    return jnp.concatenate([jnp.stack([flat.mean(), root(flat.var())]), quantiles])


def norm(x: Array, axis: int) -> Array:
    """Returns the Euclidean norm along an axis; the gradient at zero is 0."""
    return root((x * x).sum(axis))


def spectrum(matrix: Float[Array, "n m"], rank: int) -> tuple[Array, Array, Array]:
    """Returns logarithms of `rank` singular values, shares of power, and their entropy.

    Values below `1e-5` of the largest are cut off there: smaller ones are rounding in
    float32.

    Returns:
        `[rank]` logarithms, largest first; `[rank]` shares; the entropy of the shares.
    """
    values = singular_values(matrix)
    missing = max(rank - values.shape[0], 0)
    values = jnp.pad(values, (0, missing))[:rank]
    values = jnp.maximum(values, 1e-5 * values[0])
    power = values**2 / jnp.maximum((values**2).sum(), LEAST)
    return log(values), power, -(power * log(power)).sum()
