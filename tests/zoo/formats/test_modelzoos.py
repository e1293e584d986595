"""Zoos of modelzoos.cc: networks compute what theirs do, and damage is named."""

import math
import random
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax import zoo
from qejax.zoo import formats
from tests.zoo.formats.modelzoos_directory import (
    SHAPES,
    tensors_of,
    write_directory,
    write_model,
)

FUNCTIONS: dict[str, Any] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leakyrelu": lambda x: np.where(x > 0, x, 0.01 * x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "identity": lambda x: x,
}


def _conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    side = weight.shape[-1]
    high = x.shape[1] - side + 1
    y = np.zeros((len(weight), high, high))
    for i in range(side):
        for j in range(side):
            cut = x[:, i : i + high, j : j + high]
            y += np.einsum("oc,chw->ohw", weight[:, :, i, j].astype(np.float64), cut)
    return y + bias[:, None, None]


def _logits(of: dict[str, np.ndarray], sigma: Any, x: np.ndarray) -> np.ndarray:
    """One image `[C, H, W]`, as PyTorch's layers are defined, in float64."""
    layers = [
        (of[name].astype(np.float64), of[name.replace("weight", "bias")])
        for name in of
        if name.endswith("weight")
    ]
    for number, (weight, bias) in enumerate(layers[:3]):
        x = _conv(x, weight, bias)
        if number < 2:
            half = x.shape[1] // 2
            x = x[:, : 2 * half, : 2 * half].reshape(len(x), half, 2, half, 2)
            x = x.max((2, 4))
        x = sigma(x)
    hidden = sigma(layers[3][0] @ x.reshape(-1) + layers[3][1])
    return layers[4][0] @ hidden + layers[4][1]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_networks_compute_what_theirs_do(tmp_path: Path, name: str) -> None:
    address = f"modelzoos:{write_directory(tmp_path / 'zoo', 2, name)}"
    (listing,) = formats.list_networks(address).listings.values()
    vectors, problems = listing.read(np.arange(2))
    assert not problems
    images = np.random.default_rng(9).normal(size=(2, 28, 28))
    for row in range(2):
        with jax.enable_x64(True):
            spec = listing.network.spec
            theta = zoo.from_vectors(spec, vectors[row].astype(np.float64))
            got = listing.network.apply(theta, jax.numpy.asarray(images[..., None]))
        of = tensors_of(10 * row + 5)
        want = [_logits(of, FUNCTIONS[name], image[None]) for image in images]
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-10)


def test_labels_hyper_and_epochs(tmp_path: Path) -> None:
    address = f"modelzoos:{write_directory(tmp_path / 'zoo')}"
    one = formats.list_networks(address).listings["cnns"]
    assert one.ids.tolist() == ["NN_0", "NN_1", "NN_2", "NN_3"]
    accuracies = one.labels["test_accuracy"]
    np.testing.assert_allclose(accuracies, [0.05, 0.15, 0.25, 0.35], rtol=1e-6)
    assert one.labels["train_loss"].tolist() == [1.25] * 4
    assert one.hyper["model::nlin"].tolist() == ["tanh"] * 4
    np.testing.assert_allclose(one.hyper["optim::lr"], [0, 0.01, 0.02, 0.03])
    assert one.hyper["epoch"].tolist() == [5] * 4
    every = formats.list_networks(address, checkpoint="all").listings["cnns"]
    assert every.ids.tolist()[:3] == ["NN_0@0", "NN_0@5", "NN_1@0"]
    for name in ("NN_0", "NN_3"):
        assert len(set(every.split[every.runs == name].tolist())) == 1
    first = formats.list_networks(address, checkpoint="0", cut_off=0.15)
    assert first.listings["cnns"].ids.tolist() == ["NN_2", "NN_3"]
    with pytest.raises(ValueError, match=r"of epoch 7, got those of \[0, 5\]"):
        formats.list_networks(address, checkpoint=7)


def test_published_split_does_not_depend_on_damage(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo", 10)
    how: dict[str, Any] = {"protocol": "faithful_sane"}
    whole = formats.list_networks(f"modelzoos:{root}", **how).listings["cnns"]
    order = list(range(10))
    random.Random(42).shuffle(order)
    want = [order.index(n) for n in range(10)]
    codes = [0 if at < 7 else 1 if at < 8 else 2 for at in want]
    assert whole.split.tolist() == codes
    (root / "NN_4" / "result.json").unlink()
    found = formats.list_networks(f"modelzoos:{root}", **how)
    assert [problem.name for problem in found.problems] == ["NN_4"]
    assert found.listings["cnns"].split.tolist() == codes[:4] + codes[5:]


def test_dropout_shifts_numbers_and_images_may_be_larger(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo", 1)
    numbers = dict(zip(SHAPES, (0, 4, 8, 12, 15), strict=True))
    shifted = tensors_of(5, {numbers[n]: shape for n, shape in SHAPES.items()})
    # Layers in the order of the file do not count, their numbers do.
    write_model(root, 1, tensors=dict(reversed(shifted.items())))
    # 32 pixels, three colours, pooled three times.
    large = {0: (8, 3, 3, 3), 3: (6, 8, 3, 3), 6: (4, 6, 3, 3), 9: (20, 16)}
    write_model(root, 2, tensors=tensors_of(5, large | {11: (10, 20)}))
    found = formats.list_networks(f"modelzoos:{root}")
    small, other = found.listings.values()
    assert small.ids.tolist() == ["NN_0", "NN_1"]
    vectors = small.read(np.arange(2)).vectors
    np.testing.assert_array_equal(vectors[0], vectors[1])
    config: Any = other.network.config
    assert (config.image, config.pools, config.in_channels) == ((32, 32), (2, 2, 2), 3)
    assert list(found.listings) == ["cnns_00", "cnns_01"]


NORM = {"bn1.weight": np.ones(3, np.float32)}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "resnet": ({"tensors": NORM}, "and .bias of a small CNN, got 'bn1.weight'"),
    "layers": (
        {"tensors": tensors_of(0, {0: (8, 1, 5, 5), 3: (10, 8)})},
        "the kernels of three convolutions and two dense layers, got shapes",
    ),
    "name": ({"nonlinearity": "wave"}, "model::nlin should be one of"),
    "inputs": (
        {"tensors": tensors_of(0, SHAPES | {9: (20, 35)})},
        "expected the first dense layer to read a map of images of side",
    ),
    "no accuracy": ({"test_acc": math.nan}, "test_acc and finite numbers from 0, got"),
    "diverged": ({"train_loss": math.inf}, "test_acc and finite numbers from 0, got"),
}


@pytest.mark.parametrize("case", BAD)
def test_damage_is_named_and_stops_no_other(tmp_path: Path, case: str) -> None:
    changes, message = BAD[case]
    write_model(tmp_path / "alone", 2, **changes)
    with pytest.raises(ValueError, match=rf"{message}.* No other model can be used"):
        formats.list_networks(f"modelzoos:{tmp_path / 'alone'}")
    root = write_directory(tmp_path / "zoo", 2)
    write_model(root, 2, **changes)
    found = formats.list_networks(f"modelzoos:{root}")
    assert [problem.name for problem in found.problems] == ["NN_2"]
    assert found.listings["cnns"].ids.tolist() == ["NN_0", "NN_1"]


def test_per_cent_is_refused(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo", 2)
    write_model(root, 2, test_acc=75.0)
    with pytest.raises(ValueError, match=r"a share in \[0, 1\], not per cent, got"):
        formats.list_networks(f"modelzoos:{root}")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo", 2)
    bias = np.full(10, np.nan, np.float32)
    write_model(root, 2, tensors=tensors_of(0) | {"module_list.11.bias": bias})
    found = formats.list_networks(f"modelzoos:{root}").listings["cnns"]
    assert list(found.read(np.arange(3)).problems) == [2]
    message = "weights of the network should be finite in float32, got 10"
    with pytest.raises(ValueError, match=message):
        formats.load(f"modelzoos:{root}")
