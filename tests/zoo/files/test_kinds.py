"""Kinds of files: found in folders, read by their names."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax.zoo import files

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = {"safetensors": "a.safetensors", "npz": "b.npz", "msgpack": "c.msgpack"}
NAMES |= {"orbax": "d"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind, name in NAMES.items():
        write: Any = files.FILES[kind].write
        write(tmp_path / "in" / name, {"net.bias": np.arange(3.0)}, {})
    return tmp_path


def test_every_kind_is_found_and_read(folder: Path) -> None:
    shutil.copytree(FIXTURES / "llama", folder / "llama")
    (folder / "link.npz").symlink_to(folder / "in" / "b.npz")
    (folder / "notes.txt").write_text("none")
    found = files.find_files(folder)
    index = folder / "llama" / "model.safetensors.index.json"
    expected = {folder / "in" / name: kind for kind, name in NAMES.items()}
    assert found == expected | {index: "safetensors_shards"}
    assert list(found) == sorted(found)
    assert {row for row in files.FILES if row not in found.values()} <= {"torch"}
    for path in expected:
        stored = files.read_file(path)
        np.testing.assert_array_equal(stored.tensors["net.bias"], np.arange(3.0))
    assert len(files.read_file(index).tensors) == 21


def test_unknown_kinds_are_named(folder: Path) -> None:
    path = folder / "a.txt"
    path.write_text("")
    with pytest.raises(ValueError, match="expected a file or folder of a kind of"):
        files.read_file(path)
    with pytest.raises(ValueError, match="expected at most 2 files of networks"):
        files.find_files(folder, limit=2)
