"""Fits of Fashion-MNIST, from the command line on, of a few images that TFDS holds."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from experiments.make_zoo import inr
from experiments.make_zoo.__main__ import parse
from experiments.make_zoo.inr_config import InrConfig
from experiments.make_zoo.inr_report import rendered
from qejax import zoo

COUNTS = {"train": 7, "test": 4}


def drawn(count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Images of one brightness each, forty times their label and a little noise."""
    rng = np.random.default_rng(count)
    for number in range(count):
        image = 40 * number + rng.integers(0, 5, (28, 28))
        # As a file: TFDS wants TensorFlow to encode an array.
        file = io.BytesIO()
        Image.fromarray(image.astype(np.uint8)).save(file, "PNG")
        file.seek(0)
        yield number, {"image": file, "label": number}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of TFDS with its own builder of Fashion-MNIST, without a download."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    builder: Any = tfds.builder(
        "fashion_mnist", data_dir=folder, file_format="array_record"
    )
    builder._split_generators = lambda *_: {k: drawn(n) for k, n in COUNTS.items()}
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return folder


def test_fits_of_fashion_mnist(prepared: Path, tmp_path: Path) -> None:
    sizes = "--train-signals 4 --val-signals 2 --test-signals 3 --hidden 8 8"
    fit = "--max-steps 200 --psnr 25 --chunk 12 --learning-rate 3e-3"
    where = ["--tfds", str(prepared), "--out", str(tmp_path)]
    task = ["--task", "inr", "inr_fashion"]
    name, config = parse([*task, *sizes.split(), *fit.split(), *where])
    assert name == "inr_fashion"
    assert isinstance(config, InrConfig)
    metrics = inr.run(config, name, "x", Console(file=io.StringIO()))
    counts = {split: entry["fits"] for split, entry in metrics["splits"].items()}
    assert counts == {"train": 4, "val": 2, "test": 3}
    fits = zoo.read(tmp_path / "zoo")
    shown = rendered(config.recipe(), fits, np.arange(len(fits)))
    # TFDS permutes what it prepares: a fit has the brightness of its own label.
    labels = np.rint((255 * shown.mean((1, 2, 3)) - 2) / 40)
    assert metrics["short"] == 0
    assert labels.tolist() == fits.labels["class"].tolist()
    assert len(set(fits.labels["class"][fits.split != 2].tolist())) == 6
    assert (tmp_path / "fits.png").is_file()
