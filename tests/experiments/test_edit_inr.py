"""The experiment on edits, tiny: targets, a run, a second one, a table, bad flags."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from flax import nnx
from rich.console import Console

from experiments import tables
from experiments.edit_inr import editors, images, report
from experiments.edit_inr import run as experiment
from experiments.edit_inr.__main__ import parse
from experiments.edit_inr.config import PRESETS, ROWS, Config
from experiments.edit_inr.edits import EDITS
from qejax import models, nets, zoo
from tests.layer_specs import fast_jit

KIND = "signed"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("edits")
    return dataclasses.replace(
        PRESETS["smoke"][1], out=root / "out", zoos=root / "zoos", rows=(KIND,)
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


def test_a_run_measures_every_row(finished, config):
    metrics = finished[0]
    assert metrics == json.loads((config.out / "metrics.json").read_text())
    rows = metrics["edits"]["dilate"]
    assert list(rows) == ["no edit", KIND]
    assert 0 < rows[KIND]["mse"] < 1
    assert rows[KIND]["mse_by_seed"] == [pytest.approx(rows[KIND]["mse"])]
    assert rows[KIND]["function_gap"] < 1e-10
    # All of the test split in float32, where weights are moved by rounding too.
    assert rows[KIND]["mse_moved"] == pytest.approx(rows[KIND]["mse"], rel=1e-3)
    assert metrics["fits"]["short"] > 0
    assert metrics["fits"]["diverged"] == metrics["fits"]["constant"] == 0
    assert rows[KIND]["params"] > rows["no edit"]["params"] == 0


def test_a_run_leaves_its_files_and_becomes_a_table(finished, config, tmp_path):
    names = {path.name for path in config.out.iterdir()}
    assert {"config.json", "log.jsonl", "metrics.json", f"{KIND}.png"} <= names
    path = tables.record(config.out, tmp_path)
    assert path.name == "edit_inr_smoke.json"
    block = f"<!-- results: {path.stem} -->\n<!-- end of results -->\n"
    text = tables.render(block, tmp_path)
    assert f"| dilate | {KIND} |" in text
    mse = finished[0]["edits"]["dilate"]["no edit"]["mse"]
    assert f"| {4 * mse:.4f} | {mse:.4f} |" in text


def test_a_finished_run_is_shown_and_another_one_is_refused(finished, config):
    metrics, text = _run(config)
    assert metrics == finished[0]
    assert "finished before" in text
    other = dataclasses.replace(config, batch=config.batch + 1)
    with pytest.raises(ValueError, match=r"holds the results of another run.*--batch"):
        _run(other)


def test_images_are_what_the_networks_render(finished, config):
    with jax.enable_x64(False):
        subject = images.load(config, lambda share, found: None)
    counts = {name: len(part.classes) for name, part in subject.splits.items()}
    assert counts == {name: finished[0]["fits"][name] for name in counts}
    part = subject.splits["val"]
    theta = jax.tree.map(lambda leaf: leaf[1], part.thetas)
    values = fast_jit(subject.network.apply)(theta, nets.grid(8, 8))
    np.testing.assert_allclose(part.rendered[1], (values + 1) / 2, atol=1e-5)
    assert part.target("dilate", (8, 8)).shape == part.rendered.shape


def test_edits_are_what_they_are_called():
    image = np.zeros((1, 5, 5, 1))
    image[0, 2, 2] = 1.0
    dilated = EDITS["dilate"](image)[0, :, :, 0]
    assert dilated.sum() == 9
    assert dilated[1:4, 1:4].min() == 1
    assert EDITS["erode"](image).sum() == 0
    np.testing.assert_array_equal(EDITS["erode"](EDITS["dilate"](image)), image)
    two = np.concatenate([image, 0.3 + 0.4 * image])
    contrasted = EDITS["contrast"](two)
    assert contrasted.max() <= 1
    mean = two[1].mean()
    np.testing.assert_allclose(contrasted[1], mean + 1.5 * (two[1] - mean))


def test_errors_are_means_over_images_by_seed():
    edited = np.zeros((3, 2, 4, 1), np.float32)
    edited[:, 1] = 0.5
    found = editors.errors(edited, np.zeros((3, 4, 1), np.float32))
    assert found.tolist() == [0.0, 0.25]


def test_a_zoo_that_is_none_is_named(config, tmp_path):
    away = dataclasses.replace(config, zoo=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="a folder made by qejax"):
        images.load(away, lambda share, found: None)
    net = nets.mlp((2, 3, 1))
    theta = jax.tree.map(np.asarray, net.init(jax.random.key(0), "float32"))
    others = zoo.Zoo(
        network=net,
        thetas=jax.tree.map(lambda leaf: leaf[None], theta),
        labels={"psnr": np.zeros(1, np.float32)},
        hyper={},
        split=np.zeros(1, np.int8),
        source="test",
        ids=np.array(["one"]),
    )
    zoo.store(tmp_path / "mlps", {"mlps": others}, config={})
    away = dataclasses.replace(config, zoo=tmp_path / "mlps")
    with pytest.raises(ValueError, match="expected coordinate networks, got"):
        images.load(away, lambda share, found: None)


@pytest.mark.usefixtures("finished")
def test_another_grid_than_that_of_the_fits_is_named(config):
    other = dataclasses.replace(config, zoo=images.place(config), shape=(28, 28))
    with pytest.raises(ValueError, match=r"expected fits on a grid .* --shape 8 8"):
        images.load(other, lambda share, found: None)


@pytest.mark.parametrize(("shape", "channels"), [((6,), 1), ((4, 4), 3)])
def test_sounds_and_colours_are_drawn(shape, channels, tmp_path):
    rng = np.random.default_rng(0)
    signals = rng.uniform(size=(2, int(np.prod(shape)), channels))
    panels = {"original": signals, "dilate: error": signals - 0.5}
    path = report.plot("strict", shape, panels, tmp_path)
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_parses_to_its_config(name):
    assert parse([name]) == (name, PRESETS[name][1])


def test_the_command_line_takes_flags_and_names_what_is_wrong(capsys):
    assert parse(["--rows", "gauge", KIND])[1].rows == ("gauge", KIND)
    with pytest.raises(SystemExit, match=r"preset should be one of .*'smok'"):
        parse(["smok"])
    with pytest.raises(SystemExit):
        parse(["smoke", "--seeds", "0"])
    assert "--seeds should be at least 1, got 0" in capsys.readouterr().err


def test_a_config_is_frozen_keyword_only_and_small():
    fields = dataclasses.fields(Config)
    assert all(field.kw_only for field in fields)
    assert len(fields) <= 26
    assert [Config().width(row) for row in ROWS] == list(Config().channels)


@pytest.mark.parametrize("preset", ["digits", "digits_relu", "mnist"])
def test_editors_have_as_many_parameters(preset):
    config = PRESETS[preset][1]
    hidden = (32, 32) if preset == "mnist" else config.hidden
    network = nets.coordinate(
        (2, *hidden, 1), config.activation, octaves=config.octaves
    )
    counts = [
        models.num_parameters(
            lambda row=row: editors.make_editor(row, network.spec, config, nnx.Rngs(0))
        )
        for row in config.rows
    ]
    assert max(counts) < 1.1 * min(counts), counts


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 0}, "--depth should be at least 1, got 0"),
        ({"spread": 0.5}, "--spread should be at least 1, got 0.5"),
        ({"edits": ("blur",)}, r"--edits should be some of .*got \['blur'\]"),
        ({"rows": (KIND, KIND)}, "--rows should be some of .*each once"),
        ({"channels": (1, 2)}, r"--channels should be one number above 0 .*\[1, 2\]"),
        ({"steps": 5, "evaluate_every": 6}, r"at most --steps \(5\), got 6"),
        ({"learning_rate": 0.0}, r"--learning-rate should be positive"),
    ],
)
def test_an_impossible_config_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_fits_of_either_convention_render_in_the_same_units(config, tmp_path):
    unit = dataclasses.replace(
        config, convention="unit", zoos=tmp_path, hidden=(16, 16), fit_steps=200
    )
    assert images.place(unit) != images.place(dataclasses.replace(unit, seed=9))
    subject = images.load(unit, lambda share, found: None)
    assert (subject.low, subject.high) == (0.0, 1.0)
    assert subject.network.config.to_dict()["offset"] == 0.5
    assert subject.fits["psnr"] > 15
    rendered = subject.splits["train"].rendered
    assert -0.5 < rendered.min() < 0.2 < 0.8 < rendered.max() < 1.5
