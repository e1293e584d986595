import dataclasses

import pytest

from experiments.predict_accuracy.__main__ import parse
from experiments.predict_accuracy.config import PRESETS, Config


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_parses_to_its_config(name):
    assert parse([name]) == (name, PRESETS[name][1])


def test_a_config_is_frozen_keyword_only_and_small():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1  # type: ignore[misc]
    assert all(field.kw_only for field in dataclasses.fields(Config))
    # A command line that still fits a screen.
    assert len(dataclasses.fields(Config)) <= 29


def test_the_default_preset_is_the_digits():
    assert parse([])[0] == "digits"


def test_a_public_zoo_without_a_preset_takes_the_preset_of_its_format():
    preset, config = parse(["--zoo", "small_cnn_zoo:somewhere", "--seeds", "4"])
    assert (preset, config.zoo, config.seeds) == (
        "small_cnn_zoo",
        "small_cnn_zoo:somewhere",
        4,
    )


def test_a_flag_overrides_a_preset():
    assert parse(["smoke", "--activations", "tanh"])[1].activations == ("tanh",)


def test_an_unknown_preset_is_named():
    with pytest.raises(SystemExit, match=r"preset should be one of .*'smok'"):
        parse(["smok"])


def test_an_unknown_flag_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["smoke", "--step", "3"])
    assert "--steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": 0}, "--seeds should be at least 1, got 0"),
        ({"zoo_steps": 0}, "--zoo-steps should be at least 1, got 0"),
        ({"dropout": 1.0}, r"--dropout should be in \[0, 1\), got 1.0"),
        ({"cut_off": 1.5}, r"--cut-off should be in \[0, 1\), got 1.5"),
        ({"learning_rate": 0.0}, "--learning-rate should be positive, got 0.0"),
        ({"steps": 5, "evaluate_every": 6}, r"at most --steps \(5\), got 6"),
        ({"zoo": "pickle:dir"}, "FORMAT:DIR with a format of .*'pickle:dir'"),
        ({"activations": ("relu", "relu")}, "name each activation once"),
        ({"networks": 19}, "--networks should be at least 20"),
        ({"quasi": "strict"}, "--channels should be at least 1 with --quasi strict"),
        ({"stream": 8}, "--stream 8 needs message passing: .* --channels 0"),
        (
            {"stream": 8, "channels": 4, "quasi": "relative"},
            "--stream 8 needs message passing: .* got --quasi relative",
        ),
        ({"widths": (4, 0)}, "--widths should be one or more positive widths"),
    ],
)
def test_an_impossible_config_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
