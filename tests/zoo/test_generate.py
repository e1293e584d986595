"""Generation: one seed decides every byte, and interruption changes none."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import _generate, _hyper

CONFIG = zoo.ZooConfig(
    {"relu": nets.MLPConfig((6, 5, 3)), "tanh": nets.MLPConfig((6, 5, 3), "tanh")},
    count=20,
    seed=3,
    steps=(0, 30),
    batch=8,
    learning_rate=(1e-3, 3e-2),
    chunk=8,
)
FILES = "*.array_record*"


def _data(seed: int = 0) -> zoo.Data:
    """Three noisy clusters in six dimensions, given as little images."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 90)
    x = np.eye(3)[y][:, :, None] + 0.3 * rng.normal(size=(90, 3, 2))
    return zoo.Data(x[:60], y[:60], x[60:], y[60:])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.generate(CONFIG, _data(), tmp_path_factory.mktemp("zoo") / "made")


def _bytes(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob(FILES))
    }


def test_labels_are_those_of_the_weights(made: Path) -> None:
    data = _data()
    for name in zoo.buckets(made):
        got = zoo.read(made, name)
        assert len(got) == CONFIG.count
        apply = jax.jit(jax.vmap(got.network.apply, (0, None)))
        logits = np.asarray(apply(got.thetas, data.test_x.astype(np.float32)))
        right = (logits.argmax(-1) == data.test_y).mean(1)
        np.testing.assert_allclose(got.labels["test_accuracy"], right, atol=1e-6)
        chosen = np.take_along_axis(logits, data.test_y[None, :, None], -1)[..., 0]
        loss = np.log(np.exp(logits).sum(-1)) - chosen
        np.testing.assert_allclose(got.labels["test_loss"], loss.mean(1), rtol=1e-4)
        # They learn: chance is a third.
        assert got.labels["test_accuracy"].max() > 0.8
        assert np.bincount(got.split).tolist() == [12, 2, 6]


def test_the_manifest_tells_what_is_there(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    assert zoo.zoo_config_from_dict(manifest["config"]["zoo"]) == CONFIG
    assert set(manifest["versions"]) > {"jax", "numpy", "python"}
    for name, entry in manifest["buckets"].items():
        got = zoo.read(made, name)
        assert (entry["count"], entry["trained"], entry["diverged"]) == (20, 20, 0)
        assert entry["splits"]["train"] == got.select("train").ids.tolist()
        assert nets.build(entry["network"]) == got.network
        for path, digest in entry["shards"].items():
            assert hashlib.sha256((made / path).read_bytes()).hexdigest() == digest
    assert not (made.parent / "made.partial").exists()


def test_one_seed_decides_every_byte(made: Path, tmp_path: Path) -> None:
    again = zoo.generate(CONFIG, _data(), tmp_path / "again")
    assert _bytes(again) == _bytes(made)
    other = dataclasses.replace(CONFIG, seed=4)
    assert _bytes(zoo.generate(other, _data(), tmp_path / "other")) != _bytes(made)


class Stop(Exception):
    """Stands for Ctrl-C."""


def _stop_after(chunks: int) -> Callable[[zoo.Progress], None]:
    seen: list[zoo.Progress] = []

    def progress(at: zoo.Progress) -> None:
        seen.append(at)
        if len(seen) == chunks:
            raise Stop

    return progress


def test_an_interrupted_generation_resumes(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "zoo"
    with pytest.raises(Stop):
        zoo.generate(CONFIG, _data(), out, _stop_after(4))
    assert not out.exists()
    # What a power cut and a killed write may leave.
    first = tmp_path / "zoo.partial" / "relu-00000.npz"
    first.write_bytes(first.read_bytes()[:-50])
    (tmp_path / "zoo.draft-1").mkdir()
    seen: list[zoo.Progress] = []
    zoo.generate(CONFIG, _data(), out, seen.append)
    assert [at.resumed for at in seen] == [False] + [True] * 3 + [False] * 2
    assert [at.networks for at in seen] == [8, 16, 20, 28, 36, 40]
    assert (seen[-1].work, seen[-1].networks) == (seen[-1].total_work, 40)
    assert _bytes(out) == _bytes(made)
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]


def test_a_second_call_trains_nothing(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    seen: list[zoo.Progress] = []
    assert zoo.generate(CONFIG, _data(), made, seen.append) == made
    assert seen == []
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_another_zoo_in_the_folder_is_named(made: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(CONFIG, batch=9)
    with pytest.raises(ValueError, match=r"zoo\.batch should be 9, found 8"):
        zoo.generate(other, _data(), made)
    with pytest.raises(ValueError, match="data_sha256 should be"):
        zoo.generate(CONFIG, _data(1), made)
    with pytest.raises(Stop):
        zoo.generate(CONFIG, _data(), tmp_path / "zoo", _stop_after(1))
    with pytest.raises(ValueError, match=r"zoo.partial.*zoo\.batch should be 9"):
        zoo.generate(other, _data(), tmp_path / "zoo")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    with pytest.raises(FileExistsError, match=r"found a folder without manifest"):
        zoo.generate(CONFIG, _data(), tmp_path / "full")


def test_diverged_networks_are_dropped_and_counted(tmp_path: Path) -> None:
    wild = dataclasses.replace(
        CONFIG,
        buckets={"relu": nets.MLPConfig((6, 5, 3), "relu^3")},
        learning_rate=(1e-3, 10.0),
        steps=(20, 30),
    )
    out = zoo.generate(wild, _data(), tmp_path / "zoo")
    got = zoo.read(out)
    entry = json.loads((out / "manifest.json").read_text())["buckets"]["relu"]
    assert 0 < entry["diverged"] < 20
    assert (entry["count"], entry["trained"]) == (len(got), 20)
    assert len(got) + entry["diverged"] == 20
    assert np.isfinite(got.vectors()).all()
    assert np.isfinite(got.labels["test_loss"]).all()


def test_a_zoo_that_diverged_as_a_whole_is_named(tmp_path: Path) -> None:
    small = dataclasses.replace(
        CONFIG,
        count=2,
        steps=(5, 5),
        chunk=2,
        optimizers=("sgd",),
        learning_rate=(1e37, 1e37),
    )
    with pytest.raises(ValueError, match="'relu': all 2 networks diverged"):
        zoo.generate(small, _data(), tmp_path / "zoo")


def test_draws_cover_their_ranges() -> None:
    config = dataclasses.replace(CONFIG, count=2000, chunk=64)
    hyper = _hyper.draw_hyper(config, 0)
    assert (hyper["step"].min(), hyper["step"].max()) == (0, 30)
    assert set(hyper["optimizer"]) == {"sgd", "momentum", "adam", "rmsprop"}
    assert 0.4 < (hyper["dropout"] == 0).mean() < 0.6
    base = hyper["learning_rate"][hyper["optimizer"] == "adam"]
    assert 1e-3 <= base.min() < 1.2e-3
    assert 2.5e-2 < base.max() <= 3e-2
    other = _hyper.draw_hyper(config, 1)
    assert not np.array_equal(hyper["step"], other["step"])


def test_equal_rates_change_nothing_else() -> None:
    plain = _hyper.draw_hyper(CONFIG, 0)
    equal = _hyper.draw_hyper(dataclasses.replace(CONFIG, equal_rates=True), 0)
    factor = {"sgd": 30, "momentum": 10, "adam": 1, "rmsprop": 1}
    expected = [factor[name] for name in plain["optimizer"]]
    ratio = plain.pop("learning_rate") / equal.pop("learning_rate")
    np.testing.assert_allclose(ratio, expected)
    for name, column in plain.items():
        np.testing.assert_array_equal(column, equal[name])


def test_initial_weights_have_the_variance_of_their_scheme(tmp_path: Path) -> None:
    """At step 0 the stored weights are the draws."""
    config = zoo.ZooConfig(
        {"relu": nets.MLPConfig((60, 40, 3))},
        count=64,
        steps=(0, 0),
        init_scale=(0.5, 0.5),
        chunk=32,
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 60)), rng.integers(0, 3, 9)
    got = zoo.read(zoo.generate(config, zoo.Data(x, y, x, y), tmp_path / "zoo"))
    kernel = got.thetas["layer_00"]["kernel"]
    assert not got.thetas["layer_00"]["bias"].any()
    for name, variance in (("he", 2 / 60), ("glorot", 2 / 100)):
        for shape, kurtosis in (("normal", 3.0), ("uniform", 1.8)):
            w = kernel[got.hyper["init"] == f"{name}_{shape}"]
            assert np.var(w) == pytest.approx(0.25 * variance, rel=0.05)
            assert np.mean(w**4) / np.var(w) ** 2 == pytest.approx(kurtosis, rel=0.05)
    assert np.unique(kernel[:, 0, 0]).size == 64


BAD: list[tuple[dict[str, Any], str]] = [
    ({"buckets": {}}, "buckets: expected at least one"),
    ({"buckets": {"a/b": nets.MLPConfig((2, 2))}}, "letters, digits and underscores"),
    ({"seed": -1}, "config seed: expected an integer of at least 0, got -1"),
    ({"split_seed": -1}, "split_seed: expected an integer of at least 0, got -1"),
    ({"seed": 1.5}, "config seed: expected an integer of at least 0, got 1.5"),
    ({"count": 0}, "count: expected at least 1, got 0"),
    ({"optimizers": ("lion",)}, "optimizers: expected some of .*'lion'"),
    ({"inits": ()}, "inits: expected some of"),
    ({"steps": (5, 2)}, r"steps: expected a range \(low, high\)"),
    ({"train_fraction": (0.5, 1.5)}, "train_fraction: expected a range"),
    ({"weight_decay": (0.0, 0.1)}, "weight_decay: a log range starts above 0"),
    ({"schedule": (9, 9)}, r"schedule: expected \(0, 0\), or fewer steps of warm-up"),
    ({"schedule": (-1, 99)}, r"schedule: expected .* got \(-1, 99\)"),
    ({"schedule": (5, 29)}, "schedule: expected .* at least 30 of these"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_bad_configs_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **values)


def test_config_survives_json() -> None:
    again = zoo.zoo_config_from_dict(json.loads(json.dumps(CONFIG.to_dict())))
    assert again == CONFIG
    # Zoos that exist were made without them, and are found by their recipe.
    assert not {"equal_rates", "schedule"} & set(CONFIG.to_dict())
    changed = dataclasses.replace(CONFIG, equal_rates=True, schedule=(3, 30))
    values = json.loads(json.dumps(changed.to_dict()))
    assert zoo.zoo_config_from_dict(values) == changed != CONFIG
    with pytest.raises(ValueError, match=r"unknown fields \['colour'\]"):
        zoo.zoo_config_from_dict(CONFIG.to_dict() | {"colour": 1})


def test_a_chunk_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where processes do not share a disk."""
    monkeypatch.setattr(_generate, "save_part", lambda path, part: None)
    text = "expected the chunk that was just trained, found none"
    with pytest.raises(ValueError, match=text):
        zoo.generate(CONFIG, _data(), tmp_path / "zoo")
