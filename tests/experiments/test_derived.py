"""The table of derived specs: what the benchmark wrote, in a few columns."""

import json
from pathlib import Path

import pytest

from experiments import derived
from experiments.tables import BENCHMARKS, RESULTS

REQUIRED = (
    *("mlp_mixer", "resnet", "unet", "vae", "lstm", "gru_forecaster", "gemma", "gpt2"),
    *("vit", "squeeze_excite", "weight_norm_mlp", "top_k_experts"),
)
"""Kinds of architectures that a table without would be none."""


def test_the_table_is_of_what_was_measured() -> None:
    record = json.loads((RESULTS / "derived.json").read_text())
    assert record == derived.summarise(BENCHMARKS)
    rows, search, deep = (record[name] for name in ("rows", "search", "deep"))
    assert len(rows) >= 15
    assert {*REQUIRED} <= {*rows}
    assert all(row["kept"] for row in rows.values())
    for row in rows.values():
        assert row.get("null", 0) - row.get("orbit", 0) == row.get("missing", 0)
    assert (search["programs"], search["next"] - search["first"]) == (2000, 2000)
    assert search["changed"] == []
    assert search["kept"] + len(search["hidden"]) + len(search["refused"]) == 2000
    assert (deep["layers"], deep["seconds_median"] < 10) == (100, True)
    assert deep["table_lines"] <= 24


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
