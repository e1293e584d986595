"""The experiment on mixed architectures, tiny: a run, a second one, bad flags."""

import dataclasses
import io
import json
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import tables
from experiments.predict_accuracy.objective import pairwise_loss
from experiments.predict_mixed import evaluate, readers, trees
from experiments.predict_mixed import run as experiment
from experiments.predict_mixed.__main__ import parse
from experiments.predict_mixed.config import ARCHITECTURES, PRESETS, ROWS, Config
from qejax import nets, zoo

SCORES = {"kendall_tau", "tau_within"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    out = tmp_path_factory.mktemp("mixed") / "out"
    return dataclasses.replace(PRESETS["smoke"][1], out=out)


def _run(config):
    text = io.StringIO()
    console = Console(file=text, width=120)
    metrics = experiment.run(config, preset="smoke", command="x", console=console)
    return metrics, text.getvalue()


def _jit(function, jit=jax.jit, **given):
    options = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    return jit(function, **given | {"compiler_options": options})


@pytest.fixture(scope="module")
def finished(config):
    """In float32 as a run is, and compiled in half of the time."""
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(False):
        patch.setattr(jax, "jit", _jit)
        return _run(config)


def test_every_row_is_tested_on_both_kinds_of_architectures(finished, config):
    metrics = finished[0]
    assert metrics == json.loads((config.out / "metrics.json").read_text())
    assert list(metrics["rows"]) == list(ROWS)
    for row in metrics["rows"].values():
        for part in experiment.COLUMNS:
            names = {name for name in row[part] if not name.endswith("_std")}
            assert names == SCORES
            assert all(-1 <= row[part][name] <= 1 for name in SCORES)
    assert metrics["rows"]["mixed"]["params"] > 0
    # An architecture says nothing within itself.
    assert metrics["rows"]["trees_architecture"]["test"]["tau_within"] == 0


def test_unseen_architectures_are_in_no_bucket_that_is_trained_on(finished, config):
    del finished
    every, some = (zoo.read_mixed(config.out / x) for x in ("mixed", "mixed_seen"))
    left = [config.architectures.index(name) for name in config.unseen]
    assert every.networks == tuple(
        nets.build(ARCHITECTURES[name]) for name in config.architectures
    )
    assert set(some.which) == set(every.which) - set(left)
    assert set(some.ids.tolist()) < set(every.ids.tolist())
    split = dict(zip(every.ids.tolist(), every.split.tolist(), strict=True))
    assert [split[x] for x in some.ids.tolist()] == some.split.tolist()


def test_accuracies_of_the_test_split_are_not_in_the_record(finished, config):
    mixed, about = zoo.read_mixed(config.out / "mixed"), finished[0]["zoo"]
    assert about["networks"] == len(mixed)
    accuracy = mixed.labels["test_accuracy"].astype(np.float64)
    for number, name in enumerate(config.architectures):
        mine = (mixed.which == number) & (mixed.split != zoo.SPLITS["test"])
        assert about["architectures"][name][2] == np.median(accuracy[mine])


def test_a_run_becomes_a_table(finished, config, tmp_path):
    path = tables.record(config.out, tmp_path)
    assert path.name == "predict_mixed_smoke.json"
    block = f"<!-- results: {path.stem} -->\n<!-- end of results -->\n"
    text = tables.render(block, tmp_path)
    assert all(f"| {name} |" in text for name in ROWS)


def test_a_finished_run_is_shown_and_another_one_is_refused(finished, config):
    metrics, text = _run(config)
    assert metrics == finished[0]
    assert "finished before" in text
    other = dataclasses.replace(config, trees=config.trees + 1)
    with pytest.raises(ValueError, match=r"holds the results of another run.*--trees"):
        _run(other)


def test_tau_within_knows_nothing_of_the_architecture():
    """Scores that give the architecture away alone have a tau, and none within."""
    accuracy = np.array([1, 2, 3, 4, 5, 6, 7, 8.0]) / 10
    networks: Any = SimpleNamespace(
        labels={"test_accuracy": accuracy}, which=np.repeat([0, 1], 4)
    )
    graded = evaluate.grade(networks, np.array([1, 0, 0, 1, 3, 2, 2, 3.0]))
    assert graded["kendall_tau"] > 0.5
    assert graded["tau_within"] == 0
    both = evaluate.graded(networks, np.stack([accuracy, np.ones(8)]))
    assert both["kendall_tau"] == 0.5
    assert both["tau_within_std"] > 0.5


def test_networks_that_fill_up_a_batch_do_not_count():
    scores, accuracy = jnp.array([0.1, 0.4, 9.0]), jnp.array([0.3, 0.2, 0.9])
    there = jnp.array([True, True, False])
    want = pairwise_loss(scores[:2], accuracy[:2], 100)
    got = pairwise_loss(scores, accuracy, 100, there)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert abs(pairwise_loss(scores, accuracy, 100) - want) > 0.1


def test_scaled_accuracies_rise_and_are_finite():
    among = np.linspace(0.1, 0.9, 9)
    found = readers.scaled(np.array([0.0, 0.1, 0.5, 1.0]), among)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    assert abs(readers.scaled(among, among).std() - 1) < 1e-12


def test_architectures_are_told_apart():
    rows = [tuple(trees.describe(config)) for config in ARCHITECTURES.values()]
    assert len(set(rows)) == len(ARCHITECTURES)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_parses_to_its_config(name):
    assert parse([name]) == (name, PRESETS[name][1])


def test_the_command_line_takes_flags_and_names_what_is_wrong(capsys):
    assert parse(["--rows", "mixed", "trees_both"])[1].rows == ("mixed", "trees_both")
    with pytest.raises(SystemExit, match=r"preset should be one of .*'smok'"):
        parse(["smok"])
    with pytest.raises(SystemExit):
        parse(["smoke", "--seeds", "0"])
    assert "--seeds should be at least 1, got 0" in capsys.readouterr().err


def test_a_config_is_frozen_keyword_only_and_small():
    fields = dataclasses.fields(Config)
    assert all(field.kw_only for field in fields)
    assert len(fields) <= 25


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": 0}, "--sizes should be at least 1, got 0"),
        ({"architectures": ("mlp",)}, r"--architectures should be some of .*\['mlp'\]"),
        ({"unseen": ("mlp",)}, r"--unseen should be some of .*got \['mlp'\]"),
        ({"rows": ("mixed", "mixed")}, "--rows should be some of .*each once"),
        ({"unseen": tuple(ARCHITECTURES)}, "--unseen should leave .*got all 12"),
        ({"networks": 19}, "--networks should be at least 20.*got 19"),
        ({"zoo_steps": (9, 8)}, r"--zoo-steps should be a range .*got \(9, 8\)"),
        ({"zoo_rates": (0.0, 1.0)}, r"--zoo-rates should be a range .*above 0"),
        ({"steps": 5, "evaluate_every": 6}, r"at most --steps \(5\), got 6"),
        ({"learning_rate": 0.0}, r"--learning-rate should be positive"),
        ({"dropout": 1.0}, r"--dropout in \[0, 1\), got 0.003 and 1.0"),
    ],
)
def test_an_impossible_config_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
