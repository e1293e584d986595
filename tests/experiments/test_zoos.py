"""What `--zoo` reads: a public directory gives a bucket for each activation in it."""

import dataclasses
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.predict_accuracy import zoos
from experiments.predict_accuracy.config import PRESETS, Config
from experiments.predict_accuracy.progress import Bars
from qejax import zoo
from tests.zoo.formats.small_cnn_directory import (
    metrics_table,
    some_weights,
    write_directory,
)


def test_a_zoo_is_trained_once_and_found_work_is_not_counted(tmp_path: Path) -> None:
    config = dataclasses.replace(
        PRESETS["smoke"][1], activations=("relu",), widths=(4,), zoos=tmp_path
    )
    spent = []
    for _ in range(2):
        with Bars(Console(quiet=True)) as bars:
            zoos.plan(config, bars)
            (bucket,) = zoos.load(config, bars)
        spent.append(bars.plan.spent)
        assert bars.plan.left == 0
        assert len(bucket.split) == config.networks
    assert spent[0] > 0
    assert spent[1] == 0


def test_a_public_directory_is_a_bucket_per_activation(tmp_path: Path) -> None:
    metrics = [
        line | {"modeldir": f"{line['modeldir']}_{copy}"}
        for copy in range(20)
        for line in metrics_table()
    ]
    weights = np.tile(some_weights(), (20, 1))
    root = write_directory(tmp_path / "zoo", weights, metrics=metrics)
    config = Config(zoo=f"small_cnn_zoo:{root}", out=tmp_path)
    with Bars(Console(quiet=True)) as bars:
        zoos.plan(config, bars)
        buckets = zoos.load(config, bars)
    sizes = {bucket.name: len(bucket.split) for bucket in buckets}
    assert sizes == {"relu": 60, "tanh": 20}
    for bucket in buckets:
        one = zoo.formats.load_small_cnn_zoo(root, bucket.name)
        assert bucket.split.tolist() == one.split.tolist()
        assert bucket.accuracies.tolist() == one.labels["test_accuracy"].tolist()
