"""The experiment on training, tiny: a run, its table, what is counted, bad flags."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import tables
from experiments.teleport import run as experiment
from experiments.teleport.__main__ import parse
from experiments.teleport.config import PRESETS, ROWS, Config
from experiments.teleport.measure import steps_to
from experiments.teleport.networks import tasks
from experiments.teleport.table import WORDS, best_baseline, with_map

SMOKE = PRESETS["smoke"][1]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    out = tmp_path_factory.mktemp("teleport") / "out"
    return dataclasses.replace(SMOKE, out=out, rows=("none", "balanced", "learned5"))


@pytest.fixture(scope="module")
def metrics(config):
    """In float32, as a run is."""
    with jax.enable_x64(False):
        console = Console(file=io.StringIO(), width=160)
        return experiment.run(config, preset="smoke", command="x", console=console)


def test_a_run_measures_every_row(metrics, config):
    assert metrics == json.loads((config.out / "metrics.json").read_text())
    rows = metrics["optimisers"]["sgd"]["rows"]
    assert list(rows) == list(config.rows)
    assert all(0 <= row["steps"] <= config.steps for row in rows.values())
    # All rows begin with one function, and what chooses sees no other weights.
    first = [row["curve"][0] for row in rows.values()]
    assert first == pytest.approx([first[0]] * 3, rel=1e-4)
    for name in ("balanced", "learned5"):
        assert rows[name]["moved"] == pytest.approx(rows[name]["steps"], abs=0.1)
    assert abs(rows["none"]["moved"] - rows["none"]["steps"]) > 0.1


def test_a_run_becomes_a_table(metrics, config, tmp_path):
    path = tables.record(config.out, tmp_path)
    block = f"<!-- results: {path.stem} -->\n<!-- end of results -->\n"
    assert f"| {WORDS['learned5']} |" in tables.render(block, tmp_path)


def test_steps_are_counted_to_the_first_time_at_the_target():
    curves = np.array([[1.0, 0.1, 1.0, 0.01], [1.0, 0.9, 0.8, 0.7], [0.1, 1, 1, 1]])
    assert steps_to(curves, 0.1, 5).tolist() == pytest.approx([5.0, 15.0, 0.0])


def test_what_a_map_costs_is_counted():
    rows = {
        "none": {"steps": 10.0, "cost": 0.0},
        "ascent": {"steps": 8.0, "cost": 5.0},
        "learned5": {"steps": 1.0, "cost": 0.0},
    }
    assert with_map(rows["ascent"]) == 13.0
    assert best_baseline(rows) == "ascent"
    assert best_baseline(rows, counted=True) == "none"


def test_tasks_differ_by_more_than_names():
    found = tasks(0, 50, 3)
    partitions = {
        frozenset(tuple(np.flatnonzero(t == c)) for c in range(3)) for t in found
    }
    assert len(partitions) == 50
    with pytest.raises(ValueError, match="--networks should be fewer"):
        tasks(0, 2, 10)


def test_every_row_has_words():
    assert set(WORDS) == set(ROWS)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"rows": ("best",)}, "--rows should be some of"),
        ({"rows": ("balanced",)}, "--rows should have 'none'"),
        ({"optimisers": ("lion",)}, "--optimisers should be some of"),
        ({"classes": 11}, "--classes should be in 2..10"),
        ({"every": 7}, "should be multiples of --every"),
        ({"target": 400}, "--target should be at most --steps"),
        ({"map_batch": 171}, "--map-batch should be at most the share"),
        ({"map_steps": 10}, "--evaluate-every should be at most --map-steps"),
        ({"networks": (512, 0, 8)}, "--networks should be at least 1 a split"),
        ({"climbs": (0.1, 0.0)}, "--climbs should be positive"),
    ],
)
def test_bad_flags_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        Config(**flags)


def test_presets_are_parsed():
    assert parse(["smoke", "--seeds", "2"])[1].seeds == 2
