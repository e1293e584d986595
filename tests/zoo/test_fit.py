"""Fitting coordinate networks: what comes out, what resumes, what is named."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import FitConfig, Signals, _fit

CONFIG = FitConfig(
    (5, 4), hidden=(8, 8), activation="sine(8)", psnr=30.0, max_steps=300, chunk=4
)


def signals(count: int = 3, shape: tuple[int, ...] = (5, 4), **more: Any) -> Signals:
    values = np.random.default_rng(0).uniform(size=(count, *shape))
    fields = {"values": values, "labels": np.arange(count), **more}
    return Signals(**fields)


def changed(**fields: Any) -> FitConfig:
    return FitConfig(**{**CONFIG.to_dict(), **fields})


def rendered(one: zoo.Zoo, shape: tuple[int, ...] = (5, 4)) -> Any:
    return jax.vmap(one.network.apply, (0, None))(one.thetas, nets.grid(*shape))


KINDS: dict[str, tuple[FitConfig, tuple[int, ...]]] = {
    "image": (CONFIG, (5, 4)),
    "unit": (changed(convention="unit"), (5, 4)),
    "colours": (changed(channels=3, max_steps=1000), (5, 4, 3)),
    "sound": (changed(shape=(20,)), (20,)),
    "some coordinates": (changed(sample=10, max_steps=3000), (5, 4)),
    "octaves": (
        changed(activation="relu", octaves=3, learning_rate=3e-3, hidden=(32, 32)),
        (5, 4),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.one_in(3)
def test_signals_are_reproduced(kind: str, tmp_path: Path) -> None:
    config, shape = KINDS[kind]
    given = signals(shape=shape)
    one = zoo.read(zoo.fit(config, given, tmp_path / "zoo"))
    assert float(one.labels["psnr"].min()) >= config.psnr
    assert one.labels["class"].tolist() == [0, 1, 2]
    values = rendered(one, config.shape)
    flat = np.asarray(given.values, np.float32).reshape(3, -1, config.channels)
    found = zoo.psnr_of(config, values, jnp.asarray(flat))
    np.testing.assert_allclose(found, one.labels["psnr"], rtol=1e-4)
    wrong = zoo.psnr_of(config, values, jnp.roll(flat, 1, axis=0))
    assert float(jnp.max(wrong)) < 15


def test_a_fit_stops_when_it_is_good_enough(tmp_path: Path) -> None:
    given = signals()
    given.values[0] = 0.5 + 0.1 * given.values[0]
    one = zoo.read(zoo.fit(CONFIG, given, tmp_path / "zoo"))
    steps = one.labels["steps"]
    assert np.all(steps % CONFIG.check == 0)
    assert 0 < steps.min() < steps.max() < CONFIG.max_steps


def test_fits_do_not_depend_on_their_neighbours(tmp_path: Path) -> None:
    """A fit that has stopped keeps its weights while the others go on."""
    beside = zoo.read(zoo.fit(CONFIG, signals(), tmp_path / "beside"))
    alone = zoo.read(zoo.fit(changed(together=1), signals(), tmp_path / "alone"))
    assert beside.labels["steps"].tolist() == alone.labels["steps"].tolist()
    np.testing.assert_allclose(beside.vectors(), alone.vectors(), atol=1e-4)


def test_copies_share_the_split_of_their_signal(tmp_path: Path) -> None:
    given = signals(4, split=np.array([0, 2, 1, 0]))
    config = changed(copies=3, max_steps=0)
    one = zoo.read(zoo.fit(config, given, tmp_path / "zoo"))
    assert one.hyper["signal"].tolist() == np.repeat(np.arange(4), 3).tolist()
    assert one.hyper["copy"].tolist() == [0, 1, 2] * 4
    assert one.split.tolist() == np.repeat([0, 2, 1, 0], 3).tolist()
    assert len(np.unique(one.vectors()[:, 0])) == 12
    alone = zoo.read(zoo.fit(changed(max_steps=0, copies=3), given, tmp_path / "zoo"))
    assert alone.ids.tolist() == one.ids.tolist()


@pytest.mark.parametrize("sample", [0, 6])
@pytest.mark.one_in(2)
def test_more_copies_leave_the_first_as_they_were(tmp_path: Path, sample: int) -> None:
    """Of five signals in chunks of four, so that a chunk holds two copies."""
    few = changed(max_steps=40, sample=sample, together=2)
    many = changed(max_steps=40, sample=sample, together=2, copies=3)
    one = zoo.read(zoo.fit(few, signals(5), tmp_path / "one"))
    three = zoo.read(zoo.fit(many, signals(5), tmp_path / "three"))
    first = three.hyper["copy"] == 0
    np.testing.assert_array_equal(three.vectors()[first], one.vectors())
    np.testing.assert_array_equal(three.labels["psnr"][first], one.labels["psnr"])
    assert three.hyper["signal"].tolist() == np.repeat(np.arange(5), 3).tolist()
    # Every fit is of the signal that its row names.
    flat = np.asarray(signals(5).values, np.float32).reshape(5, -1, 1)
    own = jnp.asarray(flat[three.hyper["signal"]])
    found = zoo.psnr_of(many, rendered(three), own)
    np.testing.assert_allclose(found, three.labels["psnr"], rtol=1e-4)
    assert len(np.unique(three.vectors()[:, 0])) == 15


def test_unfinished_copies_of_another_order_are_refused(tmp_path: Path) -> None:
    """Those of one copy have no order, and go on."""
    for copies in (1, 2):
        config, out = changed(max_steps=0, copies=copies), tmp_path / f"{copies}"
        zoo.fit(config, signals(), out)
        manifest = json.loads((out / "manifest.json").read_text())
        recipe = manifest["config"]
        assert ("order" in recipe) == (copies > 1)
        partial = tmp_path / f"old_{copies}.partial"
        partial.mkdir()
        recipe.pop("order", None)
        old = recipe | {"versions": manifest["versions"]}
        (partial / "recipe.json").write_text(json.dumps(old))
    zoo.fit(changed(max_steps=0), signals(), tmp_path / "old_1")
    with pytest.raises(ValueError, match=r"another zoo: order should be copy \* sig"):
        zoo.fit(changed(max_steps=0, copies=2), signals(), tmp_path / "old_2")


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    config = changed(chunk=4, copies=4)

    class Killed(Exception):
        pass

    def kill(report: zoo.FitProgress) -> None:
        if report.fits == 8:
            raise Killed

    with pytest.raises(Killed):
        zoo.fit(config, signals(), tmp_path / "zoo", kill)
    assert not (tmp_path / "zoo").exists()
    reports: list[zoo.FitProgress] = []
    resumed = zoo.fit(config, signals(), tmp_path / "zoo", reports.append)
    assert [report.resumed for report in reports] == [True, True, False]
    whole = zoo.fit(config, signals(), tmp_path / "whole")
    one, other = zoo.read(resumed), zoo.read(whole)
    np.testing.assert_array_equal(one.vectors(), other.vectors())
    assert not list(tmp_path.glob("*.partial"))


def test_what_went_wrong_is_counted_and_kept(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(size=(3, 5, 4))
    values[1] = 0.5
    config = changed(max_steps=20, psnr=25.0)
    out = zoo.fit(config, Signals(values, np.arange(3)), tmp_path / "zoo")
    notes = zoo.notes(out)
    assert (notes["fits"], notes["constant_ids"]) == (3, ["fits_000001"])
    assert notes["short_ids"] == ["fits_000000", "fits_000002"]
    assert (notes["diverged"], len(zoo.read(out))) == (0, 3)


def test_fits_that_diverge_are_named_and_the_others_kept(tmp_path: Path) -> None:
    """Signals that the starts already show are not moved; a step ruins all others."""
    values = np.random.default_rng(0).uniform(0.45, 0.55, (5, 5, 4))
    values[[1, 4]] = np.indices((5, 4)).sum(0) % 2
    config = changed(convention="unit", psnr=10.0, learning_rate=1e38, max_steps=20)
    out = zoo.fit(config, signals(5, values=values), tmp_path / "zoo")
    notes, one = zoo.notes(out), zoo.read(out)
    assert (notes["fits"], notes["diverged"], notes["short"]) == (5, 2, 0)
    assert notes["diverged_ids"] == ["fits_000001", "fits_000004"]
    assert one.ids.tolist() == ["fits_000000", "fits_000002", "fits_000003"]
    assert one.hyper["signal"].tolist() == [0, 2, 3]
    assert one.labels["class"].tolist() == [0, 2, 3]
    assert one.labels["steps"].tolist() == [0, 0, 0]
    assert np.isfinite(one.vectors()).all()


def test_fits_that_all_diverge_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all 3 fits diverged; lower learning_rate"):
        zoo.fit(changed(learning_rate=1e38), signals(), tmp_path / "zoo")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"values": np.zeros((3, 4, 5))}, r"of shape \(5, 4, 1\), at least one, got"),
    ({"values": np.full((3, 5, 4), 2.0)}, r"numbers in \[0, 1\], got others in row 0"),
    ({"values": np.full((3, 5, 4), np.nan)}, r"numbers in \[0, 1\], got others"),
    ({"labels": np.arange(2)}, "one integer for each of 3 signals"),
    ({"labels": np.ones(3)}, "one integer for each of 3 signals, got float64"),
    ({"split": np.array([0, 1, 3])}, "a code 0, 1 or 2 for each of 3 signals"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_bad_signals_are_named(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.fit(CONFIG, signals(**fields), tmp_path / "zoo")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"convention": "nfn"}, r"fit config convention: expected one of \['signed'"),
        ({"copies": 0}, "fit config copies: expected an integer of at least 1"),
        ({"sample": True}, "fit config sample: expected an integer of at least 0"),
        ({"chunk": 6}, "fit config chunk: expected a multiple of together = 4"),
        ({"psnr": 0.0}, "fit config psnr: expected more than 0"),
        ({"activation": "sine"}, "is unknown"),
    ],
)
def test_bad_configurations_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(**fields)


def test_another_recipe_in_its_place(tmp_path: Path) -> None:
    out = zoo.fit(changed(max_steps=0), signals(), tmp_path / "zoo")
    with pytest.raises(ValueError, match=r"another zoo: fit.max_steps should be 20"):
        zoo.fit(changed(max_steps=20), signals(), out)


def test_fits_that_are_gone_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where processes do not share a disk."""
    monkeypatch.setattr(_fit, "save_part", lambda path, part: None)
    with pytest.raises(ValueError, match="expected the fits that were just made"):
        zoo.fit(CONFIG, signals(), tmp_path / "zoo")
