"""What `--zoo` reads: a public directory gives a bucket for each activation in it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.predict_accuracy import zoos
from experiments.predict_accuracy.buckets import Bucket
from experiments.predict_accuracy.config import PRESETS, Config
from experiments.predict_accuracy.progress import Bars
from qejax import zoo
from tests.zoo.formats.small_cnn_directory import (
    metrics_table,
    some_weights,
    write_directory,
)
from tests.zoo.formats.small_transformer_directory import (
    write_directory as transformers,
)


def _load(config: Config) -> tuple[list[Bucket], float]:
    """The buckets, and the seconds that they took."""
    with Bars(Console(quiet=True)) as bars:
        zoos.plan(config, bars)
        buckets = zoos.load(config, bars)
    assert bars.plan.left == 0
    return buckets, bars.plan.spent


def test_a_zoo_is_trained_once_and_found_work_is_not_counted(tmp_path: Path) -> None:
    config = dataclasses.replace(
        PRESETS["smoke"][1], activations=("relu",), widths=(4,), zoos=tmp_path
    )
    (bucket,), spent = _load(config)
    assert len(bucket.split) == config.networks
    assert spent > 0
    assert _load(config)[1] == 0
    (root,) = tmp_path.iterdir()
    least = float(np.median(bucket.accuracies))
    (kept,), _ = _load(dataclasses.replace(config, zoo=str(root), cut_off=least))
    better = bucket.accuracies[bucket.accuracies >= least]
    assert kept.accuracies.tolist() == better.tolist()
    assert kept.split.tolist() == zoo.split_networks(len(better)).tolist()


def test_a_public_directory_is_a_bucket_per_activation(tmp_path: Path) -> None:
    metrics = [
        line | {"modeldir": f"{line['modeldir']}_{copy}"}
        for copy in range(20)
        for line in metrics_table()
    ]
    weights = np.tile(some_weights(), (20, 1))
    root = write_directory(tmp_path / "zoo", weights, metrics=metrics)
    config = Config(zoo=f"small_cnn_zoo:{root}", out=tmp_path)
    buckets, _ = _load(config)
    sizes = {bucket.name: len(bucket.split) for bucket in buckets}
    assert sizes == {"relu": 60, "tanh": 20}
    for bucket in buckets:
        one = zoo.formats.load_small_cnn_zoo(root, bucket.name)
        assert bucket.split.tolist() == one.split.tolist()
        assert bucket.accuracies.tolist() == one.labels["test_accuracy"].tolist()
    (better,), _ = _load(dataclasses.replace(config, cut_off=0.5))
    # 0.1 and 0.3 are left out, and the tanh networks with them.
    assert better.name == "relu"
    assert better.split.tolist() == zoo.split_networks(40).tolist()


def test_the_digest_of_a_directory_is_that_of_its_files(tmp_path: Path) -> None:
    root = transformers(tmp_path / "zoo")
    config = Config(zoo=f"small_transformer_zoo:{root}", out=tmp_path)
    before = zoos.digest(config)
    (root / "mnist" / "run1_75_3000.pt").write_bytes(b"other")
    assert zoos.digest(config) != before


@pytest.mark.parametrize(
    ("place", "preset"),
    [(PRESETS["transformers_digits"][1].zoo, "transformers_digits"), ("no", "PRESET")],
)
def test_a_zoo_that_is_missing_is_told_how_to_make(
    place: str, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError,
        match=rf"--zoo {place}: .* `python -m experiments.make_zoo {preset}`",
    ):
        _load(Config(zoo=place, out=tmp_path))
