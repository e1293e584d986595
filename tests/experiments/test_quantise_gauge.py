"""The experiment on rounding, tiny: a run, a second one, a table, bad flags."""

import dataclasses
import io
import json

import jax
import pytest
from rich.console import Console

from experiments import tables
from experiments.quantise_gauge import run as experiment
from experiments.quantise_gauge.__main__ import parse
from experiments.quantise_gauge.config import MAPS, PRESETS, ROWS, RULES, Config
from experiments.quantise_gauge.table import WORDS, best_rule, recovered
from qejax.gauges import RULES as KNOWN

ROW = "learned32"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("rounding")
    return dataclasses.replace(
        PRESETS["smoke"][1],
        out=root / "out",
        zoos=root / "zoos",
        rows=("none", "equalised", ROW),
    )


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


def test_a_run_measures_every_row(finished, config):
    metrics = finished[0]
    assert metrics == json.loads((config.out / "metrics.json").read_text())
    assert list(metrics["rows"]) == ["none", "equalised", ROW]
    rows = metrics["rows"]
    accuracy = {name: row["accuracy"]["4/tensor"] for name, row in rows.items()}
    assert all(0.1 < x <= metrics["float"] + 0.1 for x in accuracy.values())
    # What chooses is as good wherever on the orbit it starts; nothing else is.
    for name in ("equalised", ROW):
        assert rows[name]["moved"] == pytest.approx(accuracy[name], abs=0.03)
    assert rows["none"]["moved"] < accuracy["none"] - 0.1
    assert rows[ROW]["params"] > 0


def test_a_run_leaves_its_files_and_becomes_a_table(finished, config, tmp_path):
    names = {path.name for path in config.out.iterdir()}
    assert {"config.json", "log.jsonl", "metrics.json", "accuracy.png"} <= names
    path = tables.record(config.out, tmp_path)
    assert path.name == "quantise_gauge_smoke.json"
    block = f"<!-- results: {path.stem} -->\n<!-- end of results -->\n"
    text = tables.render(block, tmp_path)
    share = recovered(finished[0], ROW, "4/tensor")
    assert f"| {WORDS[ROW]} |" in text
    assert f"{share:+.0%} |" in text


def test_a_finished_run_is_shown(finished, config):
    with jax.enable_x64(False):
        again, text = _run(config)
    assert again == finished[0]
    assert "finished before" in text
    assert WORDS[ROW] in text


def test_what_is_recovered_is_of_the_best_rule():
    rows = {
        "none": {"accuracy": {"4/tensor": 0.6}},
        "equalised": {"accuracy": {"4/tensor": 0.7}},
        "learned": {"accuracy": {"4/tensor": 0.8}},
    }
    metrics = {"float": 0.9, "rows": rows}
    assert best_rule(metrics, "4/tensor") == ("equalised", 0.7)
    assert recovered(metrics, "learned", "4/tensor") == pytest.approx(0.5)


def test_rows_are_rules_that_are_known_or_maps():
    assert set(WORDS) == set(ROWS) == set(RULES) | set(MAPS)
    assert {name for rules in RULES.values() for name in rules} <= set(KNOWN)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"bits": (1, 4)}, "--bits should be numbers of bits in 2..16"),
        ({"trained_bits": ()}, "--trained-bits should be numbers of bits in 2..16"),
        ({"rows": ("best",)}, "--rows should be some of"),
        ({"batch": 0}, "--batch should be"),
        ({"learning_rate": 0.0}, "--learning-rate should be positive"),
        ({"descent": 0}, "--descent should be at least 1"),
    ],
)
def test_bad_flags_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        Config(**flags)


def test_presets_are_parsed():
    assert parse(["cnn", "--seeds", "2"])[1].seeds == 2
