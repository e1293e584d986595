"""What a soak is judged by."""

import pytest

from benchmarks import soak


def judged(steps: list[float], memory: list[int], compiled: list[float]) -> dict:
    watch = soak.Watch(minutes=1.0)
    watch.steps = [(20.0 + i, one) for i, one in enumerate(steps)]
    watch.memory = [(20.0 + i, one) for i, one in enumerate(memory)]
    watch.compiled, watch.compiled_before = compiled, 3
    return soak.judged(watch)


def test_a_calm_run_is_right() -> None:
    found = judged([0.1] * 200, [10**9] * 200, [1.0])
    assert found["memory_flat"]
    assert found["nothing_compiled"]
    assert found["no_slow_steps"]


def test_compilations_that_nobody_tells_of_are_not_none() -> None:
    watch = soak.Watch(minutes=1.0)
    watch.steps, watch.memory = [(20.0, 0.1)], [(20.0, 1), (21.0, 1)]
    assert not soak.judged(watch)["nothing_compiled"]


def test_each_fault_is_seen() -> None:
    leak = [10**9 + 10**6 * i for i in range(200)]
    found = judged([0.1] * 190 + [0.4] * 10, leak, [30.0])
    assert not found["memory_flat"]
    assert found["memory_bytes_per_hour"] == pytest.approx(3.6e9)
    assert not found["nothing_compiled"]
    assert not found["no_slow_steps"]


def test_the_slope_is_that_of_a_line() -> None:
    assert soak.slope([(0.0, 1.0), (1.0, 3.0), (3.0, 7.0)]) == pytest.approx(2.0)
