"""The CNN Wild Park: networks compute what theirs do, and damage is named."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import formats
from tests.zoo.formats.wild_park_directory import (
    CONFIGS,
    tensors_of,
    write_checkpoint,
    write_directory,
)


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


FUNCTIONS: dict[str, Any] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": _gelu,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
}


def _logits(config: dict[str, Any], of: dict[str, np.ndarray], x: np.ndarray) -> Any:
    """One image `[C, H, W]`, as PyTorch's layers are defined, in float64."""
    written: list[np.ndarray] = []
    for at, side in enumerate(config["kernel_size"]):
        pad, step = config["padding"][at], config["stride"][at]
        x = np.pad(x, [(0, 0), (pad, pad), (pad, pad)])
        weight = of[f"layers.{at}.weight"].astype(np.float64)
        high = (x.shape[1] - side) // step + 1
        y = np.zeros((len(weight), high, high))
        for i in range(high):
            for j in range(high):
                cut = x[:, i * step : i * step + side, j * step : j * step + side]
                y[:, i, j] = (weight * cut).sum((1, 2, 3))
        y = y + of[f"layers.{at}.bias"][:, None, None]
        source = config["residual"][at]
        if source >= 0:
            both = min(len(y), len(written[source]))
            y[:both] += written[source][:both]
        x = FUNCTIONS[config["activation"][at]](y)
        written.append(x)
    return of["fc.weight"] @ x.mean((1, 2)) + of["fc.bias"]


def test_networks_compute_what_theirs_do(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "park")
    found = formats.list_networks(f"cnn_wild_park:{root}")
    (listing,) = found.listings.values()
    assert listing.ids.tolist() == [f"run{n}" for n in range(5)]
    assert listing.places.tolist() == [0, 1, 2, 0, 1]
    assert listing.mixed
    assert len(listing.networks) == 3
    vectors, problems = listing.read(np.arange(5))
    assert not problems
    assert vectors.shape == (5, listing.width)
    image = np.random.default_rng(9).normal(size=(3, 9, 9))
    for run in range(5):
        network = listing.networks[listing.places[run]]
        cut = vectors[run, : network.spec.num_parameters].astype(np.float64)
        with jax.enable_x64(True):
            theta = zoo.from_vectors(network.spec, cut)
            got = network.apply(
                theta, jax.numpy.asarray(image.transpose(1, 2, 0)[None])
            )
        config = CONFIGS[run % 3]
        want = _logits(config, tensors_of(config, 100 * run + 2), image)
        np.testing.assert_allclose(np.asarray(got)[0], want, rtol=1e-10)
    accuracies = listing.labels["test_accuracy"]
    np.testing.assert_allclose(accuracies, [0.02, 0.12, 0.22, 0.32, 0.42], rtol=1e-6)
    assert listing.hyper["iteration"].tolist() == [2] * 5


def test_checkpoints_and_cut_offs_are_chosen(tmp_path: Path) -> None:
    address = f"cnn_wild_park:{write_directory(tmp_path / 'park')}"
    every = formats.list_networks(address, checkpoint="all").listings["cnns"]
    assert every.ids.tolist()[:3] == ["run0@1", "run0@2", "run1@1"]
    for run in range(5):
        assert len(set(every.split[every.runs == f"run{run}"].tolist())) == 1
    first = formats.list_networks(address, checkpoint="000001", cut_off=0.2)
    assert first.listings["cnns"].ids.tolist() == ["run2", "run3", "run4"]
    with pytest.raises(ValueError, match="expected checkpoint 7 of some run, got num"):
        formats.list_networks(address, checkpoint=7)
    zoos = formats.load(address)
    assert [len(one) for one in zoos.values()] == [2, 2, 1]
    assert list(zoos) == ["cnns_0000", "cnns_0001", "cnns_0002"]


def test_published_splits(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "park")
    address, how = f"cnn_wild_park:{root}", {"protocol": "faithful_neural_graphs"}
    with pytest.raises(ValueError, match=r"needs one file \*splits\*.json, got \[\]"):
        formats.list_networks(address, **how)

    def entries(*names: str) -> dict[str, Any]:
        paths = [f"../{name}/checkpoint.pt" for name in names]
        return {"path": paths, "score": [0.5] * len(names), "step": [1] * len(names)}

    a, b = "run0/checkpoint_000001", "run0/checkpoint_000002"
    splits = {"train": entries(a, b), "test": entries("run3/checkpoint_000002")}
    path = root / "my_splits_1.json"
    path.write_text(json.dumps(splits))
    found = formats.list_networks(address, **how)
    assert found.listings["cnns"].ids.tolist() == ["run0@1", "run0@2", "run3@2"]
    assert found.listings["cnns"].split.tolist() == [0, 0, 2]
    path.write_text(json.dumps({"training": entries(a)}))
    with pytest.raises(ValueError, match=r"with checkpoints in them, got .*training"):
        formats.list_networks(address, **how, split_file=path)


NAN = np.full((3, 5), np.nan, np.float32)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "channels": ({"config.channels": 4}, "config.channels should be a list of whole"),
    "large": ({"config.stride": [1 << 20]}, "config.stride should be a list of whole"),
    "layers": ({"config.channels": [3, 5, 5]}, "an entry for the images and for each"),
    "name": ({"config.activation": ["wave"]}, "config should describe a network, got"),
    "shape": ({"config.kernel_size": [5]}, r"floating numbers of shape \(5, 3, 5, 5\)"),
    "accuracy": ({"last_result.test/acc": 75.0}, r"an accuracy in \[0, 1\], got 75"),
    "iteration": ({"iteration": -1}, "iteration should be a whole number from 0, got"),
    "more": (
        {"tensors": {"norm.weight": NAN}},
        "'model.norm.weight' should be floating",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_damage_is_named_and_stops_no_other(tmp_path: Path, case: str) -> None:
    changes, message = BAD[case]
    write_checkpoint(tmp_path / "alone", 2, 1, **changes)
    with pytest.raises(
        ValueError, match=f"{message}.* No other checkpoint can be used"
    ):
        formats.list_networks(f"cnn_wild_park:{tmp_path / 'alone'}")
    root = write_directory(tmp_path / "park", 3, (1,))
    write_checkpoint(root, 2, 1, **changes)
    found = formats.list_networks(f"cnn_wild_park:{root}")
    assert [problem.name for problem in found.problems] == ["run2@1"]
    assert found.listings["cnns"].ids.tolist() == ["run0", "run1"]


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "park", 3, (1,))
    write_checkpoint(root, 2, 1, tensors={"fc.weight": NAN})
    found = formats.list_networks(f"cnn_wild_park:{root}")
    vectors, problems = found.listings["cnns"].read(np.arange(3))
    assert list(problems) == [2]
    assert "finite in float32" in problems[2]
    assert vectors[2].max() == 0 != vectors[1].max()
    with pytest.raises(ValueError, match="1 of 3 networks cannot be used: run2"):
        formats.load(f"cnn_wild_park:{root}")


def test_there_and_back(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "park")
    found = formats.list_networks(f"cnn_wild_park:{root}", checkpoint="all")
    want = found.listings["cnns"]
    out = formats.export(found, f"cnn_wild_park:{tmp_path / 'out'}")
    again = formats.list_networks(
        f"cnn_wild_park:{out}", protocol="faithful_neural_graphs"
    ).listings["cnns"]
    assert again.ids.tolist() == want.ids.tolist()
    np.testing.assert_array_equal(again.split, want.split)
    rows = np.arange(len(want))
    np.testing.assert_array_equal(again.read(rows).vectors, want.read(rows).vectors)
    np.testing.assert_array_equal(
        again.labels["test_accuracy"], want.labels["test_accuracy"]
    )
    assert [net.config for net in again.networks] == [n.config for n in want.networks]
    # A folder a file: formats of one architecture a bucket take them apart.
    files = formats.export(found, f"safetensors:{tmp_path / 'files'}")
    apart = formats.list_networks(f"safetensors:{files}").listings.values()
    assert sum(map(len, apart)) == 10
    assert len(apart) == 3


def test_what_a_wild_park_does_not_hold(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "park", 2)
    found = formats.list_networks(f"cnn_wild_park:{root}")
    one = found.listings["cnns"]
    address = f"cnn_wild_park:{tmp_path / 'out'}"
    other = replace(one, others=(nets.mlp((2, 3, 2)),), which=None)
    with pytest.raises(ValueError, match="networks of kind 'skip_cnn', got bucket"):
        formats.export(found._replace(listings={"cnns": other}), address)
    other = replace(one, runs=np.array(["../a", "b"]))
    with pytest.raises(ValueError, match="a run should be a name of a folder, got"):
        formats.export(found._replace(listings={"cnns": other}), address)
    with pytest.raises(
        ValueError, match="which should give each of 2 networks an arch"
    ):
        replace(one, which=np.array([0, 2]))
