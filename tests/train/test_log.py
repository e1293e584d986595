"""The log keeps whole rows, in order, up to the step that a run goes on from."""

import json
from pathlib import Path

import pytest

from qejax.train._log import Log


def written(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_rows_after_the_restored_step_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path, None)
    for step in (0, 10, 20, 30):
        log.append({"step": step, "eval": {"x": 0.1 + 0.2}})
    resumed = Log(path, 20)
    assert resumed.rows == log.rows[:3]
    assert written(path) == [0, 10, 20]
    resumed.append({"step": 30})
    assert written(path) == [0, 10, 20, 30]


def test_a_new_run_begins_a_new_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    Log(path, None).append({"step": 0})
    assert Log(path, None).rows == []
    assert path.read_text() == ""


def test_a_torn_last_row_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0}\n{"step": 10, "tr')
    assert [row["step"] for row in Log(path, 10).rows] == [0]
    assert written(path) == [0]


@pytest.mark.parametrize("line", ["{broken", "[]", '{"x": 1}'])
def test_a_broken_row_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0}\n' + line + '\n{"step": 20}\n')
    with pytest.raises(ValueError, match=r"log.jsonl, line 2: expected a JSON object"):
        Log(path, 20)


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path, None)
    log.append({"step": 0, "eval": {"tau": float("nan"), "mae": 0.5}})
    assert log.rows == [{"step": 0, "eval": {"tau": None, "mae": 0.5}}]
    assert json.loads(path.read_text()) == log.rows[0]


def test_without_a_path_rows_stay_in_memory() -> None:
    log = Log(None, None)
    log.append({"step": 0})
    assert log.rows == [{"step": 0}]
