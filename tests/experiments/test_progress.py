import io
import time

import pytest
from rich.console import Console

from experiments.predict_accuracy.progress import Bars, Kind, Plan


def test_the_time_left_is_an_estimate_until_work_was_measured():
    assert Kind(estimate=2.0, planned=5).left(1.0) == 10.0
    # Half of the work took 12 seconds, so the other half is expected to.
    assert Kind(estimate=2.0, planned=4, done=2, own=2, measured=12.0).left(9.0) == 12.0


def test_work_that_was_found_costs_nothing_and_teaches_nothing():
    bars = Bars(Console(file=io.StringIO()))
    bars.plan.add("found", 4, 2.0)
    bars.plan.add("other", 1, 7.0)
    with bars.work("three of four", "found", 4) as piece:
        piece.advance(0.75, found=0.75)
        assert (bars.plan.left, bars.plan.spent) == (9.0, 0.0)
        time.sleep(0.02)
        piece.advance(1.0, found=0.75)
    assert 0.02 <= bars.plan.spent < 1.0
    assert bars.plan.kinds["found"].own == 1.0


def test_a_plan_grows_with_what_a_zoo_holds():
    plan = Plan()
    plan.add("zoo", 1, 5.0)
    plan.add("rows", 3, 2.0)
    plan.kinds["zoo"].done = 1
    plan.scale(2.0)
    assert plan.left == 12.0


def test_a_slow_machine_is_slow_at_work_to_come():
    plan = Plan()
    plan.add("first", 1, 10.0)
    plan.add("second", 1, 90.0)
    assert (plan.left, plan.fraction) == (100.0, 0.0)
    first = plan.kinds["first"]
    first.done = first.own = 0.5
    first.measured = 10.0  # twice the estimate
    assert plan.left == pytest.approx(10.0 + 2 * 90.0)
    assert plan.fraction == pytest.approx(10.0 / 200.0)


def test_bars_print_a_line_per_piece_to_a_pipe():
    text = io.StringIO()
    bars = Bars(Console(file=text, width=80))
    bars.plan.add("train", 2, 1.0)
    with bars:
        with bars.work("strict relu seed 0", "train") as piece:
            piece.advance(1.0, found=1.0)
        assert bars.plan.spent == 0.0
        with bars.work("strict relu seed 1", "train") as piece:
            piece.advance(0.5)
    assert "strict relu seed 1: 0.0 s (0:00 left)" in text.getvalue()
    assert bars.plan.fraction == 1.0
