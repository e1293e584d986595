"""Damaged files: either they are read, or an error of ours names the file."""

import random
import tracemalloc
import warnings
import zlib
from pathlib import Path

import pytest

from qejax.zoo.files import read_pickle, read_torch
from tests.zoo.files.make_fixtures import FIXTURES

ENDS = (".pt", ".pickle", "checkpoints")
NAMES = sorted(path.name for path in FIXTURES.iterdir() if path.name.endswith(ENDS))
TRIALS = 300


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with bytes flipped, cut off, moved, repeated or replaced."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place, other = (rng.randrange(len(damaged) + 1) for _ in range(2))
        match rng.randrange(6):
            case 0 | 1:
                damaged[place - 1 : place] = [rng.randrange(256)]
            case 2:
                damaged[place : place + 4] = rng.choice((b"\xff" * 4, bytes(4)))
            case 3:
                damaged[place:place] = damaged[other : other + rng.randrange(40)]
            case 4:
                del damaged[place : place + rng.randrange(40)]
            case _:
                damaged[place:] = b"" if rng.random() < 0.2 else damaged[place:]
                damaged = damaged or bytearray(b"N")
    return bytes(damaged)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.one_in(3)
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    read = read_pickle if name.endswith("pickle") else read_torch
    path = tmp_path / name
    rng = random.Random(zlib.crc32(name.encode()))
    read_at_all = 0
    errors = []
    tracemalloc.start()
    for trial in range(TRIALS):
        path.write_bytes(mutated(content, rng))
        ignore = ["optimizer"] if trial % 2 else []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # of zipfile: a name that is twice there
                read(path, fields_of=["CNNConfig"], ignore=ignore)
            read_at_all += 1
        except ValueError as error:
            errors.append(str(error))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not [error for error in errors if str(path) not in error]
    assert peak < 16 * 2**20
    assert [found.name for found in tmp_path.iterdir()] == [name]
    assert 0 < read_at_all < TRIALS
