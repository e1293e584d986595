"""Importing: resumable, the same bytes always, and nothing damaged stops it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import _import, _shards
from qejax.zoo._listing import listed
from tests.zoo.random_zoo import random_zoo

NET = nets.mlp((3, 4, 2))
COUNT = 40
COLUMNS = ("ids", "runs", "split")
RECIPE = {"import": {"format": "made", "directory": "here"}}


def some(damaged: tuple[int, ...] = (), seed: int = 0) -> zoo.Found:
    """Forty networks in runs of two; reading says that some of them are damaged."""
    whole = random_zoo(NET, COUNT, seed)
    listing = listed(whole)
    runs = np.array([f"run_{row // 2}" for row in range(COUNT)])

    def read(rows: np.ndarray) -> zoo.Weights:
        vectors = whole.vectors()[rows].copy()
        why = {at: f"file_{row} is torn" for at, row in enumerate(rows.tolist())}
        problems = {at: why[at] for at, row in enumerate(rows) if row in damaged}
        vectors[list(problems)] = 0
        return zoo.Weights(vectors, problems)

    one = replace(listing, runs=runs, split=zoo.split_runs(runs), read=read)
    return zoo.Found({"made": one}, (), "clean", "remove them")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shards, "SHARD_NETWORKS", 5)


def unfinished(out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Imports up to the moment when all shards are there."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_import, "describe_bucket", stop)
        with pytest.raises(KeyboardInterrupt):
            zoo.import_zoo(some(), out, RECIPE, **options)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_what_is_imported_is_what_was_listed(tmp_path: Path) -> None:
    reports: list[zoo.ImportProgress] = []
    root = zoo.import_zoo(some(), tmp_path / "zoo", RECIPE, progress=reports.append)
    got, want = zoo.read(root), random_zoo(NET, COUNT, 0)
    np.testing.assert_array_equal(got.vectors(), want.vectors())
    assert got.ids.tolist() == want.ids.tolist()
    assert got.split.tolist() == some().listings["made"].split.tolist()
    for pair in got.split.reshape(-1, 2):
        assert pair[0] == pair[1]
    np.testing.assert_array_equal(
        got.labels["test_accuracy"], want.labels["test_accuracy"]
    )
    expected = zoo.normal_forms(NET.spec, want.thetas)
    assert got.normal is not None
    np.testing.assert_array_equal(got.normal.statistics, expected.statistics)
    assert [report.networks for report in reports][-1] == COUNT
    assert reports[-1].size == COUNT * 4 * NET.spec.num_parameters
    assert not any(report.resumed for report in reports)
    shards = list(root.rglob("*train.array_record*"))
    assert len(shards) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]
    entry = zoo.notes(root)
    assert entry["split"] == {
        "protocol": "clean",
        "sha256": zoo.split_digest(entry["splits"]),
    }
    assert zoo.recipe(root)["import"] == RECIPE["import"]


def test_streams_of_several_shards_are_those_of_memory(tmp_path: Path) -> None:
    root = zoo.import_zoo(some(), tmp_path / "zoo", RECIPE)
    for one, other in zip(
        zoo.batches(zoo.read(root), "train", 7, seed=3),
        zoo.stream(root, "train", 7, seed=3),
        strict=True,
    ):
        assert one.ids.tolist() == other.ids.tolist()


def test_damaged_networks_are_left_out_and_named(tmp_path: Path) -> None:
    whole = zoo.read(zoo.import_zoo(some(), tmp_path / "whole", RECIPE))
    # A whole shard of the test split is damaged: it is there, and empty.
    first = np.flatnonzero(whole.split == 2)[:5].tolist()
    damaged = (*first, int(np.flatnonzero(whole.split == 0)[3]))
    root = zoo.import_zoo(some(damaged), tmp_path / "zoo", RECIPE)
    got = zoo.read(root)
    kept = np.setdiff1d(np.arange(COUNT), damaged)
    np.testing.assert_array_equal(got.vectors(), whole.vectors()[kept])
    assert got.split.tolist() == whole.split[kept].tolist()
    entry = zoo.notes(root)
    assert (entry["count"], entry["left_out"]) == (COUNT - 6, 6)
    named = dict(entry["problems"])
    assert named == {str(whole.ids[row]): f"file_{row} is torn" for row in damaged}
    assert sum(len(b.ids) for b in zoo.stream(root, "test", 4)) == len(
        entry["splits"]["test"]
    )


def test_networks_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    found = some()
    one = found.listings["made"]

    def read(rows: np.ndarray) -> zoo.Weights:
        vectors = one.read(rows).vectors
        vectors[rows == 7, 2] = np.nan
        return zoo.Weights(vectors, {})

    found = found._replace(listings={"made": replace(one, read=read)})
    entry = zoo.notes(zoo.import_zoo(found, tmp_path / "zoo", RECIPE))
    ((name, why),) = entry["problems"]
    assert name == one.ids[7]
    assert "weights should be finite in float32, got 1 values" in why


def test_bytes_do_not_depend_on_memory_or_process(tmp_path: Path) -> None:
    """Hashes differ between processes, and with them the order of protobuf maps."""
    first = contents(zoo.import_zoo(some(), tmp_path / "a", RECIPE))
    second = contents(zoo.import_zoo(some(), tmp_path / "b", RECIPE, memory=1))
    assert first == second
    code = (
        "import sys; from pathlib import Path; from qejax import zoo;"
        "from qejax.zoo import _shards; _shards.SHARD_NETWORKS = 5;"
        "from tests.zoo.test_import import some, RECIPE;"
        "zoo.import_zoo(some(), Path(sys.argv[1]), RECIPE)"
    )
    for seed in ("1", "2"):
        out = tmp_path / f"other_{seed}"
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(out)],
            check=True,
            env=dict(os.environ) | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
        )
        assert contents(out) == first


@pytest.mark.parametrize("stop", [0, 2, 5])
def test_an_interrupted_import_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    want = contents(zoo.import_zoo(some(), tmp_path / "whole", RECIPE))
    real, calls = _import.write_part, []

    def interrupted(*args: Any) -> Any:
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(args)
        return real(*args)

    out = tmp_path / "zoo"
    monkeypatch.setattr(_import, "write_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        zoo.import_zoo(some(), out, RECIPE)
    assert not out.exists()
    monkeypatch.setattr(_import, "write_part", real)
    reports: list[zoo.ImportProgress] = []
    zoo.import_zoo(some(), out, RECIPE, progress=reports.append)
    assert sum(report.resumed for report in reports) == stop
    assert contents(out) == want
    # Once more: it is there.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    zoo.import_zoo(some(), out, RECIPE)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize("spoil", ["shard", "receipt", "receipt of other fields"])
def test_what_is_damaged_in_between_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    want = contents(zoo.import_zoo(some(), tmp_path / "whole", RECIPE))
    out = tmp_path / "zoo"
    unfinished(out, monkeypatch)
    partial = tmp_path / "zoo.partial"
    if spoil == "shard":
        path = sorted(partial.rglob("*train.array_record*"))[1]
        path.write_bytes(path.read_bytes()[:-7])
    else:
        path = partial / "receipts" / "made-train-00001.json"
        path.write_text("{" if spoil == "receipt" else '{"ids": 3}')
    reports: list[zoo.ImportProgress] = []
    zoo.import_zoo(some(), out, RECIPE, progress=reports.append)
    assert sum(not report.resumed for report in reports) == 1
    assert contents(out) == want


def test_what_a_killed_write_left_is_no_part_of_the_zoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = contents(zoo.import_zoo(some(), tmp_path / "whole", RECIPE))
    out = tmp_path / "zoo"
    unfinished(out, monkeypatch)
    shard = next((tmp_path / "zoo.partial").rglob("*.array_record*"))
    shard.with_name(f"{shard.name}.draft-99").write_bytes(b"half")
    assert contents(zoo.import_zoo(some(), out, RECIPE)) == want


def test_another_zoo_is_never_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = zoo.import_zoo(some(), tmp_path / "zoo", RECIPE)
    with pytest.raises(ValueError, match="holds another zoo: listing_sha256"):
        zoo.import_zoo(some(seed=1), out, RECIPE)
    with pytest.raises(ValueError, match=r"another zoo: import\.directory should be"):
        zoo.import_zoo(some(), out, {"import": {"format": "made", "directory": "b"}})
    other, source = tmp_path / "other", tmp_path / "file"
    source.write_text("a")
    unfinished(other, monkeypatch, files=[source])
    os.utime(source, (1, 1))
    with pytest.raises(ValueError, match="holds another zoo: files_sha256"):
        zoo.import_zoo(some(), other, RECIPE, files=[source])
    source.write_text("ab")
    with pytest.raises(ValueError, match="holds another zoo: contents_sha256"):
        zoo.import_zoo(some(), other, RECIPE, files=[source])
    shutil.rmtree(tmp_path / "other.partial")
    assert zoo.import_zoo(some(), other, RECIPE, files=[source]) == other


def test_a_recipe_is_compared_as_it_is_stored(tmp_path: Path) -> None:
    recipe = {"options": {"of": (1, 2)}}
    out = zoo.import_zoo(some(), tmp_path / "zoo", recipe)
    assert zoo.import_zoo(some(), out, recipe) == out
    assert recipe == {"options": {"of": (1, 2)}}


def test_a_finished_zoo_is_that_of_its_files(tmp_path: Path) -> None:
    """Networks that were trained again are others, however they are named."""
    out, source = tmp_path / "zoo", tmp_path / "file"
    source.write_text("a")
    zoo.import_zoo(some(), out, RECIPE, files=[source])
    os.utime(source, (1, 1))
    assert zoo.import_zoo(some(), out, RECIPE, files=[source]) == out
    moved = source.rename(tmp_path / "elsewhere")
    assert zoo.import_zoo(some(), out, RECIPE, files=[moved]) == out
    for text in ("b", None):
        moved.unlink() if text is None else moved.write_text(text)
        with pytest.raises(ValueError, match="holds another zoo: contents_sha256"):
            zoo.import_zoo(some(), out, RECIPE, files=[moved])


def test_what_cannot_be_imported(tmp_path: Path) -> None:
    everything = tuple(range(COUNT))
    with pytest.raises(
        ValueError, match=r"at least one network .* got 40 of which none can. file_"
    ):
        zoo.import_zoo(some(everything), tmp_path / "zoo", RECIPE)
    one = some().listings["made"]
    leaky = replace(one, split=np.resize(np.array([0, 2], np.int8), COUNT))
    # In one bucket, or in two.
    first, second = (
        replace(leaky, **{name: getattr(leaky, name)[part::2] for name in COLUMNS})
        for part in (0, 1)
    )
    for listings in ({"made": leaky}, {"a": first, "b": second}):
        found = some()._replace(listings=listings)
        with pytest.raises(ValueError, match="in one split, got run 'run_0' in two"):
            zoo.import_zoo(found, tmp_path / "zoo", RECIPE)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="found a folder without manifest"):
        zoo.import_zoo(some(), tmp_path / "full", RECIPE)
    (tmp_path / "empty").mkdir()
    assert (
        zoo.import_zoo(some(), tmp_path / "empty", RECIPE) / "manifest.json"
    ).exists()


def test_the_manifest_says_what_was_not_even_listed(tmp_path: Path) -> None:
    found = some()._replace(problems=(zoo.Problem("row 3", "no number"),))
    root = zoo.import_zoo(found, tmp_path / "zoo", RECIPE)
    manifest = json.loads((root / "manifest.json").read_text())
    assert manifest["config"]["not_listed"] == {
        "count": 1,
        "problems": [["row 3", "no number"]],
    }


def test_a_receipt_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where processes do not share a disk."""
    monkeypatch.setattr(_import, "_receipt", lambda path: None)
    text = "expected the receipt of a shard that was just written"
    with pytest.raises(ValueError, match=text):
        zoo.import_zoo(some(), tmp_path / "zoo", RECIPE)
