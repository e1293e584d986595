"""Metrics against SciPy and against the definitions; every error."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from qejax.train import accuracy, kendall_tau, mae, r2


def scipy_tau(x: Any, y: Any) -> float:
    result: Any = scipy.stats.kendalltau(x, y)
    return float(result.statistic)


@pytest.mark.parametrize("levels", [2, 3, 10, 10**6])
@pytest.mark.parametrize("num", [2, 3, 17, 64, 241])
def test_kendall_tau_is_scipys_tau_b(num: int, levels: int) -> None:
    rng = np.random.default_rng(num + levels)
    for related in (0, 1):
        for _ in range(5):
            x = rng.integers(0, levels, num)
            y = related * x + rng.integers(0, levels, num)
            want = scipy_tau(x, y)
            np.testing.assert_allclose(kendall_tau(x, y), want, rtol=0, atol=1e-12)


def test_kendall_tau_counts_pairs() -> None:
    # Pairs: (0, 1) discordant, (0, 2) and (1, 2) tied in one argument each.
    x, y = np.array([1.0, 2.0, 2.0]), np.array([5.0, 3.0, 5.0])
    assert kendall_tau(x, y) == pytest.approx(-1 / 2)
    assert kendall_tau(x, x) == 1.0
    assert kendall_tau(x, -x) == -1.0


def test_kendall_tau_sees_ranks_only() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50), rng.normal(size=50)
    assert kendall_tau(x, y) == kendall_tau(np.exp(3 * x), y**3)
    assert kendall_tau(x, y) == kendall_tau(y, x)
    assert kendall_tau(x, y) != kendall_tau(x, y[::-1])


def test_kendall_tau_of_a_constant_is_nan() -> None:
    assert np.isnan(kendall_tau(np.arange(4.0), np.ones(4)))
    assert np.isnan(kendall_tau(np.ones(4), np.arange(4.0)))


def test_kendall_tau_takes_many_items_and_jax_arrays() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=20_000)
    y = np.round(x + rng.normal(size=20_000), 2)
    want = scipy_tau(x, y)
    assert kendall_tau(jnp.asarray(x), jnp.asarray(y)) == pytest.approx(want, abs=1e-12)


def test_r2_is_the_share_of_variance() -> None:
    rng = np.random.default_rng(2)
    x, noise = rng.normal(size=40), rng.normal(size=40)
    want = 1 - np.mean(noise**2) / np.var(x)
    assert r2(x, x + noise) == pytest.approx(want, rel=1e-12)
    assert r2(x, np.full(40, x.mean())) == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(r2(np.ones(3), np.arange(3.0)))


def test_mae_and_accuracy() -> None:
    assert mae(jnp.array([1, 2]), jnp.array([2, 0])) == 1.5
    assert accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])) == 0.75
    assert accuracy(np.array([0, 1]), np.array([[1.0, 1.0], [0.0, 2.0]])) == 1.0


METRICS = [kendall_tau, r2, mae, accuracy]


@pytest.mark.parametrize("metric", METRICS)
def test_shapes_must_pair_up(metric) -> None:
    with pytest.raises(ValueError, match=r"expected two vectors of one length"):
        metric(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match=r"got shapes \(2, 2, 2\)"):
        metric(np.ones((2, 2, 2)), np.ones((2, 2, 2)))


@pytest.mark.parametrize("metric", METRICS)
def test_empty_input_is_an_error(metric) -> None:
    with pytest.raises(ValueError, match=r"expected at least \d items, got 0"):
        metric(np.ones(0), np.ones(0))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_input_is_an_error(metric, bad: float) -> None:
    good, broken = np.array([0.0, 1.0]), np.array([0.0, bad])
    with pytest.raises(ValueError, match=r"expected finite numbers.*'predicted'"):
        metric(good, broken)
    with pytest.raises(ValueError, match=r"expected finite numbers.*'true'"):
        metric(broken, good)


def test_non_finite_scores_are_an_error() -> None:
    scores = np.array([[0.0, np.nan]])
    with pytest.raises(ValueError, match="accuracy: expected finite numbers"):
        accuracy(np.array([0]), scores)
