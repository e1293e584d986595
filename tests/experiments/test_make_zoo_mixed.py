"""`make_zoo` on a zoo of mixed architectures, as a user runs it."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from experiments.make_zoo import verbs, verifying
from qejax import zoo
from tests.zoo.formats.wild_park_directory import write_checkpoint, write_directory


def call(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    verb, *args = shlex.split(line)
    status = verbs.main(verb, args)
    found = capsys.readouterr()
    return status, " ".join((found.out + found.err).split())


def scored_park(root: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """A directory whose networks record what they do with these images."""
    write_directory(root, 5, (1,))
    zoos = zoo.formats.load(f"cnn_wild_park:{root}")
    for one in zoos.values():
        got = verifying.accuracies(one, images, labels, "[-1, 1]")
        for name, accuracy in zip(one.ids.tolist(), got.tolist(), strict=True):
            changes = {"last_result.test/acc": accuracy}
            write_checkpoint(root, int(name[3:]), 1, **changes)
    return root


def test_a_mixed_zoo_from_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 9, 9, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, 50)
    park = scored_park(tmp_path / "park", images, labels)
    np.savez(tmp_path / "images.npz", image=images, label=labels)
    picture = f"--picture {tmp_path / 'a.png'}"

    status, text = call(f"inspect {park} {picture}", capsys)
    assert status == 0
    assert "3 architectures, such as" in text
    assert "2 x skip_cnn: channels 3-4-6, windows 3-5" in text
    assert "0 networks cannot be used" in text
    out = tmp_path / "zoo"
    status, text = call(f"import {park} {out}", capsys)
    assert status == 0
    assert "left out" in text
    status, text = call(f"verify {out} --images {tmp_path / 'images.npz'}", capsys)
    assert status == 0, text
    assert "accuracies of 5 networks on 50 images in [-1, 1]" in text
    assert "largest 0.0e+00, 5 the same" in text
    status, text = call(f"inspect {out} {picture}", capsys)
    assert "3 architectures, such as" in text
    status, _ = call(f"export {out} cnn_wild_park:{tmp_path / 'back'}", capsys)
    assert status == 0
    # A control: other labels are not what was recorded.
    np.savez(tmp_path / "images.npz", image=images, label=(labels + 1) % 3)
    status, text = call(f"verify {out} --images {tmp_path / 'images.npz'}", capsys)
    assert status != 0
    assert "test accuracy should be as recorded" in text
