"""The table of derived specs: what the benchmark wrote, in a few columns."""

import json
from pathlib import Path

import pytest

from experiments import derived
from experiments.tables import BENCHMARKS, RESULTS, markdown


def test_the_table_is_of_what_was_measured() -> None:
    found = derived.summarise(BENCHMARKS)
    assert json.loads((RESULTS / "derived.json").read_text()) == found
    rows = derived.lines(found)
    assert len(rows) >= 15
    assert {row["function kept"] for row in rows} == {"yes"}
    for name, row in found["rows"].items():
        assert row["null"] - row["orbit"] == row["missing"] >= 0, name
    assert found["search"]["changed"] == []
    assert found["deep"]["layers"] == 100
    assert found["deep"]["seconds_median"] < 10
    text = markdown(found)
    assert f"{found['search']['kept']:,} keep their function to 1e-10" in text


def test_rows_without_counts_say_so() -> None:
    row = {
        "style": "linen",
        "parameters": 1234,
        "unit_spaces": {},
        "shifts": 0,
        "kept": False,
    }
    (line,) = derived.lines({"rows": {"a_net": row}})
    assert line["architecture"] == "a net"
    assert (line["unit spaces"], line["missing"]) == ("none", "-")
    assert (line["function kept"], line["parameters"]) == ("no", "1,234")


def test_a_question_that_was_not_asked_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"derived_architectures\.json"):
        derived.summarise(tmp_path)
