"""The compiled program against one network at a time, optimisers written out."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import _hyper, _train_many

NET = nets.mlp((6, 5, 3))
CONFIG = zoo.ZooConfig({"relu": NET.config}, steps=(0, 12), batch=8)
POINTS = 60


def _data() -> zoo.Data:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90).astype(np.int32)
    x = (np.eye(3)[y][:, :, None] + 0.3 * rng.normal(size=(90, 3, 2))).astype("f4")
    return zoo.Data(x[:POINTS], y[:POINTS], x[POINTS:], y[POINTS:])


class State(NamedTuple):
    """Weights and moments of one network, as flat float64 vectors."""

    theta: np.ndarray
    m: np.ndarray
    v: np.ndarray


def _step(name: str, t: int, rate: float, state: State, g: np.ndarray) -> State:
    """One step of one optimiser, `t` from 1, as its paper writes it."""
    theta, m, v = state
    if name == "sgd":
        return State(theta - rate * g, m, v)
    if name == "momentum":
        m = 0.9 * m + g
        return State(theta - rate * m, m, v)
    if name == "rmsprop":
        v = 0.9 * v + 0.1 * g**2
        return State(theta - rate * g / (np.sqrt(v) + 1e-8), m, v)
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    mean, variance = m / (1 - 0.9**t), v / (1 - 0.999**t)
    return State(theta - rate * mean / (np.sqrt(variance) + 1e-8), m, v)


@jax.jit
def _gradient(theta: Any, x: Any, y: Any, weight: Any) -> Any:
    def loss(theta: Any) -> Any:
        log = jax.nn.log_softmax(NET.apply(theta, x))
        log = jax.numpy.take_along_axis(log, y[:, None], axis=1)[:, 0]
        return -(log * weight).sum() / jax.numpy.maximum(weight.sum(), 1)

    return jax.grad(loss)(theta)


def _vector(theta: Any) -> np.ndarray:
    stacked = jax.tree.map(lambda leaf: np.asarray(leaf)[None], theta)
    return zoo.to_vectors(NET.spec, stacked)[0].astype(np.float64)


def _alone(
    theta: np.ndarray,
    steps: int,
    seen: np.ndarray,
    name: str,
    rate: float,
    decay: float,
    factor: np.ndarray | None = None,
) -> np.ndarray:
    data, order = _data(), _hyper.minibatches(CONFIG, 0, 0, POINTS)
    state = State(theta, np.zeros_like(theta), np.zeros_like(theta))
    for t in range(1, steps + 1):
        at = order[t - 1]
        tree = zoo.from_vectors(NET.spec, state.theta.astype(np.float32))
        g = _gradient(tree, data.train_x[at], data.train_y[at], seen[at])
        now = rate if factor is None else rate * factor[t - 1]
        state = _step(name, t, now, state, _vector(g) + decay * state.theta)
    return state.theta


def test_every_optimiser_is_the_one_of_its_paper() -> None:
    """Each network of a chunk against a loop of its own, to its own stopping step."""
    names = np.array(list(_hyper.OPTIMIZER_ROWS))
    hyper = {
        "optimizer": names,
        "init": np.array(["he_normal"] * 4),
        "step": np.array([5, 7, 12, 0]),
        "init_scale": np.ones(4),
        "learning_rate": np.array([0.1, 0.05, 0.01, 0.005]),
        "weight_decay": np.array([0.1, 0.0, 0.02, 0.01]),
        "dropout": np.zeros(4),
        "train_fraction": np.array([1.0, 0.5, 0.3, 0.8]),
    }
    seen = _hyper.subsets(CONFIG, 0, hyper, POINTS)
    np.testing.assert_array_equal(seen.sum(1), [60, 30, 18, 48])
    program = _train_many.make_program(NET, with_dropout=False)

    def run(stop: np.ndarray) -> np.ndarray:
        chunk = _train_many.Chunk(
            np.arange(4, dtype=np.int32),
            np.int32(stop.max()),
            _hyper.minibatches(CONFIG, 0, 0, POINTS),
            seen,
            _hyper.coefficients(hyper | {"step": stop}),
        )
        thetas, _ = program(jax.random.key(0), chunk, _data())
        return zoo.to_vectors(NET.spec, jax.device_get(thetas))

    start = run(np.zeros(4, np.int64))
    for stop in (hyper["step"], np.array([1, 1, 1, 9])):
        end = run(stop)
        for k, name in enumerate(names):
            rate, decay = hyper["learning_rate"][k], hyper["weight_decay"][k]
            want = _alone(
                start[k].astype(np.float64), int(stop[k]), seen[k], name, rate, decay
            )
            np.testing.assert_allclose(end[k], want, rtol=1e-3, atol=2e-5)
            assert np.array_equal(end[k], start[k]) == (stop[k] == 0)


def test_the_rate_warms_up_and_decays() -> None:
    """By hand, and what each optimiser makes of it; without one nothing is passed."""
    assert _hyper.schedule(CONFIG) is None
    config = dataclasses.replace(CONFIG, schedule=(4, 12))
    factor = _hyper.schedule(config)
    assert factor is not None
    assert factor.shape == (12,)
    rise = [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(factor[:4], rise)
    np.testing.assert_allclose(
        factor[[4, 6, 8, 10]], [1, 0.853553, 0.5, 0.146447], 1e-5
    )
    names = np.array(list(_hyper.OPTIMIZER_ROWS))
    hyper = {"optimizer": names, "init": np.array(["he_normal"] * 4)}
    hyper |= {"init_scale": np.ones(4), "weight_decay": np.full(4, 0.01)}
    hyper |= {"learning_rate": np.array([0.1, 0.05, 0.01, 0.005])}
    hyper |= {"dropout": np.zeros(4)}
    seen = np.ones((4, POINTS), np.float32)
    program = _train_many.make_program(NET, with_dropout=False)

    def run(stop: int) -> np.ndarray:
        chunk = _train_many.Chunk(
            np.arange(4, dtype=np.int32),
            np.int32(stop),
            _hyper.minibatches(config, 0, 0, POINTS),
            seen,
            _hyper.coefficients(hyper | {"step": np.full(4, stop)}),
            factor,
        )
        thetas, _ = program(jax.random.key(0), chunk, _data())
        return zoo.to_vectors(NET.spec, jax.device_get(thetas))

    start, end = run(0).astype(np.float64), run(12)
    for k, name in enumerate(names):
        rest = (seen[k], name, hyper["learning_rate"][k], 0.01)
        want = _alone(start[k], 12, *rest, factor=factor)
        np.testing.assert_allclose(end[k], want, rtol=1e-3, atol=2e-5)
        constant = _alone(start[k], 12, *rest)
        assert np.abs(constant - want).max() > 1e-3


def test_dropout_is_unbiased_and_off_where_the_rate_is_zero() -> None:
    net = nets.mlp((6, 50, 3))
    x = jax.numpy.ones((40, 6), jax.numpy.float32)
    with_rate = _train_many._dropout(net, x, jax.random.key(0))
    units = jax.numpy.ones((40, 50), jax.numpy.float32)
    kept = np.asarray(with_rate(jax.numpy.float32(0.25))(net.layers[0], units))
    assert set(np.unique(kept).round(5)) == {0.0, np.float32(4 / 3).round(5)}
    assert kept.mean() == pytest.approx(1.0, abs=0.05)
    off = np.asarray(with_rate(jax.numpy.float32(0.0))(net.layers[0], units))
    np.testing.assert_array_equal(off, 1.0)
