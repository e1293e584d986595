"""A zoo of coordinate networks, tiny: made, stopped, gone on with, read and shown."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from experiments.make_zoo import inr, signals
from experiments.make_zoo.__main__ import parse
from experiments.make_zoo.config import PRESETS
from experiments.make_zoo.inr_config import INR_PRESETS, InrConfig
from experiments.make_zoo.inr_report import plot, rendered
from experiments.make_zoo.sounds import CLASSES, sounds
from qejax import zoo

SMOKE = INR_PRESETS["inr_smoke"][1]
PREPARED = Path(__file__).parents[3] / "shared" / "data" / "tfds"


class Stop(Exception):
    """Stands for Ctrl-C."""


def _run(config: InrConfig) -> tuple[dict[str, Any], str]:
    text = io.StringIO()
    console = Console(file=text, width=80)
    metrics = inr.run(config, preset="inr_smoke", command="x", console=console)
    return metrics, text.getvalue()


def _changed(**fields: Any) -> InrConfig:
    return dataclasses.replace(SMOKE, **fields)


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[InrConfig, dict[str, Any], str]:
    config = _changed(out=tmp_path_factory.mktemp("zoo") / "out")

    def stop(report: zoo.FitProgress) -> None:
        raise Stop

    # Killed behind its first chunk of two.
    with pytest.raises(Stop):
        zoo.fit(config.recipe(), signals.load(config), config.out / "zoo", stop)
    return config, *_run(config)


def test_a_stopped_zoo_goes_on(made: tuple[InrConfig, dict[str, Any], str]) -> None:
    config, metrics, text = made
    log = [json.loads(x) for x in (config.out / "log.jsonl").read_text().splitlines()]
    assert [x["resumed"] for x in log if x["event"] == "chunk"] == [True, False]
    assert metrics == json.loads((config.out / "metrics.json").read_text())
    fits = {name: entry["fits"] for name, entry in metrics["splits"].items()}
    assert fits == {"train": 12, "val": 4, "test": 8}
    assert metrics["fits"] == 24
    assert 0 < metrics["short"] < 24
    assert metrics["short"] == sum(x["short"] for x in metrics["splits"].values())
    notes = zoo.notes(config.out / "zoo")
    assert len(metrics["short_ids"]) == metrics["short"]
    for case in ("short", "diverged", "constant"):
        assert metrics[f"{case}_ids"] == notes[f"{case}_ids"]
    assert metrics["fits_per_second"] > 0
    assert f"24 fits: {metrics['short']} short of 21 dB, 0 diverged" in text
    assert "fits/s; the zoo is" in text
    about = json.loads((config.out / "config.json").read_text())
    assert (about["preset"], about["config"]["hidden"]) == ("inr_smoke", [8, 8])
    written = {path.name for path in config.out.iterdir()}
    files = {"config.json", "log.jsonl", "metrics.json", "fits.png"}
    assert written == {"zoo", *files}


def test_fits_draw_the_signals_of_their_split(
    made: tuple[InrConfig, dict[str, Any], str],
) -> None:
    config, _, _ = made
    fits, given = zoo.read(config.out / "zoo"), signals.load(config)
    of = fits.hyper["signal"]
    error = rendered(config.recipe(), fits, np.arange(24)) - given.values[of]
    psnr = -10 * np.log10((error**2).mean((1, 2, 3)))
    np.testing.assert_allclose(fits.labels["psnr"], psnr, rtol=1e-4)
    np.testing.assert_array_equal(fits.labels["class"], given.labels[of])
    np.testing.assert_array_equal(fits.split, given.split[of])
    wrong = rendered(config.recipe(), fits, np.roll(np.arange(24), 1))
    assert psnr.min() > -10 * np.log10(((wrong - given.values[of]) ** 2).mean())


def test_a_finished_zoo_is_shown_and_another_refused(
    made: tuple[InrConfig, dict[str, Any], str],
) -> None:
    config, metrics, _ = made
    again, text = _run(config)
    assert again == metrics
    assert "24 fits" in text
    with pytest.raises(ValueError, match=r"holds another zoo: fit.seed should be 1"):
        _run(dataclasses.replace(config, seed=1))


def test_a_zoo_that_was_fitted_elsewhere_has_no_rate(
    made: tuple[InrConfig, dict[str, Any], str],
) -> None:
    config, metrics, _ = made
    (config.out / "metrics.json").unlink()
    again, text = _run(config)
    assert again["fits_per_second"] is None
    assert "all found there" in text
    assert again["splits"] == metrics["splits"]


@pytest.mark.parametrize("name", ["sounds", "copies"])
@pytest.mark.one_in(2)
def test_other_zoos_are_fitted_and_drawn(tmp_path: Path, name: str) -> None:
    more: dict[str, dict[str, Any]] = {
        "sounds": {"signals": "sounds", "points": 20, "sample": 10},
        "copies": {"copies": 2, "convention": "unit", "activation": ("tanh", "tanh")},
    }
    config = _changed(
        train_signals=2,
        val_signals=0,
        test_signals=1,
        chunk=4,
        max_steps=5,
        **more[name],
    )
    recipe, given = config.recipe(), signals.load(config)
    fits = zoo.read(zoo.fit(recipe, given, tmp_path / "zoo"))
    assert fits.split.tolist() == np.repeat([0, 0, 2], config.copies).tolist()
    plot(recipe, fits, given, tmp_path / "fits.png")
    assert (tmp_path / "fits.png").stat().st_size > 1000


def test_digits_are_all_there_once() -> None:
    given = signals.load(INR_PRESETS["inr_digits"][1])
    assert given.values.shape == (1797, 8, 8, 1)
    assert (given.values.min(), given.values.max()) == (0, 1)
    assert np.bincount(given.split).tolist() == [1297, 200, 300]
    # Whole numbers of sixteenths, as the data set has them.
    assert not np.any(given.values * 16 % 1)
    few = signals.load(_changed(train_signals=1, val_signals=0, test_signals=2))
    np.testing.assert_array_equal(few.values, given.values[:3])
    assert few.split.tolist() == [0, 2, 2]


def test_sounds_are_told_apart_by_their_shape() -> None:
    values, labels = sounds(200, 256, seed=0)
    assert values.shape == (200, 256, 1)
    assert values.dtype == np.float32
    assert 0 <= values.min() < 0.05 < 0.95 < values.max() <= 1
    assert np.bincount(labels).tolist() == [20] * len(CLASSES)
    wave = values[:, :, 0] - 0.5
    # A pluck is loud at its start, a swell is silent there.
    early = np.abs(wave[:, :64]).mean(1) / np.abs(wave).mean(1)
    plucked = np.array([CLASSES[label].endswith("pluck") for label in labels])
    assert early[plucked].min() > early[~plucked].max()
    # The pitch of a chirp moves: more changes of sign in one half than in the other.
    turns = np.diff(np.signbit(wave), axis=1)
    late = turns[:, 128:].sum(1) - turns[:, :127].sum(1).astype(int)
    names = np.array([CLASSES[label].split()[0] for label in labels])
    assert late[names == "rising"].min() > 0
    assert late[names == "falling"].max() < 0
    assert np.abs(late[names == "pure"]).max() <= 1
    np.testing.assert_array_equal(sounds(200, 256, seed=0)[0], values)
    assert np.any(sounds(200, 256, seed=1)[0] != values)


def test_grey_is_the_brightness_of_colours() -> None:
    images = np.zeros((4, 1, 1, 3), np.uint8)
    images[[0, 1, 2], 0, 0, [0, 1, 2]] = 255
    images[3] = 51
    grey = signals.brightness(images, rgb=False)
    np.testing.assert_allclose(grey[:, 0, 0, 0], [0.299, 0.587, 0.114, 0.2])
    colours = signals.brightness(images, rgb=True)
    np.testing.assert_array_equal(colours, (images / 255).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "rgb", "channels"),
    [("mnist", False, 1), ("cifar10", False, 1), ("cifar10", True, 3)],
)
def test_signals_are_the_first_images_of_tfds(
    monkeypatch: pytest.MonkeyPatch, name: Any, rgb: bool, channels: int
) -> None:
    if not (PREPARED / name).is_dir():
        pytest.skip(f"the shared {name} images are not beside the checkout")
    import tensorflow_datasets as tfds

    monkeypatch.setenv("TFDS_DATA_DIR", str(PREPARED))
    config = InrConfig(
        signals=name, rgb=rgb, train_signals=5, val_signals=3, test_signals=4
    )
    given = signals.load(config)
    assert given.values.shape == (12, *config.recipe().shape, channels)
    assert (given.values.dtype, given.labels.dtype) == (np.float32, np.int32)
    assert given.split.dtype == np.int8
    assert given.split.tolist() == [0] * 5 + [1] * 3 + [2] * 4
    for split, rows in (("train", range(8)), ("test", range(8, 12))):
        source: Any = tfds.data_source(
            name, split=split, data_dir=PREPARED, download=False
        )
        for record, row in zip(source, rows, strict=False):
            image = record["image"] / 255
            if image.shape[-1] == 3 and not rgb:
                image = (image * [0.299, 0.587, 0.114]).sum(-1, keepdims=True)
            np.testing.assert_allclose(given.values[row], image, rtol=1e-5)
            assert given.labels[row] == record["label"]


def test_fits_of_colours_are_made_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (PREPARED / "cifar10").is_dir():
        pytest.skip("the shared cifar10 images are not beside the checkout")
    monkeypatch.setenv("TFDS_DATA_DIR", str(PREPARED))
    config = _changed(signals="cifar10", rgb=True, out=tmp_path, max_steps=20)
    metrics, _ = _run(config)
    assert (metrics["fits"], metrics["parameters"]) == (24, 24 + 72 + 27)
    assert zoo.read(tmp_path / "zoo").network.config == config.recipe().network()


@pytest.mark.parametrize("name", INR_PRESETS)
def test_every_preset_parses_to_its_config(name: str) -> None:
    config = INR_PRESETS[name][1]
    expected = (name, config)
    assert parse([name]) == expected
    assert parse(["--task", "inr", name]) == expected
    assert parse([name, "--task=inr"]) == expected
    assert config.out == Path("runs/make_zoo") / name


def test_presets_are_the_published_networks() -> None:
    shape = (28, 28)
    presets = {name: config.recipe() for name, (_, config) in INR_PRESETS.items()}
    assert presets["inr_mnist"] == presets["inr_fashion"] == zoo.FitConfig(shape)
    unit = zoo.FitConfig(shape, convention="unit", learning_rate=5e-4)
    assert presets["inr_mnist_unit"] == unit
    colours = presets["inr_cifar10"].network()
    assert (colours.widths, colours.offset) == ((2, 32, 32, 3), 0)
    mnist = INR_PRESETS["inr_mnist"][1]
    counts = (mnist.train_signals, mnist.val_signals, mnist.test_signals)
    assert counts == (10_000, 1_000, 2_000)


def test_the_task_decides_the_first_preset() -> None:
    assert parse([]) == parse(["--task", "classifier"])
    assert parse([])[0] == next(iter(PRESETS))
    name, config = parse(["--hidden", "8", "--task", "inr", "--activation", "tanh"])
    assert (name, config) == (
        "inr_digits",
        dataclasses.replace(
            INR_PRESETS["inr_digits"][1], hidden=(8,), activation=("tanh",)
        ),
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--task", "gan"], r"--task should be one of .*'inr'\], got 'gan'"),
        (["--task"], r"--task should be one of .*'inr'\], got ''"),
        (
            ["--task", "inr", "smoke"],
            r"preset should be one of \['inr_digits'.*got 'smoke'",
        ),
        (
            ["--task=classifier", "inr_smoke"],
            r"preset should be one of \['transformers_digits'",
        ),
        (["inr_mist"], r"or a preset of .*'inr_mnist'.* got 'inr_mist'"),
    ],
)
def test_unknown_tasks_and_presets_are_named(args: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        parse(args)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"val_signals": -1}, "--val-signals should be at least 0, got -1"),
        ({"points": 1}, "--points should be at least 2, got 1"),
        (
            dict.fromkeys(("train_signals", "val_signals", "test_signals"), 0),
            "--train-signals, --val-signals, --test-signals: expected at least one",
        ),
        ({"rgb": True}, r"--rgb: expected signals with colours.*--signals digits"),
        ({"psnr": -1.0}, "fit config psnr: expected more than 0"),
        ({"chunk": 6}, "fit config chunk: expected a multiple of together = 4"),
        ({"activation": ()}, "--activation: expected one, or one for each of 2 hidden"),
        (
            {"activation": ("tanh",) * 3},
            "--activation: expected one, or one for each of 2 hidden layers, got 3",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InrConfig(**fields)


def test_more_signals_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "--train-signals, .*: expected at most 1797 in all.*the digits, got 1798"
    with pytest.raises(ValueError, match=message):
        signals.load(InrConfig(train_signals=1298))
    images = np.zeros((3, 28, 28, 1), np.uint8), np.zeros(3, np.int32)
    monkeypatch.setattr(signals, "prepared", lambda *_: images)
    few: dict[str, Any] = {"signals": "fashion_mnist", "val_signals": 1}
    for train, test, flags in ((3, 0, "--val-signals"), (1, 4, "--test-signals")):
        config = InrConfig(train_signals=train, test_signals=test, **few)
        with pytest.raises(ValueError, match=f"{flags}: expected at most 3 in all"):
            signals.load(config)


def test_images_that_are_not_prepared_are_named(tmp_path: Path) -> None:
    message = "expected a folder fashion_mnist that TFDS has prepared"
    with pytest.raises(FileNotFoundError, match=message):
        signals.load(InrConfig(signals="fashion_mnist", tfds=tmp_path))
