"""The table of derived specs: what the benchmark wrote, in a few columns."""

from pathlib import Path

import pytest

from experiments import derived


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
