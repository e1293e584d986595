"""The tables of devices and of faults: what the benchmarks wrote, in a few rows."""

import json
from pathlib import Path

import pytest

from experiments import scaling
from experiments.tables import BENCHMARKS, RESULTS, markdown


def test_the_tables_are_of_what_was_measured() -> None:
    found = scaling.summarise(BENCHMARKS)
    assert json.loads((RESULTS / "scaling.json").read_text()) == found
    faults = scaling.summarise_faults(BENCHMARKS)
    assert json.loads((RESULTS / "faults.json").read_text()) == faults
    table = scaling.lines(found)
    assert [row["devices"] for row in table[:4]] == ["1", "2", "4", "8"]
    parallel = [row for row in table if "model" not in row["training"]]
    sent = {(r["collectives a step"], r["sent, of the floor"]) for r in parallel[1:]}
    assert sent == {("1", "1.00 x")}
    text = markdown(found)
    assert "256 chips of TPU v5e: 64 networks a chip" in text
    assert "nothing here ran on a TPU" in text


def test_every_fault_has_a_row() -> None:
    record = scaling.summarise_faults(BENCHMARKS)
    rows = scaling.fault_lines(record)
    kills = [int(r["times"]) for r in rows if r["fault"].startswith("SIGKILL while")]
    assert sum(kills) >= 30
    by_name = {row["fault"]: row for row in rows}
    assert int(by_name["SIGTERM while training"]["times"]) >= 10
    assert int(by_name["a byte of a checkpoint"]["times"]) >= 10
    assert "a process of two killed" in by_name
    interval = record["checkpoint_interval_steps"]
    assert f"at most {2 * interval} steps" in scaling.fault_note(record)


def test_a_benchmark_that_was_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mesh\.json"):
        scaling.summarise(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"faults\.json"):
        scaling.summarise_faults(tmp_path)
