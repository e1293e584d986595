"""One compiled program that trains a chunk of networks at once.

Layout: every leaf has a leading axis over networks, minibatches have none. All
networks of a chunk read one minibatch, so the first layer, which holds most of the
work of a small network, is one large matrix product instead of many small ones; a
network leaves out the points that are not in its own subset by weighting them with 0.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from qejax import _trees
from qejax._typing import Array, PRNGKeyArray, Theta
from qejax.nets import Layer, Network
from qejax.zoo._hyper import fans

DRAW_INIT, DRAW_DROPOUT = 11, 12
"""Integers that tell the streams of random numbers apart."""

EVALUATE_AT_ONCE = 64

LABELS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
"""What the program measures, by name."""


class Data(NamedTuple):
    """What the networks of a zoo are trained on.

    Attributes:
        train_x: `[N, ...]`, inputs.
        train_y: `[N]`, integer labels.
        test_x: `[N', ...]`.
        test_y: `[N']`.
    """

    train_x: Any
    train_y: Any
    test_x: Any
    test_y: Any


class Chunk(NamedTuple):
    """What one call of the program trains, `K` networks.

    Attributes:
        rows: `[K]` int32, numbers of the networks in their bucket.
        stop: number of steps of the longest of them, `[]` int32.
        order: `[steps, batch]` int32, points of each minibatch.
        subset: `[K, N]` float32, 1 where a network sees a point.
        coefficients: `[K]` each, see `_hyper.coefficients`.
        factor: `[steps]` float32 on the rate, see `_hyper.schedule`; `None` for 1.
    """

    rows: Any
    stop: Any
    order: Any
    subset: Any
    coefficients: Any
    factor: Any = None


def _spread(x: Array, ndim: int) -> Array:
    return x.reshape(x.shape + (1,) * (ndim - 1))


def _initial(net: Network, key: PRNGKeyArray, chunk: Chunk) -> Theta:
    """Kernels drawn per network from its own number, biases zero, norms' scales one."""
    fan, of = fans(net.spec), chunk.coefficients

    def one(
        row: Array, normal: Array, glorot: Array, absolute: Array, scale: Array
    ) -> Theta:
        # One draw for all leaves and for both distributions, each with variance 1.
        own, size = jax.random.fold_in(key, row), net.spec.num_parameters
        u = 2 * jax.random.uniform(own, (size,), jnp.float32, 1e-6, 1.0) - 1
        unit = jnp.where(normal > 0, 2**0.5 * lax.erf_inv(u), 3**0.5 * u)
        leaves: dict[str, Array] = {}
        start = 0
        for leaf in net.spec.leaves:
            draw = unit[start : start + leaf.size].reshape(leaf.stored)
            start += leaf.size
            fan_in, fan_out = fan.get(leaf.path, (math.inf, math.inf))
            sums = jnp.where(glorot > 0, fan_in + fan_out, fan_in)
            if leaf.path in fan:
                sums = jnp.where(absolute > 0, 2, sums)
            leaves[leaf.path] = scale * jnp.sqrt(2 / sums).astype(jnp.float32) * draw
            if leaf.path.endswith("/scale"):
                leaves[leaf.path] = jnp.ones_like(draw)
        return _trees.nest(leaves)

    names = ("normal", "glorot", "absolute", "init_scale")
    return jax.vmap(one)(chunk.rows, *(of[name] for name in names))


def _dropout(
    net: Network, x: Array, key: PRNGKeyArray
) -> Callable[[Array], Callable[[Layer, Array], Array]]:
    """Returns `rate -> after`; the draws are shared by all networks of a chunk.

    Unit `j` of one network has nothing to do with unit `j` of another, so sharing the
    uniform numbers and not the rates costs nothing but a correlation in time.
    """
    shapes: list[tuple[int, ...]] = []

    def note(layer: Layer, units: Array) -> Array:
        shapes.append(units.shape)
        return units

    jax.eval_shape(lambda x: net.run(_zeros(net), x, note), x)
    sizes = [math.prod(shape) for shape in shapes]
    draws = jax.random.uniform(key, (sum(sizes),), jnp.float32)
    cuts = [sum(sizes[:l]) for l in range(len(sizes))]
    uniform = [
        draws[start : start + size].reshape(shape)
        for start, size, shape in zip(cuts, sizes, shapes, strict=True)
    ]

    def with_rate(rate: Array) -> Callable[[Layer, Array], Array]:
        rest = iter(uniform)

        def after(layer: Layer, units: Array) -> Array:
            del layer
            return jnp.where(next(rest) < rate, 0, units / (1 - rate))

        return after

    return with_rate


def _zeros(net: Network) -> Theta:
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), net.spec.template())


def _cross_entropy(logits: Array, labels: Array) -> Array:
    """`[..., N]` from logits `[..., N, n_L]` and labels `[N]`."""
    hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    hot = hot.reshape((1,) * (logits.ndim - 2) + hot.shape)
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits * hot, axis=-1)


def _loss(
    net: Network,
    thetas: Theta,
    x: Array,
    y: Array,
    weight: Array,
    rate: Array,
    with_rate: Callable[[Array], Callable[[Layer, Array], Array]] | None,
) -> Array:
    """Sum over networks of their mean losses; a network's gradient is its own."""

    def logits(theta: Theta, rate: Array) -> Array:
        if with_rate is None:
            return net.apply(theta, x)
        return net.run(theta, x, with_rate(rate))

    losses = _cross_entropy(jax.vmap(logits)(thetas, rate), y)
    total = jnp.maximum(jnp.sum(weight, axis=1, keepdims=True), 1)
    return jnp.sum(losses * weight / total)


def _update(
    t: Array, of: dict[str, Array], theta: Array, m: Array, v: Array, g: Array
) -> tuple[Array, Array, Array]:
    """One leaf of the shared update, see `_hyper`."""
    at = {name: _spread(x, theta.ndim) for name, x in of.items()}
    g = g + at["weight_decay"] * theta
    m = at["b1"] * m + at["c"] * g
    v = at["b2"] * v + (1 - at["b2"]) * g * g
    count = (t + 1).astype(jnp.float32)
    # One factor per network: the corrections and the rate cost nothing per weight.
    rate = at["learning_rate"] / (1 - at["debias"] * at["b1"] ** count)
    root = lax.rsqrt(1 - at["debias"] * at["b2"] ** count)
    step = jnp.where(at["adaptive"] > 0, m / (jnp.sqrt(v) * root + 1e-8), m)
    return jnp.where(t < at["stop"], theta - rate * step, theta), m, v


def _evaluate(
    net: Network, thetas: Theta, x: Array, y: Array, weight: Array
) -> tuple[Array, Array]:
    """Weighted mean accuracy and loss, `[K]` each, block by block."""
    size = x.shape[0]
    block = min(size, EVALUATE_AT_ONCE)
    pad = -size % block
    x = jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1))
    y = jnp.pad(y, [(0, pad)])
    weight = jnp.pad(weight, [(0, 0), (0, pad)])

    def one(sums: tuple[Array, Array], start: Array) -> tuple[Any, None]:
        xs, ys = (lax.dynamic_slice_in_dim(a, start, block) for a in (x, y))
        ws = lax.dynamic_slice_in_dim(weight, start, block, axis=1)
        logits = jax.vmap(net.apply, (0, None))(thetas, xs)
        right = (jnp.argmax(logits, -1) == ys[None]).astype(jnp.float32)
        loss = _cross_entropy(logits, ys)
        # A point of weight 0 may have an infinite loss.
        loss = jnp.where(ws > 0, loss, 0)
        right_sum, loss_sum = sums
        return (right_sum + (right * ws).sum(1), loss_sum + (loss * ws).sum(1)), None

    zero = jnp.zeros(weight.shape[0], jnp.float32)
    starts = jnp.arange(0, size + pad, block)
    (right, loss), _ = lax.scan(one, (zero, zero), starts)
    total = weight.sum(1)
    return right / total, loss / total


@functools.lru_cache(maxsize=16)
def make_program(
    net: Network, with_dropout: bool
) -> Callable[[PRNGKeyArray, Chunk, Data], tuple[Theta, dict[str, Array]]]:
    """Returns the compiled program of one architecture; kept, so compiled once.

    Args:
        net: the architecture.
        with_dropout: whether any network has a rate above 0; without, no draws.

    Returns:
        `(key, chunk, data) -> (thetas, labels)`: the weights of each network at its
        own stopping step, stacked, and the labels of `Zoo`, `[K]` each. The key is
        consumed. One compilation serves all chunks of equal shapes, whatever their
        number of steps.
    """

    @jax.jit
    def program(
        key: PRNGKeyArray, chunk: Chunk, data: Data
    ) -> tuple[Theta, dict[str, Array]]:
        of = chunk.coefficients
        draws = jax.random.fold_in(key, DRAW_DROPOUT)
        thetas = _initial(net, jax.random.fold_in(key, DRAW_INIT), chunk)
        zeros = jax.tree.map(jnp.zeros_like, thetas)

        def step(t: Array, state: tuple[Theta, Theta, Theta]) -> Any:
            thetas, m, v = state
            at = chunk.order[t]
            x, y, weight = data.train_x[at], data.train_y[at], chunk.subset[:, at]
            with_rate = None
            if with_dropout:
                own = jax.random.fold_in(draws, chunk.rows[0])
                with_rate = _dropout(net, x, jax.random.fold_in(own, t))
            grads = jax.grad(_loss, argnums=1)(
                net, thetas, x, y, weight, of["dropout"], with_rate
            )
            now = of
            if chunk.factor is not None:
                now = of | {"learning_rate": chunk.factor[t] * of["learning_rate"]}
            moved = jax.tree.map(
                lambda *leaves: _update(t, now, *leaves), thetas, m, v, grads
            )
            return jax.tree.transpose(
                jax.tree.structure(thetas), jax.tree.structure((0, 0, 0)), moved
            )

        thetas, _, _ = lax.fori_loop(0, chunk.stop, step, (thetas, zeros, zeros))
        everything = jnp.ones((len(chunk.rows), len(data.test_y)), jnp.float32)
        test = _evaluate(net, thetas, data.test_x, data.test_y, everything)
        train = _evaluate(net, thetas, data.train_x, data.train_y, chunk.subset)
        return thetas, dict(zip(LABELS, (*test, *train), strict=True))

    return program
