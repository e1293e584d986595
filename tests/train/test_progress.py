"""The time left counts steps and evaluations that are still to come."""

import time

from qejax.train._progress import Clock


def test_nothing_is_known_before_the_first_step() -> None:
    clock = Clock()
    clock.add_evaluation(3.0)
    assert clock.step_seconds() is None
    assert clock.seconds_left(0, 100, 10) is None
    assert clock.dispatch_steps(1.0) == 1


def test_steps_and_evaluations_to_come() -> None:
    clock = Clock()
    clock.add_evaluation(50.0)  # compiles
    clock.add_steps(10, 1.0)
    clock.add_evaluation(2.0)
    assert clock.step_seconds() == 0.1
    assert clock.dispatch_steps(1.0) == 10
    assert clock.dispatch_steps(0.01) == 1
    # 90 steps, and evaluations at 20, 30, ..., 100.
    assert clock.seconds_left(10, 100, 10) == 90 * 0.1 + 9 * 2.0
    # 40 steps, and evaluations at 100 and at the end.
    assert clock.seconds_left(65, 105, 100) == 40 * 0.1 + 2 * 2.0
    assert clock.seconds_left(100, 100, 10) == 0.0


def test_the_first_evaluation_counts_until_there_is_a_second() -> None:
    clock = Clock()
    clock.add_steps(10, 1.0)
    assert clock.seconds_left(10, 20, 10) == 1.0
    clock.add_evaluation(5.0)
    assert clock.seconds_left(10, 20, 10) == 6.0


def test_seconds_go_on_from_an_earlier_process() -> None:
    clock = Clock(100.0)
    time.sleep(0.001)
    assert 100.0 < clock.seconds() < 200.0
