"""The fuzz run in short, and what it would say of a reader that runs what it reads."""

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import _fuzz_case as cases
from benchmarks import fuzz_formats
from benchmarks._fuzz_mutators import MUTATORS
from benchmarks._fuzz_seeds import make_seeds
from qejax import zoo
from qejax.zoo import formats

NUMBERS = range(2 * 17 * len(MUTATORS))


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Any:
    sandbox = tmp_path_factory.mktemp("fuzz") / "sandbox"
    sandbox.mkdir()
    # A hook cannot be taken off again: it hears nothing once `on` is false.
    return sandbox, cases.Watch(sandbox / "out")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_seeds(tmp_path_factory.mktemp("seeds"))


def test_every_format_has_a_seed(seeds: Any) -> None:
    assert set(formats.FORMATS) < set(seeds)


def test_damaged_files_are_read_or_refused(seeds: Any, watch: Any) -> None:
    sandbox, hears = watch
    # What is imported late is imported now: that runs code, of libraries.
    for name, path in seeds.items():
        with contextlib.suppress(*cases.CLEAR):
            cases.reader_of(name)(path, None)
    outcomes = []
    for number in range(0, len(NUMBERS), 2):
        name, mutator = cases.damage(seeds, sandbox, number, seed=1)
        said = cases.judge(cases.reader_of(name), sandbox, hears, False)
        assert said["outcome"] != "failed", (name, mutator, number, said["why"])
        outcomes.append(said["outcome"])
    assert {"read", "refused"} <= set(outcomes)


class Touch:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def _unpickles(folder: Path, out: Path | None) -> None:
    del out
    pickle.loads((folder / "a.pickle").read_bytes())


def _writes(folder: Path, out: Path | None) -> None:
    del out
    (folder.parent / "elsewhere.txt").write_text("")


def _crashes(folder: Path, out: Path | None) -> None:
    raise RuntimeError(str(folder))


def _says_nothing(folder: Path, out: Path | None) -> None:
    raise ValueError("bad file")


@pytest.mark.parametrize("broken", [_unpickles, _writes, _crashes, _says_nothing])
def test_broken_readers_are_caught(watch: Any, broken: Any) -> None:
    """A control: an oracle that approves of these approves of everything."""
    sandbox, hears = watch
    case = sandbox / "case"
    case.mkdir(exist_ok=True)
    data = pickle.dumps(Touch(sandbox / "sentinel"))
    (case / "a.pickle").write_bytes(data)
    said = cases.judge(broken, sandbox, hears, False)
    assert said["outcome"] == "failed", said
    (sandbox / "elsewhere.txt").unlink(missing_ok=True)
    if (sandbox / "sentinel").exists():
        (sandbox / "sentinel").rmdir()


def test_a_case_that_ends_or_hangs_its_process_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pipe:
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        def send(self, number: int) -> None: ...

        def poll(self, seconds: float) -> bool:
            return self.answer is not None

        def recv(self) -> Any:
            raise self.answer

    class Process:
        def kill(self) -> None: ...

        def join(self) -> None: ...

    monkeypatch.setattr(fuzz_formats.Worker, "start", lambda self: None)
    for answer, why in ((EOFError(), "the process died"), (None, "no answer within")):
        worker = fuzz_formats.Worker(tmp_path, 0)
        worker.pipe, worker.process, worker.base = Pipe(answer), Process(), 0  # type: ignore[assignment]
        said = worker.run(3)
        assert said["outcome"] == "failed"
        assert why in said["why"]


def test_memory_of_a_case_is_seen_after_it_is_given_back() -> None:
    size = 200 << 20
    cases.restart_peak()
    before = cases.peak()
    np.ones(size, np.uint8)
    assert cases.peak() - before > size // 2
    cases.restart_peak()
    assert cases.peak() - before < size // 2


def test_features_of_other_classes_are_never_imported(tmp_path: Path) -> None:
    """TFDS imports the class of a feature by its name, before anything is checked."""
    from qejax import nets
    from tests.zoo.random_zoo import random_zoo

    root = zoo.store(tmp_path / "zoo", {"a": random_zoo(nets.mlp((2, 2)), 5)})
    (path,) = root.rglob("features.json")
    text = path.read_text()
    changed = text.replace(
        "tensorflow_datasets.core.features.scalar.Scalar", "antigravity.Feature"
    )
    assert changed != text
    path.write_text(changed)
    with pytest.raises(ValueError, match="which was not imported"):
        zoo.read(root, verify=False)
    path.write_text("{")
    with pytest.raises(ValueError, match="expected the features of records in JSON"):
        zoo.read(root, verify=False)
    path.write_text(text)
    shard = next(root.rglob("*train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ValueError, match="expected records as they were written, got"):
        zoo.read(root, verify=False)
