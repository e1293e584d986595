"""The experiment on alignment, tiny: a run, a second one, a table, bad flags."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import tables
from experiments.align import run as experiment
from experiments.align.__main__ import parse
from experiments.align.config import PRESETS, Config
from experiments.align.networks import NETWORKS, REGISTRY
from experiments.align.table import WAYS, higher
from experiments.align.tasks import task_of
from tests.registry import NETS

NAME = "one hidden layer"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    out = tmp_path_factory.mktemp("align") / "out"
    return dataclasses.replace(PRESETS["smoke"][1], out=out, steps=60)


def _run(config):
    text = io.StringIO()
    console = Console(file=text, width=160)
    metrics = experiment.run(config, preset="smoke", command="x", console=console)
    return metrics, text.getvalue()


@pytest.fixture(scope="module")
def finished(config):
    """In float32, as a run is."""
    with jax.enable_x64(False):
        return _run(config)


def test_a_run_measures_every_way(finished, config):
    metrics = finished[0]
    assert metrics == json.loads((config.out / "metrics.json").read_text())
    trained = metrics["rows"][NAME]["trained"]
    assert set(trained) == set(WAYS)
    far = {way: one["apart"]["distance"] for way, one in trained.items()}
    assert far["weights"] < far["permutations"] < far["none"]
    # A second network that is moved along its orbit ends where it would without.
    moved = trained["weights"]["moved"]
    assert moved["distance"] == pytest.approx(far["weights"], rel=0.05)
    assert moved["test_barrier"] == pytest.approx(
        trained["weights"]["apart"]["test_barrier"], abs=0.05
    )
    assert trained["none"]["moved"]["distance"] > far["none"]
    low = [trained[way]["apart"]["train_barrier"] for way in WAYS[1:]]
    assert low[-1] == min(low)
    assert metrics["rows"][NAME]["seconds"]["weights"]["pair"] > 0
    linear = metrics["rows"]["linear, no hidden layer"]
    assert linear["trained"]["weights"]["apart"]["test_barrier"] < 1e-6
    assert "activations" not in linear["trained"]


def test_a_run_leaves_its_files_and_becomes_a_table(finished, config, tmp_path):
    names = {path.name for path in config.out.iterdir()}
    assert {"config.json", "log.jsonl", "metrics.json", "barriers.png"} <= names
    path = tables.record(config.out, tmp_path)
    assert path.name == "align_smoke.json"
    block = f"<!-- results: {path.stem} -->\n<!-- end of results -->\n"
    text = tables.render(block, tmp_path)
    assert f"| {NAME} | scale |" in text
    block = "<!-- results: align_summary_of_smoke -->\n<!-- end of results -->\n"
    text = tables.render(block, tmp_path)
    assert "| scales | 1 |" in text
    assert "| permutations alone | 1 | 0 | 0 | 0 | 0 |" in text
    assert higher(finished[0], "none").keys() == {"apart", "moved"}


def test_a_finished_run_is_shown_and_another_one_is_refused(finished, config):
    metrics, text = _run(config)
    assert metrics == finished[0]
    assert "finished before" in text
    other = dataclasses.replace(config, steps=config.steps + 1)
    with pytest.raises(ValueError, match=r"holds the results of another run.*--steps"):
        _run(other)


@pytest.mark.usefixtures("finished")
def test_rows_that_are_there_are_not_made_again(config, tmp_path, monkeypatch):
    (config.out / "metrics.json").rename(tmp_path / "metrics.json")
    monkeypatch.setattr(experiment, "row_of", None)
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert _run(config)[0]["rows"] == rows


def test_the_registry_is_that_of_the_tests():
    configs = {name: row.net.config for name, row in REGISTRY.items()}
    assert configs == {name: row.net.config for name, row in NETS.items()}


def test_digits_are_scored_by_what_is_wrong():
    config = PRESETS["digits"][1]
    row = NETWORKS["digits cnn"]
    task = task_of(config, row, jax.random.key(0))
    x, y = task.test
    assert x.shape == (797, 8, 8, 1)
    logits = jax.nn.one_hot(y, 10)
    assert task.error(logits, y) == 0
    assert task.error(-logits, y) == pytest.approx(1)
    np.testing.assert_allclose(task.loss(0 * logits, y), np.log(10), rtol=1e-6)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_parses_to_its_config(name):
    assert parse([name]) == (name, PRESETS[name][1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": 0}, "--seeds should be at least 1, got 0"),
        ({"networks": ("mlp",)}, r"--networks should be some of .*got \['mlp'\]"),
        ({"pairs": 5}, r"--pairs should be at least twice --seeds \(3\)"),
        ({"points": 2}, "--points should be at least 3, both ends and one"),
        ({"learning_rate": 0.0}, "--learning-rate should be positive, got 0.0"),
        ({"task": "digits"}, "--task digits: expected networks that read its inputs"),
    ],
)
def test_an_impossible_config_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
