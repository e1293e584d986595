"""The experiment on adapters, tiny: its zoo, a second run, a table, bad flags."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from flax import nnx
from rich.console import Console

from experiments import orbits, tables
from experiments.predict_accuracy.chunks import cast
from experiments.read_adapters import evaluate, readers, zoo
from experiments.read_adapters import run as experiment
from experiments.read_adapters.__main__ import parse
from experiments.read_adapters.config import PRESETS, ROWS, Config
from experiments.read_adapters.tasks import TASKS, sets_of
from qejax import _trees, nets
from qejax import zoo as zoo_room
from tests.layer_specs import fast_jit

EXACT, RAW = "strict", "trees_raw"
SCORES = {"task_accuracy", "cross_entropy", "kendall_tau", "tau_within"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return dataclasses.replace(
        PRESETS["smoke"][1],
        out=root / "out",
        zoos=root / "zoos",
        targets=("query",),
        rows=(EXACT, RAW),
    )


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


@pytest.fixture(scope="module")
def loaded(finished, config):
    """The zoo, found again: nothing is trained."""
    told = []
    found = zoo.load(config, lambda share, before: told.append((share, before)))
    assert told == [(1.0, 1.0)]
    return found


def test_every_row_answers_both_questions(finished, config):
    metrics = finished[0]
    assert metrics == json.loads((config.out / "metrics.json").read_text())
    assert list(metrics["rows"]) == [EXACT, RAW]
    for row in metrics["rows"].values():
        for part in ("test", "test_moved"):
            assert {name for name in row[part] if not name.endswith("_std")} == SCORES
            assert 0 <= row[part]["task_accuracy"] <= 1
            assert np.isfinite(row[part]["cross_entropy"])


def test_a_change_of_basis_is_seen_by_what_reads_raw_weights_alone(finished):
    metrics = finished[0]
    assert metrics["function_gap"] < 1e-10
    exact = metrics["rows"][EXACT]
    assert exact["invariance_gap"] < 1e-8
    assert exact["test_moved"] == pytest.approx(exact["test"], abs=1e-8)
    assert metrics["rows"][RAW]["invariance_gap"] > 0.1


def test_a_run_leaves_its_files_and_becomes_a_table(finished, config, tmp_path):
    names = {path.name for path in config.out.iterdir()}
    assert {"config.json", "log.jsonl", "metrics.json", "adapters.png"} <= names
    made = json.loads((config.out / "config.json").read_text())
    assert made["config"]["adapters"] == config.adapters
    assert {"python", "jax"} <= set(made["versions"])
    path = tables.record(config.out, tmp_path)
    assert path.name == "read_adapters_smoke.json"
    block = f"<!-- results: {path.stem} -->\n<!-- end of results -->\n"
    assert f"| {EXACT} |" in tables.render(block, tmp_path)
    (config.out / "whole").mkdir()
    for name in ("config.json", "metrics.json"):
        text = (config.out / name).read_text()
        (config.out / "whole" / name).write_text(text.replace('"smoke"', '"full"'))
    assert tables.record(config.out / "whole", tmp_path).name == "read_adapters.json"


def test_a_finished_run_is_shown_and_another_one_is_refused(finished, config):
    metrics, text = _run(config)
    assert metrics == finished[0]
    assert "finished before" in text
    other = dataclasses.replace(config, trees=config.trees + 1)
    with pytest.raises(ValueError, match=r"holds the results of another run.*--trees"):
        _run(other)


def test_stored_adapters_run_and_have_the_accuracy_that_is_stored(loaded, config):
    base, adapters = loaded
    assert len(base) == 1
    assert len(adapters) == config.adapters
    assert {len(adapters.rows(split)) for split in ("train", "val", "test")} == {
        36,
        6,
        18,
    }
    sets = sets_of(*(TASKS[name] for name in config.tasks))
    apply = fast_jit(adapters.network.apply)
    for row in (0, 1, len(adapters) - 1):
        task = int(adapters.labels["task"][row])
        assert adapters.hyper["task"][row] == config.tasks[task]
        theta = jax.tree.map(lambda leaf, row=row: leaf[row], adapters.thetas)
        outputs = apply(theta, sets.test_x[task])
        right = np.mean(np.argmax(outputs, -1) == sets.test_y[task])
        assert right == pytest.approx(adapters.labels["test_accuracy"][row], abs=2e-3)


def test_a_damaged_zoo_is_named(loaded, config):
    place = zoo.place(config)
    shard = next(path for path in place.rglob("*array_record*") if path.is_file())
    content = shard.read_bytes()
    try:
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=f"shard .*{shard.name} is damaged"):
            zoo.load(config, lambda share, before: None)
    finally:
        shard.write_bytes(content)


def test_moved_adapters_are_other_weights_of_the_same_networks(loaded):
    _, adapters = loaded
    net, few = adapters.network, cast(adapters.take(np.arange(4)).thetas, np.float64)
    moved = orbits.move(jax.random.key(0), net.spec, few, 100.0)
    images = sets_of(TASKS["parity"]).test_x[:, :8].repeat(4, 0)
    assert evaluate.function_gap(net, few, moved, images) < 1e-10
    # A control: half of the change alone is another function.
    leaves = [_trees.flatten(theta) for theta in (few, moved)]
    half = {path: leaves[path.endswith("lora_a")][path] for path in leaves[0]}
    assert evaluate.function_gap(net, few, _trees.nest(half), images) > 1e-3


def test_products_and_normal_forms_are_the_same_after_a_move_and_weights_are_not():
    mlp = nets.mlp((4, 5, 3))
    spec = nets.adapter(mlp, mlp.init(jax.random.key(0)), 2, "layer_00").spec
    vectors = np.random.default_rng(0).normal(size=(3, spec.num_parameters))
    thetas = cast(zoo_room.from_vectors(spec, vectors), np.float64)
    moved = orbits.move(jax.random.key(1), spec, thetas, 100.0)
    names = ("mlp_products", "mlp_canonical", "mlp_raw")

    def read(theta):
        kinds = readers.kinds(Config(rows=names))
        modules = {
            kind.name: kind.build(spec, 3, Config(), nnx.Rngs(0)) for kind in kinds
        }
        scores = {n: m.scores(m.prepare(theta), None) for n, m in modules.items()}
        assert {x.shape for x in scores.values()} == {(3,)}
        return {name: m.measure(theta)["flat"] for name, m in modules.items()}

    both = fast_jit(jax.vmap(read))(
        jax.tree.map(lambda *x: np.concatenate(x), thetas, moved)
    )
    gaps = {}
    for name, flat in both.items():
        before, after = np.split(np.asarray(flat), 2)
        gaps[name] = np.abs(before - after).max() / before.std()
    assert gaps.pop("mlp_raw") > 0.1
    assert max(gaps.values()) < 1e-9


def test_copies_are_of_training_adapters(loaded, config):
    _, adapters = loaded
    (kind,) = readers.kinds(dataclasses.replace(config, rows=("mlp_raw_copies",)))
    reader, truth = readers.make_reader(kind, adapters, config)
    prepared = reader.training
    own = evaluate.truth_of(adapters, "train")
    np.testing.assert_array_equal(truth.task, np.tile(own.task, readers.COPIES))
    np.testing.assert_array_equal(truth.accuracy, np.tile(own.accuracy, readers.COPIES))
    parts = np.split(prepared["flat"], readers.COPIES)
    assert not np.allclose(parts[0], parts[1])
    assert not np.allclose(parts[1], parts[2])


def test_tau_within_a_task_knows_nothing_of_the_task():
    """Scores that give the task away alone have a tau, and none within."""
    truth = evaluate.Truth(np.repeat([0, 1], 4), np.array([1, 2, 3, 4, 5, 6, 7, 8.0]))
    score = np.array([[1, 0, 0, 1, 3, 2, 2, 3.0]])
    log_probs = np.log(np.full((1, 8, 2), 0.5))
    graded = evaluate.grade(truth, evaluate.Answer(log_probs, score))
    assert graded["kendall_tau"][0] > 0.5
    assert graded["tau_within"] == [0.0]
    assert graded["cross_entropy"] == [pytest.approx(np.log(2))]


def test_tasks_are_what_they_are_called():
    x = np.arange(64.0).reshape(1, 8, 8)
    turned = TASKS["rotated_90"].images(TASKS["rotated_270"].images(x))
    np.testing.assert_array_equal(turned, x)
    assert TASKS["mirrored"].images(x)[0, 0, 0] == x[0, 0, 7]
    assert TASKS["flipped"].images(x)[0, 0, 0] == x[0, 7, 0]
    assert TASKS["at_least_five"].labels(np.arange(10)).tolist() == [0] * 5 + [1] * 5
    for task in TASKS.values():
        y = np.arange(10)
        same = [np.array_equal(task.images(x), x), np.array_equal(task.labels(y), y)]
        assert sorted(same) == [False, True]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_parses_to_its_config(name):
    assert parse([name]) == (name, PRESETS[name][1])


def test_the_command_line_takes_flags_and_names_what_is_wrong(capsys):
    assert parse(["--rows", "strict", "trees_raw"])[1].rows == ("strict", "trees_raw")
    with pytest.raises(SystemExit, match=r"preset should be one of .*'smok'"):
        parse(["smok"])
    with pytest.raises(SystemExit):
        parse(["smoke", "--seeds", "0"])
    assert "--seeds should be at least 1, got 0" in capsys.readouterr().err


def test_a_config_is_frozen_keyword_only_and_small():
    fields = dataclasses.fields(Config)
    assert all(field.kw_only for field in fields)
    assert len(fields) <= 26
    assert set(ROWS) == set(Config().rows)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "--rank should be at least 1, got 0"),
        ({"base_steps": 0}, "--base-steps should be at least 1, got 0"),
        ({"spread": 0.5}, "--spread should be at least 1, got 0.5"),
        ({"tasks": ("upside",)}, r"--tasks should be some of .*got \['upside'\]"),
        ({"rows": ("strict", "strict")}, "--rows should be some of .*each once"),
        ({"zoo_steps": (9, 8)}, r"--zoo-steps should be a range .*got \(9, 8\)"),
        ({"zoo_rates": (0.0, 1.0)}, r"--zoo-rates should be a range .*above 0"),
        ({"adapters": 159}, "--adapters should be at least 20 per task.*got 159"),
        ({"steps": 5, "evaluate_every": 6}, r"at most --steps \(5\), got 6"),
        ({"learning_rate": 0.0}, r"--learning-rate should be positive"),
        ({"dropout": 1.0}, r"--dropout in \[0, 1\), got 0.002 and 1.0"),
    ],
)
def test_an_impossible_config_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
