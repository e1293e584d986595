"""The training program: orders, keys, averages, and what a loss must return."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qejax.train import FitConfig
from qejax.train._step import (
    check_loss,
    example_order,
    init_state,
    make_advance,
    num_examples,
    own,
    step_key,
)


def count_loss(params: Any, batch: Any, key: Any) -> Any:
    """Its gradient at `params[i]` is how often example `i` is in the batch."""
    del key
    return jnp.sum(params["seen"][batch["id"]]), {"first": batch["id"][0]}


def start(steps: int = 100, batch_size: int = 3, num: int = 7, **fields: Any) -> Any:
    config = FitConfig(steps=steps, batch_size=batch_size, eval_every=10, **fields)
    data = {"id": jnp.arange(num)}
    params = {"seen": jnp.zeros(num)}
    optimizer = optax.sgd(1.0)
    shapes = check_loss(count_loss, params, data, batch_size)
    state = init_state(params, optimizer, config, shapes)
    return jax.jit(make_advance(count_loss, optimizer, config, num)), state, data


def test_orders_are_permutations_of_seed_and_epoch() -> None:
    orders = {
        (seed, epoch): tuple(example_order(seed, epoch, 20).tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert all(sorted(order) == list(range(20)) for order in orders.values())
    assert len(set(orders.values())) == 4


def test_keys_differ_by_step_and_seed_and_from_orders() -> None:
    keys = [step_key(seed, step) for seed in (0, 1) for step in (0, 1, 2)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 6


def test_an_epoch_visits_every_example_at_most_once() -> None:
    advance, state, data = start()
    seen = np.zeros(7)
    for epoch in range(4):
        state = advance(state, data, np.int32(2 * (epoch + 1)))
        visits = -np.asarray(state["params"]["seen"]) - seen
        order = np.asarray(example_order(0, epoch, 7))
        np.testing.assert_array_equal(np.flatnonzero(visits), np.sort(order[:6]))
        seen = seen + visits
    assert seen.sum() == 24


@pytest.mark.parametrize("cuts", [(1, 9), (4, 5, 10), range(1, 11)])
def test_cutting_steps_into_dispatches_changes_no_bit(cuts: Any) -> None:
    advance, state, data = start(ema=0.5)
    whole = advance(state, data, np.int32(10))
    for cut in (*cuts, 10):
        state = advance(state, data, np.int32(cut))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_average_warms_up_to_its_decay() -> None:
    advance, state, data = start(ema=0.3)
    mean = np.zeros(7)
    for step in range(8):
        state = advance(state, data, np.int32(step + 1))
        decay = min(0.3, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * np.asarray(state["params"]["seen"])
        np.testing.assert_allclose(state["ema"]["seen"], mean, rtol=1e-12)


def test_it_stops_at_the_first_loss_that_is_not_finite() -> None:
    def loss_fn(params: Any, batch: Any, key: Any) -> Any:
        del batch, key
        return jnp.log(params["a"]), {}

    config = FitConfig(steps=9, batch_size=1, eval_every=1)
    data, params = {"x": jnp.zeros(1)}, {"a": jnp.ones(())}
    optimizer = optax.sgd(0.6)
    shapes = check_loss(loss_fn, params, data, 1)
    state = init_state(params, optimizer, config, shapes)
    state = make_advance(loss_fn, optimizer, config, 1)(state, data, np.int32(9))
    # a: 1, 0.4, -1.1, and the third loss is nan.
    assert int(state["step"]) == 3
    assert not state["finite"]


def test_window_sums_loss_and_aux() -> None:
    advance, state, data = start()
    state = advance(state, data, np.int32(2))
    order = np.asarray(example_order(0, 0, 7))
    assert int(state["window"]["count"]) == 2
    assert int(state["window"]["aux"]["first"]) == order[0] + order[3]


def test_own_copies_and_forgets_weak_types() -> None:
    tree = {"a": jnp.ones(3), "w": jnp.asarray(1.0), "key": jax.random.key(0)}
    copy = own(tree)
    assert copy["a"].unsafe_buffer_pointer() != tree["a"].unsafe_buffer_pointer()
    assert tree["w"].weak_type
    assert not copy["w"].weak_type
    assert jax.random.key_data(copy["key"]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("data", "got"),
    [
        ({}, r"\[\]"),
        ({"a": np.ones(3), "b": np.ones(4)}, "'3', '4'"),
        (np.ones(()), ""),
    ],
)
def test_examples_share_an_axis(data: Any, got: str) -> None:
    with pytest.raises(ValueError, match=f"share the length of their first.*{got}"):
        num_examples(data)


def test_a_batch_fits_the_data() -> None:
    with pytest.raises(ValueError, match="at least batch_size = 8 examples, got 7"):
        start(batch_size=8)


@pytest.mark.parametrize(
    ("out", "match"),
    [
        (lambda loss: loss, r"return \(loss, aux\) with a dict aux, got ShapeDtype"),
        (lambda loss: (loss, loss), r"with a dict aux, got tuple"),
        (lambda loss: (loss[None], {}), r"expected loss to be a scalar, got \(1,\)"),
        (
            lambda loss: (loss, {"a": loss[None]}),
            r"aux\['a'\] to be a scalar, got \(1,",
        ),
        (lambda loss: (loss, {"a": {}}), r"aux\['a'\] to be a scalar, got dict"),
    ],
)
def test_a_loss_returns_scalars(out: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        check_loss(lambda p, b, k: out(jnp.sum(p)), jnp.ones(2), jnp.ones(3), 2)
