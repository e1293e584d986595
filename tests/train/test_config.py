"""A run's config: ranges, and one config a directory."""

from pathlib import Path

import pytest

from qejax.train import FitConfig, _config, check_config

GOOD = {"steps": 10, "batch_size": 2, "eval_every": 5}


@pytest.mark.parametrize("field", ["steps", "batch_size", "eval_every", "patience"])
def test_counts_are_positive(field: str) -> None:
    with pytest.raises(ValueError, match=rf"{field}=.*: expected at least 1, got 0"):
        FitConfig(**{**GOOD, "select": "tau", field: 0})


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"seed": -1}, r"seed=.*expected 0 <= seed < 2\^32, got -1"),
        ({"seed": 2**32}, r"seed=.*expected 0 <= seed < 2\^32"),
        ({"mode": "up"}, r"mode=.*expected 'max' or 'min', got 'up'"),
        ({"ema": 1.0}, r"ema=.*expected a decay in \(0, 1\), got 1.0"),
        ({"patience": 3}, r"early stopping needs a metric, got select=None"),
    ],
)
def test_ranges(fields: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        FitConfig(**{**GOOD, **fields})


def test_a_directory_keeps_its_config(tmp_path: Path) -> None:
    path = tmp_path / "new" / "fit.json"
    config = {"model": {"channels": 32, "widths": (1, 2)}, "lr": 1e-3}
    assert not check_config(path, config)
    assert check_config(path, config)
    assert check_config(path, {**config, "model": {"widths": [1, 2], "channels": 32}})


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"model": {"channels": 64}, "lr": 1}, r"model.channels: stored 32, now 64\."),
        ({"model": {"channels": 32}}, r"another config: lr: stored 1, now nothing"),
        ({"model": {"channels": 32}, "lr": 1, "x": ""}, r"x: stored nothing, now \"\""),
        ({"model": 3, "lr": 2}, r"lr: stored 1, now 2; model: stored nothing, now 3;"),
    ],
)
def test_a_changed_field_is_named(tmp_path: Path, changed: dict, match: str) -> None:
    path = tmp_path / "fit.json"
    check_config(path, {"model": {"channels": 32}, "lr": 1})
    text = path.read_text()
    with pytest.raises(ValueError, match=match):
        check_config(path, changed)
    assert path.read_text() == text


def test_a_config_is_json(tmp_path: Path) -> None:
    for value in (object(), float("nan")):
        with pytest.raises(TypeError, match="expected a config of JSON values"):
            check_config(tmp_path / "fit.json", {"x": value})
    assert not list(tmp_path.iterdir())


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "fit.json").write_text('{"steps": 1')
    with pytest.raises(ValueError, match=r"fit.json: expected the JSON config"):
        check_config(tmp_path / "fit.json", {})


def test_processes_with_other_data_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def others(text: str) -> list[str]:
        return [text, text.replace('"crc32": "0a"', '"crc32": "0b"')]

    monkeypatch.setattr(_config, "gather_json", others)
    config = FitConfig(steps=1, batch_size=1, eval_every=1)
    _config.claim(tmp_path / "same", config, {"crc32": "0c"}, None)
    text = "expected the same run in every process, got data.crc32: process 1"
    with pytest.raises(ValueError, match=text):
        _config.claim(tmp_path / "other", config, {"crc32": "0a"}, None)
    assert not (tmp_path / "other").exists()
