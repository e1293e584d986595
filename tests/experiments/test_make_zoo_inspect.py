"""`make_zoo inspect` and `verify` where there is much, or something is wrong."""

import re
import shlex
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.make_zoo import histograms, inspecting, showing, verbs
from qejax import nets, zoo
from qejax.zoo import _shards
from qejax.zoo.formats import _table
from tests.zoo.random_zoo import random_zoo

NET = nets.mlp((3, 4, 2))


def call(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and output, with the line breaks of a narrow terminal taken out."""
    verb, *args = shlex.split(line)
    status = verbs.main(verb, args)
    return status, re.sub(r"\s+", " ", capsys.readouterr().out)


def folder(root: Path, table: str, count: int = 6) -> Path:
    """Networks as files, and what is known of them."""
    one = random_zoo(NET, count)
    made = zoo.store(root.with_name("stored"), {"made": one})
    zoo.formats.export(zoo.list_prepared(made), f"safetensors:{root}")
    (root / "labels.csv").write_text(table)
    return root


def lines(*cells: str) -> str:
    head, *others = cells
    rows = [f"net_{row},{cell}" for row, cell in enumerate(others)]
    return "\n".join([f"file,{head}", *rows, ""])


def damage(path: Path) -> str:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    return path.name


@pytest.mark.parametrize("classes", [2, 10, 25, 40, 41, 61, 100, 997])
def test_equally_frequent_classes_are_equally_high(classes: int) -> None:
    values = np.repeat(np.arange(classes), 3).astype(np.float32)
    bins = histograms.bins_of(values)
    assert bins.classes.sum() == classes
    assert len(bins.classes) <= histograms.MOST_CLASSES
    np.testing.assert_array_equal(histograms.heights(values, bins), 3)
    text = histograms.bars(values)
    assert text == "█" * len(bins.classes)
    assert len(text) == classes or classes > histograms.MOST_CLASSES
    # Steps are often multiples of one number.
    many = 20 * values + 40
    np.testing.assert_array_equal(histograms.heights(many, histograms.bins_of(many)), 3)


def test_a_rare_class_is_low_and_a_missing_one_a_gap() -> None:
    """A control: bars are no constants."""
    values = np.repeat([0.0, 1.0, 2.0, 4.0], [8, 4, 1, 8])
    assert histograms.bars(values) == "█▄▁ █"
    assert histograms.bars(np.full(3, 7.0)) == "█"


@pytest.mark.parametrize("values", [[0.0, 0.25, 0.5], [0.5, 0.5], [1e30, 2.0]])
def test_other_numbers_have_bins_of_equal_width(values: list[float]) -> None:
    bins = histograms.bins_of(np.array(values, np.float32))
    assert not bins.whole
    assert len(bins.classes) == histograms.BINS
    assert np.sum(histograms.heights(np.array(values, np.float32), bins)) == len(values)


def test_what_is_not_finite_is_left_out() -> None:
    assert histograms.bars(np.array([np.nan, 1.0, 2.0])) == "██"
    assert histograms.bars(np.array([np.nan])) == ""


def many_buckets(count: int) -> zoo.Found:
    zoos = {f"b{k:02d}": random_zoo(NET, 4 + k % 3, k) for k in range(count)}
    from qejax.zoo._listing import listed

    listings = {name: listed(one) for name, one in zoos.items()}
    return zoo.Found(listings, (), "clean", "")


def test_few_buckets_are_side_by_side_and_many_together() -> None:
    for count in (histograms.MOST_BUCKETS, histograms.MOST_BUCKETS + 1):
        found = many_buckets(count)
        ((label, parts),) = histograms.columns_of(found).items()
        assert label == "test_accuracy"
        together = count > histograms.MOST_BUCKETS
        assert list(parts) == (["9 buckets"] if together else list(found.listings))
        total = sum(map(len, found.listings.values()))
        assert sum(map(len, parts.values())) == total


def test_many_buckets_and_many_labels_are_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[Any] = []
    whole = histograms.plot

    def plot(columns: Any, path: Path) -> None:
        drawn.append(list(columns))
        whole(columns, path)

    monkeypatch.setattr(inspecting, "plot", plot)
    found = many_buckets(20)
    labels = {f"l{k}_loss": np.arange(4.0, dtype=np.float32) for k in range(30)}
    first = found.listings["b00"]
    found.listings["b00"] = replace(first, labels={**first.labels, **labels})
    monkeypatch.setattr(inspecting, "listed", lambda *_: ({}, found))
    config = verbs.Inspect(picture=tmp_path / "a" / "b.png")
    looks = inspecting.run(config, Console())
    text = capsys.readouterr().out
    assert set(looks) == set(found.listings)
    assert "... 15 more" in text
    assert "20 buckets, test_accuracy:" in text
    assert "... and 19 more labels" in text
    assert "b02, mlp: widths 3-4-2" in text
    assert "b00, mlp" not in text
    assert len(text.splitlines()) < 40
    assert len(drawn) == 1
    assert config.picture.read_bytes()[:4] == b"\x89PNG"


def test_columns_that_are_no_labels_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = lines("test_acc,lr", *(f"0.{row},0.1" for row in range(6)))
    root = folder(tmp_path / "nets", table)
    picture = tmp_path / "a.png"
    for address in (root, f"safetensors:{root}"):
        status, text = call(f"inspect {address} --picture {picture}", capsys)
        assert status == 0
        assert "columns that are no labels: test_acc, lr" in text
        assert f"labels of labels.csv are {inspecting.RULE}" in text
        assert "no labels: nothing is drawn" in text
    assert not picture.exists()


def test_the_rule_for_labels_is_that_of_the_table() -> None:
    named = re.findall(r"'(\w+)'", inspecting.RULE)
    assert sorted(named) == sorted([*_table.ENDS, *_table.LABELS])
    assert _table.TABLE == inspecting.TABLE


def test_a_run_in_two_splits_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = ["train", "test", "train", "train", "val", "val"]
    cells = [f"r{row // 2},{code},0.5" for row, code in enumerate(split)]
    root = folder(tmp_path / "nets", lines("run,split,test_accuracy", *cells))
    line = f"inspect {root} --picture {tmp_path / 'a.png'}"
    status, text = call(line, capsys)
    assert status == 0
    summary = "6 networks of 3 training runs; split 'stored': train 3, val 2, test 1"
    assert summary in text
    assert "an import refuses these splits: " in text
    assert "got run 'r0' in two" in text
    status, text = call(f"import {root} {tmp_path / 'zoo'}", capsys)
    assert (status, "got run 'r0' in two" in text) == (2, True)
    # A control: splits that an import takes.
    status, text = call(f"{line} --protocol clean", capsys)
    assert (status, "refuses" in text) == (0, False)


def test_damaged_shards_are_counted_and_all_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_shards, "SHARD_NETWORKS", 5)
    root = zoo.store(tmp_path / "zoo", {"made": random_zoo(NET, 40)})
    line = f"inspect {root} --picture {tmp_path / 'a.png'}"
    whole = call(line, capsys)[1]
    assert "files are not as they were written" not in whole
    one, other, *_ = sorted(root.rglob("*train.array_record*"))
    names = [damage(one), other.name]
    other.unlink()
    status, text = call(line, capsys)
    assert status == 0
    assert "2 of 11 files are not as they were written; 10 of 40 networks" in text
    assert "30 networks of 30 training runs" in text
    assert "made, test_accuracy: " in text
    status, verified = call(f"verify {root}", capsys)
    assert status == 2
    assert "expected 11 files as they were written, got 2 that are not" in verified
    for name in names:
        assert name in text
        assert name in verified
    monkeypatch.setattr(inspecting, "MOST_NAMES", 1)
    text = call(line, capsys)[1]
    assert "... and 1 more; `make_zoo verify` names all" in text
    for path in root.rglob("*array_record*"):
        path.unlink()
    status, text = call(line, capsys)
    assert (status, "no file that has networks is whole" in text) == (0, True)


def test_no_thread_draws_while_tfds_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "nets", lines("psnr", *"123456"))
    seen: list[set[threading.Thread]] = []
    whole = zoo.import_zoo

    def import_zoo(*args: Any, **options: Any) -> Path:
        seen.append(set(threading.enumerate()))
        return whole(*args, **options)

    monkeypatch.setattr(zoo, "import_zoo", import_zoo)
    before = set(threading.enumerate())
    assert call(f"import {root} {tmp_path / 'zoo'}", capsys)[0] == 0
    assert seen == [before]


def test_tables_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=box.SIMPLE)
    for _ in range(3):
        table.add_column("heading", no_wrap=True)
    table.add_row(*(letter * 40 for letter in "abc"))
    showing.print_table(Console(width=50), table)
    text = capsys.readouterr().out
    assert all(letter * 40 in text for letter in "abc")
    assert "…" not in text
