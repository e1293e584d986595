import io

import pytest
from rich.console import Console

from experiments.predict_accuracy.progress import Bars, Kind, Plan


def test_the_time_left_is_an_estimate_until_work_was_measured():
    assert Kind(estimate=2.0, planned=5).left == 10.0
    # Half of the work took 12 seconds, so the other half is expected to.
    assert Kind(estimate=2.0, planned=4, done=2, own=2, measured=12.0).left == 12.0


def test_work_that_was_found_costs_nothing_and_teaches_nothing():
    kind = Kind(estimate=2.0, planned=4, done=3)
    assert (kind.left, kind.total) == (2.0, 2.0)


def test_a_plan_counts_seconds_and_not_pieces():
    plan = Plan()
    plan.add("long", 1, 90.0)
    plan.add("short", 10, 1.0)
    plan.kinds["short"].done = 10
    assert (plan.left, plan.fraction) == (90.0, 0.0)
    plan.kinds["long"].done = plan.kinds["long"].own = 0.5
    plan.kinds["long"].measured = 45.0
    assert plan.left == pytest.approx(45.0)
    assert plan.fraction == pytest.approx(0.5)


def test_bars_print_a_line_per_piece_to_a_pipe():
    text = io.StringIO()
    bars = Bars(Console(file=text, width=80))
    bars.plan.add("train", 2, 1.0)
    with bars:
        bars.found("train")
        with bars.work("strict relu seed 1", "train") as piece:
            piece.advance(0.5)
    assert "strict relu seed 1: 0.0 s (0:00 left)" in text.getvalue()
    assert bars.plan.fraction == 1.0
