"""What the faults are counted by."""

import random
from pathlib import Path

from benchmarks import _fault_kinds as kinds
from benchmarks import faults
from benchmarks._fault_processes import Job, last_number


def test_the_last_number_that_was_told() -> None:
    assert last_number(["step 1", "networks 9", "step 20", "{}"], "step ") == 20
    assert last_number(["networks 9"], "step ") == 0


def test_one_byte_is_changed(tmp_path: Path) -> None:
    path, before = tmp_path / "a", bytes(range(50))
    for seed in range(20):
        path.write_bytes(before)
        kinds.flip(path, random.Random(seed))
        after = path.read_bytes()
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_a_fault_that_is_not_as_promised_is_counted() -> None:
    good = {"right": True, "numbers": True, "lost": 20, "said": True}
    bad = {"right": False, "numbers": True, "lost": 60, "said": True}
    rows = faults.counted({"kills": [good, bad], "flips": [{**good, "outcome": "x"}]})
    assert rows["kills"]["faults"] == 2
    assert rows["kills"]["as_promised"] == 1
    assert rows["kills"]["most_steps_lost"] == 60
    assert rows["kills"]["over_one_interval"] == 1
    assert rows["flips"]["outcomes"] == {"x": 1}
    assert "kills" in faults.table(rows)


def test_the_newest_checkpoint_that_is_whole(tmp_path: Path) -> None:
    assert kinds.newest(tmp_path) == 0
    for name in ("20", "40", f"60{kinds.PART}"):
        (tmp_path / "ckpt" / name).mkdir(parents=True)
    assert kinds.newest(tmp_path) == 40


def test_a_job_is_watched(tmp_path: Path) -> None:
    job = Job(["-c", "print('step 3'); print('no end', end='')"], tmp_path)
    assert not job.wait_until(lambda: False)
    assert job.lines() == ["step 3"]
    ended = job.end()
    assert (ended.status, ended.out, ended.step()) == (0, ["step 3", "no end"], 3)
