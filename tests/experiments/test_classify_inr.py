"""The experiment end to end on a few digits, and what it refuses."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from rich.console import Console

from experiments.classify_inr import evaluate, table, warps
from experiments.classify_inr import zoo as zoos
from experiments.classify_inr.__main__ import parse
from experiments.classify_inr.config import PRESETS, ROWS, Config
from experiments.classify_inr.readers import KINDS
from experiments.classify_inr.run import run
from qejax import nets, zoo

SMOKE = PRESETS["smoke"][1]
PARTS = ("accuracy %", "with probes %")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    out = tmp_path_factory.mktemp("classify") / "out"
    rows = ("signed", "mlp_raw", "probes_warped")
    return dataclasses.replace(SMOKE, out=out, rows=rows, copies=2)


@pytest.fixture(scope="module")
def metrics(config: Config) -> dict[str, Any]:
    quiet = Console(quiet=True)
    first = run(config, "smoke", "python -m experiments.classify_inr smoke", quiet)
    again = run(config, "smoke", "another", quiet)
    assert again == json.loads(json.dumps(first))
    return again


def test_the_table_keeps_probes_apart(metrics: dict[str, Any]) -> None:
    rows = table.lines(metrics)
    names = ["signed", "mlp_raw", "probes_warped"]
    assert [row["row"] for row in rows] == names
    alone, probed = ([row[h] == "-" for row in rows] for h in PARTS)
    assert alone == [False, False, True]
    assert probed == [True, True, False]


def test_exact_rows_change_no_prediction(metrics: dict[str, Any]) -> None:
    rows = metrics["rows"]
    assert metrics["function_gap"] < 1e-9
    for name in ("signed", "probes_warped"):
        assert rows[name]["changed"] == 0
        assert rows[name]["invariance_gap"] < 1e-6
    assert rows["mlp_raw"]["changed"] > 0


def test_extra_fits_are_for_training_only(config: Config) -> None:
    fits = zoos.load(config, lambda share, found: None)
    assert len(fits.rows("train")) == 2 * 60
    assert len(fits.rows("val")) + len(fits.rows("test")) == 40
    for split in ("val", "test"):
        assert set(fits.select(split).hyper["copy"]) == {0}
    first = dataclasses.replace(config, networks=10)
    assert len(zoos.load(first, lambda share, found: None).rows("train")) == 10


@pytest.mark.usefixtures("metrics")
def test_what_a_run_leaves(config: Config) -> None:
    names = {path.name for path in config.out.iterdir()}
    assert {"config.json", "log.jsonl", "metrics.json", "classes.png"} <= names
    with pytest.raises(ValueError, match="holds the results of another run"):
        run(dataclasses.replace(config, seed=1), "smoke", "", Console(quiet=True))


def test_the_note_says_what_was_read(metrics: dict[str, Any]) -> None:
    result = {
        "command": "python -m experiments.classify_inr smoke",
        "metrics": metrics,
        "machine": {"cpus": 2},
        "versions": {"jax": "0.10"},
        "seeds": 1,
        "seed": 0,
    }
    assert "120 networks of 337 weights to train on (2 fit an image)" in table.note(
        result
    )


def test_every_row_is_known() -> None:
    assert tuple(KINDS) == ROWS
    assert all(("probes" in name) == kind.probes for name, kind in KINDS.items())


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_signals_turn_zoom_and_shift_within_the_ranges(axes: int) -> None:
    config = dataclasses.replace(SMOKE, turn=30.0, zoom=0.2, shift=0.1)
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = jax.vmap(lambda key: warps.draw(key, axes, config))(keys)
    matrices, shifts = (np.asarray(x, np.float64) for x in drawn)
    squares = matrices.swapaxes(1, 2) @ matrices
    lengths = np.sqrt(np.diagonal(squares, axis1=1, axis2=2))
    straight = lengths[:, :, None] * lengths[:, None] * np.eye(axes)
    np.testing.assert_allclose(squares, straight, atol=1e-6)
    for values, low, high in ((lengths, 0.8, 1.2), (shifts, -0.1, 0.1)):
        assert low <= values.min() < low + 0.05
        assert high - 0.05 < values.max() <= high
    if axes == 2:
        angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
        assert -30 <= angles.min() < -25
        assert 25 < angles.max() <= 30
    still = dataclasses.replace(SMOKE, turn=0.0, zoom=0.0, shift=0.0)
    matrix, shift = warps.draw(keys[0], axes, still)
    np.testing.assert_array_equal(matrix, np.eye(axes))
    np.testing.assert_array_equal(shift, np.zeros(axes))


FITTED = {
    "digits": zoos.DIGITS,
    "mnist": dataclasses.replace(zoos.DIGITS, hidden=(32, 32)),
}


@pytest.mark.parametrize("preset", FITTED)
def test_kinds_have_as_many_parameters(preset: str) -> None:
    config, network = PRESETS[preset][1], nets.build(FITTED[preset].network())

    def count(name: str) -> int:
        def build() -> Any:
            return KINDS[name].build(network, 10, config, nnx.Rngs(0))

        params = nnx.state(nnx.eval_shape(build), nnx.Param)
        return sum(math.prod(x.shape) for x in jax.tree.leaves(params))

    wanted = count("signed")
    assert count("signed_attention") == pytest.approx(wanted, rel=0.02)
    for name in ("canonical", "relative", "gauge", "strict"):
        assert count(name) == pytest.approx(wanted, rel=0.05), name


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_parses_to_its_config(name: str) -> None:
    assert parse([name]) == (name, PRESETS[name][1])
    assert parse([])[0] == "digits"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": 0}, "--seeds should be at least 1"),
        ({"rows": ("trees",)}, r"--rows: expected some of \['signed'"),
        ({"networks": -1}, "--networks should be at least 0"),
        ({"dropout": 1.0}, r"--dropout in \[0, 1\)"),
        ({"heads": 3}, "--heads should divide --attention-channels, got 3 and 2"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMOKE, **fields)
    (name, value), *_ = fields.items()
    if not isinstance(value, tuple):
        with pytest.raises(SystemExit):
            parse(["smoke", f"--{name}", str(value)])
    with pytest.raises(SystemExit, match="preset should be one of"):
        parse(["letters"])


def untold(share: float, found: float) -> None:
    del share, found


def test_zoos_that_do_not_fit_are_named(config: Config, tmp_path: Path) -> None:
    missing = dataclasses.replace(config, zoo=str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="make_zoo inr_mnist"):
        zoos.load(missing, untold)
    fits = zoos.load(config, untold)
    few = dataclasses.replace(config, networks=1000)
    with pytest.raises(ValueError, match="--networks 1000: expected as many"):
        zoos.load(few, untold)
    single = fits.take(np.flatnonzero(fits.hyper["copy"] == 0))
    one = zoo.store(tmp_path / "one", {"fits": single})
    with pytest.raises(ValueError, match="--copies 2: expected as many fits"):
        zoos.load(dataclasses.replace(config, zoo=str(one)), untold)
    bare = dataclasses.replace(single, labels={"psnr": single.labels["psnr"]})
    other = zoo.store(tmp_path / "bare", {"fits": bare})
    with pytest.raises(ValueError, match="expected networks with a label 'class'"):
        zoos.load(dataclasses.replace(config, zoo=str(other)), untold)


def test_gaps_are_in_deviations_of_the_logits() -> None:
    given = np.random.default_rng(0).normal(size=(1, 50, 3))
    row = evaluate.Row("x", "a model", False, 7, lambda thetas: given)
    labels = given[0].argmax(-1)
    tested = evaluate.Tested(labels, {"x": given}, {"x": given + 0.5}, 0.0)
    found = evaluate.entry(row, tested)
    assert found["test"]["accuracy"] == 1
    assert found["changed"] == 0
    assert 0.3 < found["invariance_gap"] < 0.7
