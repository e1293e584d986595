"""A zoo of transformers, tiny: made, stopped, gone on with, read and shown."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.make_zoo import data
from experiments.make_zoo.__main__ import parse
from experiments.make_zoo.config import PRESETS, Config
from experiments.make_zoo.encoders import ENCODERS, encoder
from experiments.make_zoo.run import run
from qejax import _trees, nets, spaces, zoo
from qejax.zoo import _hyper, _normal, _store, _train_many

SMOKE = PRESETS["smoke"][1]


class Stop(Exception):
    """Stands for Ctrl-C."""


def _run(config: Config) -> tuple[dict[str, Any], str]:
    text = io.StringIO()
    console = Console(file=text, width=80)
    return run(config, preset="smoke", command="x", console=console), text.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, Any]]:
    config = dataclasses.replace(SMOKE, out=tmp_path_factory.mktemp("zoo") / "out")
    with pytest.MonkeyPatch.context() as patch:
        # They take longer to compile than all else, and have tests of their own.
        patch.setattr(_store, "normal_forms", _no_normal_forms)
        return config, _made(config)


def _no_normal_forms(spec: spaces.WeightSpec, thetas: Any) -> zoo.NormalForm:
    count = len(jax.tree.leaves(thetas)[0])
    shapes = _normal.columns(spec).values()
    return zoo.NormalForm(*(np.zeros((count, n), t) for n, t in shapes))


def _made(config: Config) -> dict[str, Any]:
    def stop(report: zoo.Progress) -> None:
        raise Stop

    # Killed behind its first chunk of two.
    with pytest.raises(Stop):
        zoo.generate(config.recipe(), data.load(config), config.out / "zoo", stop)
    return _run(config)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_is_trained_and_stored(tmp_path: Path, name: str) -> None:
    config = dataclasses.replace(SMOKE, out=tmp_path, encoders=(name,), networks=10)
    _run(config)
    got = zoo.read(tmp_path / "zoo")
    expected = zoo.normal_forms(got.network.spec, got.thetas)
    assert got.normal is not None
    np.testing.assert_allclose(got.normal.statistics, expected.statistics)
    assert np.isfinite(expected.statistics).all()


def test_a_stopped_zoo_goes_on(made: tuple[Config, dict[str, Any]]) -> None:
    config, metrics = made
    log = [json.loads(x) for x in (config.out / "log.jsonl").read_text().splitlines()]
    assert [x["resumed"] for x in log if x["event"] == "chunk"] == [True, False]
    assert metrics == json.loads((config.out / "metrics.json").read_text())
    (bucket,) = metrics["buckets"].values()
    assert bucket["networks"] == config.networks
    assert list(bucket["at_least"]) == ["0", "0.2", "0.4", "0.6", "0.8"]
    assert bucket["at_least"]["0"] == config.networks
    written = {path.name for path in config.out.iterdir()}
    assert written == {
        "zoo",
        "config.json",
        "log.jsonl",
        "metrics.json",
        "accuracies.png",
    }


def test_accuracies_are_those_of_the_weights(
    made: tuple[Config, dict[str, Any]],
) -> None:
    config, _ = made
    got, images = zoo.read(config.out / "zoo"), data.load(config)
    assert got.network.config == encoder("plain", (8, 8, 1), 4, 4, 1, 2)
    logits = jax.jit(jax.vmap(got.network.apply, (0, None)))(got.thetas, images.test_x)
    right = (np.asarray(logits).argmax(-1) == images.test_y).mean(1)
    np.testing.assert_allclose(got.labels["test_accuracy"], right, atol=1e-6)
    assert len(np.unique(got.vectors(), axis=0)) == len(got)


def test_a_finished_zoo_is_shown_and_another_refused(
    made: tuple[Config, dict[str, Any]],
) -> None:
    config, metrics = made
    again, text = _run(config)
    assert again == metrics
    assert "plain" in text
    with pytest.raises(ValueError, match=r"holds another zoo: zoo.seed should be 1"):
        _run(dataclasses.replace(config, seed=1))


def test_initial_weights_have_the_deviation_that_was_drawn() -> None:
    """Kernels and tables by their hyper-parameter; what norms hold does nothing."""
    net = nets.build(encoder("pre", (28, 28, 1), 7, 16, 1, 2))
    hyper = {
        "optimizer": np.array(["sgd"] * 3),
        "init": np.array(["normal", "normal", "glorot_uniform"]),
        "step": np.zeros(3),
        "init_scale": np.array([0.1, 0.5, 1.0]),
    }
    hyper |= dict.fromkeys(("learning_rate", "weight_decay", "dropout"), np.zeros(3))
    chunk = _train_many.Chunk(
        np.arange(3), np.int32(0), None, None, _hyper.coefficients(hyper)
    )
    thetas = zoo.from_vectors(
        net.spec,
        zoo.to_vectors(net.spec, _train_many._initial(net, jax.random.key(0), chunk)),
    )
    leaves = _trees.flatten(thetas)
    for leaf in net.spec.leaves:
        weights = np.asarray(leaves[leaf.path])
        if leaf.path.endswith("/bias"):
            assert not weights.any()
        elif leaf.path.endswith("/scale"):
            assert (weights == 1).all()
        else:
            deviation = weights.reshape(3, -1).std(1)
            np.testing.assert_allclose(deviation[:2], [0.1, 0.5], rtol=0.5)
    attention = thetas["block_00"]["attention"]
    for side, fans in (("query", 16 + 16), ("out", 16 + 16)):
        limit = np.sqrt(6 / fans)
        kernel = attention[side]["kernel"][2]
        assert 0.8 * limit < np.abs(kernel).max() < limit


PREPARED = Path(__file__).parents[3] / "shared" / "data" / "tfds"


def test_images_that_are_not_prepared_are_named(tmp_path: Path) -> None:
    message = "expected a folder mnist that TFDS has prepared"
    with pytest.raises(FileNotFoundError, match=message):
        data.load(Config(images="mnist", tfds=tmp_path))


@pytest.mark.parametrize(
    ("images", "shape"), [("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))]
)
@pytest.mark.one_in(2)
def test_encoders_are_trained_on_images_of_tfds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: Literal["mnist", "cifar10"],
    shape: tuple[int, int, int],
) -> None:
    """Their labels are the accuracies of what is read back, on the same images."""
    if not (PREPARED / images).is_dir():
        pytest.skip(f"the shared {images} images are not beside the checkout")
    monkeypatch.setenv("TFDS_DATA_DIR", str(PREPARED))
    monkeypatch.setattr(_store, "normal_forms", _no_normal_forms)
    config = dataclasses.replace(
        SMOKE,
        images=images,
        out=tmp_path,
        networks=6,
        chunk=6,
        steps=(3, 8),
        patch=shape[0] // 4,
        train_images=200,
        test_images=100,
    )
    _run(config)
    got, read = zoo.read(tmp_path / "zoo"), data.load(config)
    assert read.train_x.shape == (200, *shape)
    assert (read.train_x.min(), read.train_x.max()) == (-1, 1)
    assert len(got) == 6
    logits = jax.jit(jax.vmap(got.network.apply, (0, None)))(got.thetas, read.test_x)
    assert logits.shape == (6, 100, 10)
    right = (np.asarray(logits).argmax(-1) == read.test_y).mean(1)
    assert np.isfinite(got.labels["test_accuracy"]).all()
    np.testing.assert_allclose(got.labels["test_accuracy"], right, atol=1e-6)
    # Biases are zero at first, so these have been trained.
    assert got.hyper["step"].min() >= 3
    assert (np.abs(got.thetas["head"]["bias"]).max(1) > 0).all()


# Of `vision_task/sweep_scripts` in github.com/Fsoft-AIC/Transformer-NFN.
PUBLISHED: dict[str, dict[str, Any]] = {
    "transformers_published": {
        "optimizers": {"adam", "sgd", "momentum", "rmsprop"},
        "learning_rate": [3e-5, 5e-5, 1e-4, 3e-4, 5e-4, 1e-3, 3e-3, 5e-3],
        "init_std": [0.001, 0.01, 0.1, 0.2, 0.5],
        "train_fraction": [0.6, 0.7, 0.8, 0.9],
    },
    "transformers_published_adam": {
        "optimizers": {"adam", "rmsprop"},
        "learning_rate": [3e-4, 5e-4, 1e-3, 3e-3, 5e-3, 1e-2, 3e-2, 5e-2],
        "init_std": [0.1, 0.2, 0.3, 0.4, 0.5],
        "train_fraction": [1, 0.9, 0.8, 0.7],
    },
    "transformers_published_sgd": {
        "optimizers": {"sgd", "momentum"},
        "learning_rate": [1e-3, 3e-3, 5e-3, 7e-3, 1e-2, 3e-2, 5e-2, 7e-2],
        "init_std": [0.1, 0.15, 0.2, 0.25, 0.3],
        "train_fraction": [1, 0.9, 0.8, 0.7],
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_presets_have_the_published_ranges(name: str) -> None:
    config, grid = PRESETS[name][1], dict(PUBLISHED[name])
    grid |= {
        "weight_decay": [1e-8, 1e-7, 1e-6, 1e-4, 1e-2],
        "dropout": [0, 0.05, 0.1, 0.15, 0.2],
    }
    assert set(config.optimizers) == grid.pop("optimizers")
    for field, points in grid.items():
        assert getattr(config, field) == (min(points), max(points)), field
    assert (config.images, config.train_images, config.test_images) == ("mnist", 0, 0)
    assert (config.batch, config.patch, config.dim) == (128, 4, 32)
    assert (config.depth, config.heads, config.encoders) == (2, 2, ("plain",))
    # 100 epochs, 10 of them of warm-up.
    epoch = 60_000 / 128
    assert config.steps == (int(epoch), int(100 * epoch))
    assert config.schedule == (int(10 * epoch), int(100 * epoch))
    # What is drawn, whatever the optimiser.
    rate = _hyper.draw_hyper(config.recipe(), 0)["learning_rate"]
    low, high = config.learning_rate
    assert low <= rate.min() < 1.2 * low
    assert high / 1.2 < rate.max() <= high


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_parses_to_its_config(name: str) -> None:
    assert parse([name]) == (name, PRESETS[name][1])
    assert PRESETS[name][1].recipe().buckets


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoders": ("plain", "swin")}, r"--encoders: .* got \['swin'\]"),
        ({"encoders": ()}, "--encoders: expected some of .* got none"),
        ({"train_images": -1}, "--train-images should be at least 0, got -1"),
        ({"heads": 3}, "transformer heads: expected a divisor of dim=16"),
        ({"learning_rate": (0.1, 0.01)}, "zoo config learning_rate: expected a range"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_unknown_presets_and_flags_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match=r"or a preset of .*'digit'"):
        parse(["digit"])
    with pytest.raises(SystemExit):
        parse(["smoke", "--encoders", "swin"])
    assert "--encoders: expected some of" in capsys.readouterr().err
