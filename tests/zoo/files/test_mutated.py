"""Mutated files of every kind: read, or refused with a message that names the file."""

import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax.zoo import files

COUNT = 300
LIMIT = 100 * 2**20
KINDS = {"safetensors": {}, "npz": {}, "msgpack": {}, "orbax": {}}


def mutated(raw: bytes, rng: np.random.Generator) -> bytes:
    """Flipped bytes, a cut, a part that is there twice, or sizes that are large."""
    changed = bytearray(raw)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(changed)))
        match int(rng.integers(6)):
            case 0 | 1:
                changed[at] ^= 1 << int(rng.integers(8))
            case 2:
                changed[at] = int(rng.choice([0, 0x7F, 0x80, 0xFF, 0x39]))
            case 3:
                del changed[at : at + int(rng.integers(1, 9))]
            case 4:
                changed[at:at] = changed[at : at + int(rng.integers(1, 40))]
            case 5:
                changed[at : at + 4] = b"\xff\xff\xff\x7f"
        if not changed:
            break
    if rng.integers(10) == 0:
        del changed[int(rng.integers(len(changed) + 1)) :]
    return bytes(changed)


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_named(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole, path = tmp_path / "whole", tmp_path / "a"
    write: Any = files.FILES[kind].write
    tensors = {
        "net.0.weight": rng.normal(size=(3, 4)).astype("float32"),
        "net.0.bias": np.zeros(3, "float16"),
        "steps": np.arange(5),
    }
    write(whole, tensors, {"by": "me"})
    parts = [p for p in sorted(whole.rglob("*")) if p.is_file()] or [whole]
    parts = [p for p in parts if p.name != "commit_success.txt"]
    before = everything(tmp_path)
    refused = accepted = 0
    tracemalloc.start()
    for _ in range(COUNT):
        part = parts[int(rng.integers(len(parts)))]
        if whole.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(whole, path)
            target = path / part.relative_to(whole)
        else:
            target = path
        target.write_bytes(mutated(part.read_bytes(), rng))
        try:
            stored = files.FILES[kind].read(path)
        except ValueError as error:
            refused += str(path) in str(error)
        else:
            assert sum(x.nbytes for x in stored.tensors.values()) < LIMIT
            accepted += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LIMIT
    assert COUNT / 5 < refused < COUNT
    assert refused + accepted == COUNT
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert everything(tmp_path) == before
