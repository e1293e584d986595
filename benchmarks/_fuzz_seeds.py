"""Whole zoos, one small folder each, that the fuzz run damages."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.harness import ROOT
from qejax import nets, zoo
from qejax.zoo import formats
from tests.zoo.formats import (
    modelzoos_directory,
    small_cnn_augmented_directory,
    wild_park_directory,
)

FIXTURES = ROOT / "tests" / "zoo" / "files" / "fixtures"
LABELS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
COUNT = 4
OF_OTHERS = "_of_others"
"""Ends the names of seeds whose files other software wrote."""


def random_zoo(net: nets.Network) -> zoo.Zoo:
    """Returns networks that nobody trained, the same in every call."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(COUNT, net.spec.num_parameters)).astype(np.float32)
    return zoo.Zoo(
        network=net,
        thetas=zoo.from_vectors(net.spec, vectors),
        labels={name: rng.random(COUNT).astype(np.float32) for name in LABELS},
        hyper={"step": np.arange(COUNT)},
        split=zoo.split_networks(COUNT),
        source="fuzz",
        ids=np.array([f"net_{n}" for n in range(COUNT)]),
    )


def _fits(convention: str) -> zoo.Zoo:
    rules = zoo.CONVENTIONS[convention]
    net = nets.coordinate((2, 3, 1), offset=rules.offset, biases=rules.biases)
    hyper = {"signal": np.arange(COUNT), "copy": np.zeros(COUNT, int)}
    labels = {"class": np.arange(COUNT, dtype=np.float32)}
    return replace(random_zoo(net), hyper=hyper, labels=labels)


def _mlps() -> zoo.Zoo:
    return random_zoo(nets.mlp((3, 4, 2)))


def _transformers() -> zoo.Zoo:
    """Encoders as in the public zoo, which holds no others."""
    config = nets.TransformerConfig(
        dim=4,
        depth=1,
        heads=2,
        hidden=8,
        num_outputs=3,
        image=(4, 4, 1),
        patch=2,
        activation="relu",
        affine=False,
        residual=False,
        final_norm=True,
        attention_bias=False,
        position="sine",
        head_hidden=4,
        epsilon=1e-5,
    )
    return random_zoo(nets.build(config.to_dict()))


ZOOS: dict[str, Callable[[], zoo.Zoo]] = {
    "small_cnn_zoo": lambda: random_zoo(nets.cnn(1, (2, 3), 3, 2)),
    "small_transformer_zoo": _transformers,
    "nfn_siren": lambda: _fits("signed"),
    "dws_inr": lambda: _fits("unit"),
    "peft": lambda: random_zoo(nets.lora([("a", 3, 4, 2), ("b", 4, 3, 1)])),
    "safetensors": _mlps,
    "npz": _mlps,
    "msgpack": _mlps,
    "orbax": _mlps,
    "torch": _mlps,
}
"""Networks that a format holds, by the name of a format that has a writer."""

MADE: dict[str, Callable[[Path], Path]] = {
    "cnn_wild_park": wild_park_directory.write_directory,
    "modelzoos": modelzoos_directory.write_directory,
    "small_cnn_augmented": small_cnn_augmented_directory.directory,
}
"""What makes a directory, by the name of another format."""


def make_seeds(root: Path) -> Mapping[str, Path]:
    """Makes a folder for every format, one of single files, and a prepared zoo.

    Raises:
        ValueError: if a format has no row in `ZOOS` or `MADE`.
    """
    lacking = sorted(set(formats.FORMATS) - set(ZOOS) - set(MADE))
    if lacking:
        raise ValueError(f"benchmarks/_fuzz_seeds.py: no seed for formats {lacking}.")
    seeds = {}
    for name, row in ZOOS.items():
        found = zoo.Found({"a": _listed(row())}, (), "stored", "")
        seeds[name] = formats.export(found, f"{name}:{root / name}")
    for name, make in MADE.items():
        seeds[name] = make(root / name)
    shutil.copytree(FIXTURES, root / "files")
    seeds["files"] = root / "files"
    for name, ends in {"peft": "lora_*", "torch": "*.pt"}.items():
        seeds[name + OF_OTHERS] = folder = root / (name + OF_OTHERS)
        folder.mkdir()
        for path in sorted(FIXTURES.glob(ends)):
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, folder / path.name)
    seeds["prepared"] = zoo.store(root / "prepared", {"a": _mlps()})
    return seeds


def _listed(one: zoo.Zoo) -> zoo.Listing:
    vectors = one.vectors()
    return zoo.Listing(
        network=one.network,
        ids=one.ids,
        runs=one.ids,
        labels=one.labels,
        hyper=one.hyper,
        split=one.split,
        source=one.source,
        read=lambda rows: zoo.Weights(vectors[rows], {}),
    )
