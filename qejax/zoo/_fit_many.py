"""One compiled program that fits a chunk of coordinate networks, one signal each.

Fits go through the program some at a time, `together`: on a CPU few of them, so that
activations stay in its caches; on a GPU all. A fit whose signal is reproduced well
enough keeps its weights while the others beside it go on.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from qejax import nets
from qejax._typing import Array, Float, Int, PRNGKeyArray, Theta
from qejax.zoo._fit_config import CONVENTIONS, FitConfig

DRAW_START, DRAW_SAMPLE = 21, 22
"""Integers that tell the streams of random numbers apart."""


class Fitted(NamedTuple):
    """What the program returns of `K` fits.

    Attributes:
        thetas: weights, stacked.
        psnr: `[K]`, of these weights on the whole grid, dB.
        steps: `[K]`, that were taken.
    """

    thetas: Theta
    psnr: Array
    steps: Array


class _State(NamedTuple):
    step: Array
    thetas: Theta
    adam: optax.OptState
    psnr: Array
    steps: Array


@functools.lru_cache(maxsize=16)
def fit_program(
    config: FitConfig,
) -> Callable[[PRNGKeyArray, Int[Array, " K"], Float[Array, "K N c"]], Fitted]:
    """Returns the compiled program of a configuration; kept, so compiled once.

    Returns:
        `(key, rows, signals) -> fits`: rows are the numbers of the fits, which decide
        where they start; signals are in [0, 1] on the grid, flat. The key is consumed.
    """
    one_loop = functools.partial(_fit_together, config)

    @jax.jit
    def program(
        key: PRNGKeyArray, rows: Int[Array, " K"], signals: Float[Array, "K N c"]
    ) -> Fitted:
        count = rows.shape[0] // config.together
        parts = jax.tree.map(
            lambda x: x.reshape(count, config.together, *x.shape[1:]), (rows, signals)
        )
        found = lax.map(lambda part: one_loop(key, *part), parts)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)

    return program


def psnr_of(config: FitConfig, values: Array, signal: Array) -> Array:
    """Returns the peak signal-to-noise ratio of values of a network, dB.

    Of the signal in [0, 1], whatever the convention: `-10 log10(mean squared error)`.

    Args:
        config: whose convention the values have.
        values: `[..., N, c]`.
        signal: `[..., N, c]` in [0, 1].
    """
    rules = CONVENTIONS[config.convention]
    error = (values - rules.low) / (rules.high - rules.low) - signal
    square = jnp.mean(error**2, (-2, -1))
    return -10 * jnp.log10(jnp.maximum(square, jnp.finfo(square.dtype).tiny))


def _fit_together(
    config: FitConfig,
    key: PRNGKeyArray,
    rows: Int[Array, " k"],
    signals: Float[Array, "k N c"],
) -> Fitted:
    net, rules = nets.build(config.network()), CONVENTIONS[config.convention]
    grid = nets.grid(*config.shape)
    targets = rules.low + (rules.high - rules.low) * signals
    starts = jax.random.fold_in(key, DRAW_START)
    draws = jax.random.fold_in(jax.random.fold_in(key, DRAW_SAMPLE), rows[0])
    optimizer = optax.adam(config.learning_rate)
    thetas = jax.vmap(lambda row: net.init(jax.random.fold_in(starts, row)))(rows)

    def loss(theta: Theta, x: Array, y: Array) -> Array:
        return jnp.mean((net.apply(theta, x) - y) ** 2)

    def update(number: Array, state: _State) -> _State:
        x, y = grid, targets
        if config.sample:
            own = jax.random.fold_in(draws, state.step)
            chosen = jax.random.randint(own, (config.sample,), 0, grid.shape[0])
            x, y = grid[chosen], targets[:, chosen]
        grads = jax.vmap(jax.grad(loss), (0, None, 0))(state.thetas, x, y)
        going = state.psnr < config.psnr
        changes, adam = optimizer.update(grads, state.adam)

        def moved(theta: Array, change: Array) -> Array:
            on = going.reshape(-1, *(1,) * (theta.ndim - 1))
            return jnp.where(on, theta + change, theta)

        thetas = jax.tree.map(moved, state.thetas, changes)
        return _State(state.step + 1, thetas, adam, state.psnr, state.steps + going)

    def measured(state: _State) -> _State:
        values = jax.vmap(net.apply, (0, None))(state.thetas, grid)
        return state._replace(psnr=psnr_of(config, values, signals))

    def round_of(state: _State) -> _State:
        left = jnp.minimum(config.check, config.max_steps - state.step)
        return measured(lax.fori_loop(0, left, update, state))

    def open_(state: _State) -> Array:
        # A fit that is not finite has no number that is below.
        return (state.step < config.max_steps) & jnp.any(state.psnr < config.psnr)

    none = jnp.zeros(rows.shape, jnp.int32)
    start = _State(
        jnp.int32(0), thetas, optimizer.init(thetas), none.astype(jnp.float32), none
    )
    end = lax.while_loop(open_, round_of, measured(start))
    return Fitted(end.thetas, end.psnr, end.steps)
