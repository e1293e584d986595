"""The whole experiment, tiny: files, keys, a second run, a prepared zoo."""

import csv
import dataclasses
import io
import json
import shutil
import signal

import numpy as np
import pytest
from flax import nnx
from rich.console import Console

from experiments import tables
from experiments.predict_accuracy import __main__ as command_line
from experiments.predict_accuracy import progress, scoring
from experiments.predict_accuracy import run as experiment
from experiments.predict_accuracy.config import FORMATS, PRESETS
from experiments.predict_accuracy.moved import EXPONENTS
from experiments.predict_accuracy.verbs import Score
from qejax import models, nets, zoo
from qejax.train import Interrupted
from tests.layer_specs import fast_jit

COLUMN = {
    "model",
    "test",
    "test_scaled",
    "params",
    "seeds",
    "invariance_gap",
    "invariance_gap_std",
    "buckets",
}
SCORES = {
    f"{name}{end}" for name in ("kendall_tau", "r2", "mae") for end in ("", "_std")
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    return dataclasses.replace(
        PRESETS["smoke"][1],
        out=root / "out",
        zoos=root / "zoos",
        activations=("relu",),
        baseline_quasi=("gauge",),
        widths=(4,),
    )


def _run(config):
    text = io.StringIO()
    console = Console(file=text, width=120)
    metrics = experiment.run(config, preset="smoke", command="x", console=console)
    return metrics, text.getvalue()


@pytest.fixture(scope="module")
def finished(config):
    return _run(config)


def test_metrics_have_the_promised_layout(finished, config):
    metrics, _ = finished
    assert metrics == json.loads((config.out / "metrics.json").read_text())
    names = {"without_probes", "with_probes", "baselines"}
    assert set(metrics) == names | {"cut_off", "networks", "seconds"}
    assert metrics["cut_off"] == 0
    assert metrics["networks"] == len(config.activations) * config.networks
    for name in ("without_probes", "with_probes"):
        assert set(metrics[name]) == COLUMN
        assert set(metrics[name]["test"]) == SCORES
        for k in EXPONENTS:
            assert {f"1e{k}", f"1e{k}_std"} <= set(metrics[name]["test_scaled"])
    baselines = metrics["baselines"]
    assert {"paper_gauge_alpha", "flat_mlp", "trees_raw", "trees_all"} <= set(baselines)
    assert {"trees_inputs", "trees_inputs_probes"} <= set(baselines)
    for entry in baselines.values():
        assert SCORES <= set(entry)
        assert isinstance(entry["probes"], bool)
    assert baselines["trees_probe"]["probes"]
    assert not baselines["trees_canonical"]["probes"]


def test_what_is_exact_is_unchanged_by_scales_and_what_is_not_changes(finished):
    metrics, _ = finished
    for name in ("without_probes", "with_probes"):
        scaled = metrics[name]["test_scaled"]
        assert scaled["1e4"] == pytest.approx(scaled["1e0"], abs=1e-3)
        assert metrics[name]["invariance_gap"] < 1e-3
    assert metrics["baselines"]["trees_raw"]["invariance_gap"] > 0.1
    assert metrics["baselines"]["flat_mlp"]["invariance_gap"] > 0.1


def test_the_shared_alpha_receives_no_gradient(finished):
    assert finished[0]["baselines"]["paper_gauge_alpha"]["alpha_gradient"] < 1e-4


def test_a_run_leaves_its_files(finished, config):
    names = {path.name for path in config.out.iterdir()}
    plots = {"scatter.png", "learning_curve.png", "robustness.png"}
    assert plots | {"config.json", "log.jsonl", "metrics.json", "ckpt"} <= names
    made = json.loads((config.out / "config.json").read_text())
    assert made["config"]["networks"] == config.networks
    assert {"python", "jax"} <= set(made["versions"])
    log = (config.out / "log.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in log]
    assert [event["event"] for event in events][:2] == ["start", "zoo"]
    with np.load(config.out / "predictions.npz", allow_pickle=False) as file:
        assert file["without_probes/1e4"].shape == (1, len(file["truth"]))


def test_a_finished_run_is_shown_and_not_repeated(finished, config):
    before = (config.out / "log.jsonl").read_text()
    metrics, text = _run(config)
    assert metrics == finished[0]
    assert "finished before" in text
    assert (config.out / "log.jsonl").read_text() == before


def _score(predictor, place, out):
    text = io.StringIO()
    console = Console(file=text, width=200)
    done = scoring.run(Score(predictor=predictor, address=str(place), out=out), console)
    return done, text.getvalue()


@pytest.mark.parametrize("row", ["without_probes", "with_probes"])
def test_a_run_s_predictors_score_networks_as_the_run_did(
    finished, config, tmp_path, row
):
    (place,) = config.zoos.iterdir()
    folder = config.out / "predictors" / row
    (scored,), text = _score(folder, place, tmp_path / "scores.csv")
    with np.load(config.out / "predictions.npz", allow_pickle=False) as file:
        expected, truth = file[f"{row}/1e0"], file["truth"]
    test = scored.split == zoo.SPLITS["test"]
    np.testing.assert_allclose(scored.predicted[:, test], expected, rtol=1e-6)
    assert not np.allclose(scored.predicted[:, ~test][:, :4], expected[:, :4])
    assert scored.truth is not None
    np.testing.assert_array_equal(scored.truth[test], truth)
    tau = finished[0][row]["test"]["kendall_tau"]
    assert f"test ({len(truth)} networks with a label): Kendall tau {tau:.4f}" in text
    assert "40 networks; means of 1 predictors" in text
    with (tmp_path / "scores.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["predicted"]) for line in lines] == scored.predicted[0].tolist()
    assert [line["id"] for line in lines] == scored.ids.tolist()
    # Whoever loads the predictor alone has the same accuracy, to its table.
    predictor = models.load(folder / "relu" / "seed_0")
    networks = zoo.read(place, "relu")
    at = scored.ids.tolist().index(networks.ids[0])
    theta = {
        layer: {name: x[0] for name, x in leaves.items()}
        for layer, leaves in networks.thetas.items()
    }
    alone = float(fast_jit(predictor.predict)(theta))
    assert alone == pytest.approx(float(scored.predicted[0, at]), abs=5e-3)


def test_networks_of_others_are_scored_if_they_fit(finished, config, tmp_path):
    (place,) = config.zoos.iterdir()
    found = zoo.list_prepared(place)
    few = found.listings["relu"].take(np.arange(4))
    tanh = nets.mlp((64, 4, 10), activation="tanh")
    listings = {"relu": few, "tanh": dataclasses.replace(few, network=tanh)}
    folder = tmp_path / "networks"
    zoo.formats.export(found._replace(listings=listings), f"safetensors:{folder}")
    path = folder / "relu" / f"{few.ids[1]}.safetensors"
    tensors, fields = zoo.files.read_safetensors(path)
    tensors = {name: x * np.float32(np.nan) for name, x in tensors.items()}
    zoo.files.write_safetensors(path, tensors, fields)
    row = tmp_path / "row"
    shutil.copytree(config.out / "predictors" / "without_probes", row)
    # What a killed run left of its saving is no predictor.
    draft = row / "relu" / ".seed_0.draft-1"
    draft.mkdir()
    (draft / "model.json").write_text("{}")
    (scored,), text = _score(row, folder, tmp_path / "scores.csv")
    assert [name.split("/")[1] for name in scored.ids] == few.ids[[0, 2, 3]].tolist()
    assert "expected activation ('relu',), got ('tanh',)" in text
    assert f"left out: relu/{few.ids[1]}: weights should be finite" in text
    assert "1 networks and 0 files cannot be used" in text
    (folder / "relu").rename(tmp_path / "relu")
    with pytest.raises(ValueError, match=r"was trained for, got bucket .*activation"):
        _score(row, folder, tmp_path / "scores.csv")


def test_what_is_no_predictor_is_refused(finished, config, tmp_path):
    (place,) = config.zoos.iterdir()
    predictors = config.out / "predictors"
    for folder, message in (
        (predictors, "expected predictors of one row"),
        (tmp_path, r"found no model\.json in it"),
        (type(tmp_path)(), "expected the folder of a predictor and networks"),
    ):
        with pytest.raises(ValueError, match=message):
            _score(folder, place, tmp_path / "scores.csv")
    network = nets.mlp((2, 2, 2))
    other = models.Predictor(network.spec, 0, network=network, rngs=nnx.Rngs(0))
    models.save(other, tmp_path / "other")
    with pytest.raises(ValueError, match="as a run of this experiment writes it"):
        _score(tmp_path / "other", place, tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()


def test_a_finished_run_becomes_a_table(finished, config, tmp_path):
    tables.record(config.out, tmp_path)
    block = "<!-- results: predict_accuracy_smoke -->\n<!-- end of results -->\n"
    assert "| without_probes |" in tables.render(block, tmp_path)


def test_another_run_in_the_same_place_is_refused_and_nothing_is_lost(finished, config):
    before = (config.out / "metrics.json").read_bytes()
    other = dataclasses.replace(config, trees=config.trees + 1)
    with pytest.raises(ValueError, match=r"holds the results of another run.*--trees"):
        _run(other)
    assert (config.out / "metrics.json").read_bytes() == before


@pytest.mark.slow
def test_a_signal_in_training_saves_and_the_same_command_goes_on(
    finished, config, tmp_path, monkeypatch
):
    stopped = dataclasses.replace(
        config, out=tmp_path / "stopped", baseline_quasi=(), trees=2
    )
    advance = progress.Piece.advance
    seen = []

    def stop_in_training(self, share, found=0.0):
        advance(self, share, found)
        training = self._kind is self._bars.plan.kinds["without_probes"]
        if training and 0 < share < 1 and not seen:
            seen.append(share)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(progress.Piece, "advance", stop_in_training)
    with pytest.raises(Interrupted):
        _run(stopped)
    assert seen
    assert not (stopped.out / "metrics.json").exists()
    assert list((stopped.out / "ckpt").glob("without_probes-*"))
    metrics, _ = _run(stopped)
    for name in ("without_probes", "with_probes"):
        assert metrics[name] == finished[0][name]


def test_the_command_line_ends_with_a_line_and_a_status(tmp_path, capsys, monkeypatch):
    for args, text in (
        (["--zoo", str(tmp_path / "none")], "expected a prepared zoo"),
        (["--zoo", f"small_cnn_zoo:{tmp_path}"], "weights.npy is missing"),
        (["score", str(tmp_path), str(tmp_path)], "found no model.json in it"),
    ):
        line = ["x", *args, "--out", str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", line)
        before = signal.getsignal(signal.SIGTERM)
        assert command_line.main() == 2
        assert signal.getsignal(signal.SIGTERM) == before
        assert not (tmp_path / "out").exists()
        assert text in " ".join(capsys.readouterr().out.split())


def test_the_formats_of_the_command_line_are_those_of_the_library():
    assert set(FORMATS) == set(zoo.formats.CLASSIFIERS)
    assert set(FORMATS) <= set(zoo.formats.FORMATS)
