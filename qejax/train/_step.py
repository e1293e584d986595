"""Many optimiser steps as one compiled program, and the state it carries.

The state is a pytree of arrays:

- "params", "opt_state", and "ema" (the averaged parameters, or None);
- "step": steps done, int32;
- "window": sums since the last evaluation, for the log: "loss", "aux", "count";
- "finite": whether every loss since the last evaluation was finite.

One program runs from the state's step to any later one: the number of steps is an
argument, so nothing is compiled twice, and a step computes the same bits however the
steps are cut into dispatches. Nothing in it depends on the wall clock or on earlier
dispatches: the order of examples is a function of (seed, epoch), the key of a step a
function of (seed, step).
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from qejax._devices import batch_sharding
from qejax._typing import Array, Int, PRNGKeyArray
from qejax.train._config import FitConfig

Params: TypeAlias = Any
Batch: TypeAlias = Any
State: TypeAlias = dict[str, Any]

LossFn: TypeAlias = Callable[
    [Params, Batch, PRNGKeyArray], tuple[Array, dict[str, Any]]
]
"""`(params, batch, key) -> (loss, aux)`: a scalar, and scalars by name to log."""

Advance: TypeAlias = Callable[[State, Batch, Any], State]
"""`(state, data, stop) -> state` at step `stop`, or at the first non-finite loss."""

_ORDER, _STEP = 0, 1  # what a key is for, folded into the seed


def num_examples(data: Batch) -> int:
    """Returns the length of the leading axis that all leaves of `data` share.

    Raises:
        ValueError: if there is no leaf, or the lengths differ.
    """
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"fit(data=...): expected arrays that share the length of their first axis "
            f"(the examples), got lengths {sorted(map(str, lengths))}. Stack the "
            f"examples, and keep constants out of `data`."
        )
    return lengths.pop() or 0


def example_order(seed: int, epoch: Any, num: int) -> Int[Array, " num"]:
    """Returns the order in which an epoch visits the examples, a permutation.

    Args:
        seed: of the run.
        epoch: which pass over the data, a scalar integer (may be traced).
        num: the number of examples.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _ORDER), epoch)
    return jax.random.permutation(key, num)


def step_key(seed: int, step: Any) -> PRNGKeyArray:
    """Returns the key that the loss receives in step `step` (may be traced)."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _STEP), step)


def empty_window(state: State) -> State:
    """Returns the state with the sums for the log set to zero."""
    return {**state, "window": jax.tree.map(jnp.zeros_like, state["window"])}


def check_loss(loss_fn: LossFn, params: Params, data: Batch, batch_size: int) -> Any:
    """Returns the shapes of `(loss, aux)` for one batch, traced but not run.

    Raises:
        ValueError: if there are fewer examples than `batch_size`.
        TypeError: if `loss_fn` does not return `(loss, aux)` with a scalar loss and a
            dict of scalars.
    """
    num = num_examples(data)
    if num < batch_size:
        raise ValueError(
            f"fit(data=...): expected at least batch_size = {batch_size} examples, got "
            f"{num}. Use a smaller batch."
        )
    batch = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((batch_size, *a.shape[1:]), a.dtype), data
    )
    out = jax.eval_shape(loss_fn, params, batch, jax.random.key(0))
    if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], dict)):
        raise TypeError(
            f"fit(loss_fn=...): expected it to return (loss, aux) with a dict aux, got "
            f"{type(out).__name__}. Return (loss, {{}}) if there is nothing to log."
        )
    shapes = {
        "loss": out[0],
        **{f"aux[{name!r}]": leaf for name, leaf in out[1].items()},
    }
    for name, leaf in shapes.items():
        if getattr(leaf, "shape", None) != ():
            raise TypeError(
                f"fit(loss_fn=...): expected {name} to be a scalar, got "
                f"{getattr(leaf, 'shape', type(leaf).__name__)}. Take its mean."
            )
    return out


def init_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    config: FitConfig,
    loss_shapes: Any,
) -> State:
    """Returns the state before the first step, with buffers of its own.

    Every leaf is a copy, so that the state can be donated while the caller keeps
    `params`.
    """
    loss, aux = loss_shapes
    state = {
        "params": params,
        "opt_state": optimizer.init(params),
        "ema": None if config.ema is None else params,
        "step": jnp.zeros((), jnp.int32),
        "window": {
            "loss": jnp.zeros((), _sum_dtype(loss)),
            "aux": {
                name: jnp.zeros((), _sum_dtype(leaf)) for name, leaf in aux.items()
            },
            "count": jnp.zeros((), jnp.int32),
        },
        "finite": jnp.ones((), bool),
    }
    return own(state)


def own(tree: Any) -> Any:
    """Returns a copy of every leaf on the device, none of them weakly typed."""

    def copy(leaf: Any) -> Array:
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            return jnp.copy(leaf)
        return jnp.array(leaf, dtype=jnp.result_type(leaf), copy=True)

    return jax.tree.map(copy, tree)


def make_step(
    loss_fn: LossFn, optimizer: optax.GradientTransformation, config: FitConfig
) -> Callable[[State, Batch], State]:
    """Returns the pure function from a state and a batch to the next state."""

    def one_step(state: State, batch: Batch) -> State:
        step, window = state["step"], state["window"]
        (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state["params"], batch, step_key(config.seed, step)
        )
        updates, opt_state = optimizer.update(
            grads, state["opt_state"], state["params"]
        )
        params = optax.apply_updates(state["params"], updates)
        return {
            "params": params,
            "opt_state": opt_state,
            "ema": _average(state["ema"], params, step, config.ema),
            "step": step + 1,
            "window": {
                "loss": window["loss"] + loss,
                "aux": {name: window["aux"][name] + aux[name] for name in aux},
                "count": window["count"] + 1,
            },
            "finite": state["finite"] & jnp.isfinite(loss),
        }

    return one_step


def make_advance(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    config: FitConfig,
    num: int,
    mesh: Mesh | None = None,
) -> Advance:
    """Returns the pure function that `fit` compiles once; see the module's text.

    On a mesh every device takes its share of each batch; the gradients of all are
    summed. An epoch has `num // batch_size` steps; the examples left over are others
    in every epoch. It stops early at the first step whose loss is not finite, with
    "finite" false and "step" just after that step.
    """
    per_epoch = num // config.batch_size
    one_step = make_step(loss_fn, optimizer, config)

    def order_of(step: Any) -> Array:
        return example_order(config.seed, step // per_epoch, num)

    def advance(state: State, data: Batch, stop: Any) -> State:
        def body(carry: tuple[State, Array]) -> tuple[State, Array]:
            state, order = carry
            step = state["step"]
            position = step % per_epoch
            order = jax.lax.cond(position == 0, lambda: order_of(step), lambda: order)
            rows = jax.lax.dynamic_slice_in_dim(
                order, position * config.batch_size, config.batch_size
            )
            if mesh is not None:
                # Every device has all examples and takes its own of them.
                rows = jax.lax.with_sharding_constraint(rows, batch_sharding(mesh))
            batch = jax.tree.map(
                lambda a: a.at[rows].get(mode="promise_in_bounds"), data
            )
            return one_step(state, batch), order

        def more(carry: tuple[State, Array]) -> Array:
            return (carry[0]["step"] < stop) & carry[0]["finite"]

        return jax.lax.while_loop(more, body, (state, order_of(state["step"])))[0]

    return advance


def _average(ema: Params, params: Params, step: Any, decay: float | None) -> Params:
    """Returns the moving average after a step; early steps weigh more."""
    if decay is None:
        return None
    share = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(
        lambda mean, new: mean + share.astype(new.dtype) * (new - mean), ema, params
    )


def _sum_dtype(leaf: Any) -> Any:
    return jnp.promote_types(leaf.dtype, jnp.float32)
