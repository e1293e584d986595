"""The augmented Small CNN Zoo: pairs of equal networks, and damage is named."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax import zoo
from qejax.zoo import formats
from qejax.zoo._listing import in_memory
from qejax.zoo.files import write_pickle
from tests.zoo.formats.small_cnn_augmented_directory import directory, layers, write


def test_pairs_compute_the_same(tmp_path: Path) -> None:
    found = formats.list_networks(f"small_cnn_augmented:{directory(tmp_path / 'zoo')}")
    assert list(found.listings) == ["relu_10", "tanh_1_1"]
    assert found.protocol == "faithful_monomial"
    one = found.listings["relu_10"]
    assert one.ids.tolist()[:3] == ["test_0", "test_1", "test_2"]
    assert one.runs.tolist()[:3] == ["test_0", "test_0", "test_1"]
    assert np.bincount(one.split).tolist() == [8, 2, 6]
    vectors, problems = one.read(np.arange(16))
    assert not problems
    images = jax.random.normal(jax.random.key(9), (2, 9, 9, 1))
    logits = [
        one.network.apply(zoo.from_vectors(one.network.spec, vector), images)
        for vector in vectors
    ]
    for a, b in zip(logits[::2], logits[1::2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert np.abs(np.asarray(logits[0]) - np.asarray(logits[2])).max() > 0.1
    assert np.abs(vectors[0] - vectors[1]).max() > 0.1
    tanh: Any = found.listings["tanh_1_1"].network.config
    assert tanh.activation == ("tanh", "tanh")


def test_networks_compute_what_theirs_do(tmp_path: Path) -> None:
    root = directory(tmp_path / "zoo")
    one = formats.list_networks(f"small_cnn_augmented:{root}").listings["relu_10"]
    kernels, biases = layers(3, 2)  # the test file is the first by name
    image = np.random.default_rng(9).normal(size=(1, 9, 9))
    x = image
    for kernel, bias in zip(kernels[:2], biases[:2], strict=True):
        high = (x.shape[1] - 3) // 2 + 1
        cuts = [
            [x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] for j in range(high)]
            for i in range(high)
        ]
        weight = kernel[4].astype("f4").astype(np.float64)
        x = np.einsum("ochw,ijchw->oij", weight, np.array(cuts))
        x = np.maximum(x + bias[4].astype("f4")[:, None, None], 0)
    want = kernels[2][4].astype("f4") @ x.mean((1, 2)) + biases[2][4].astype("f4")
    vector = one.read(np.array([4])).vectors[0].astype(np.float64)
    with jax.enable_x64(True):
        theta = zoo.from_vectors(one.network.spec, vector)
        got = one.network.apply(theta, jax.numpy.asarray(image[0, None, :, :, None]))
    np.testing.assert_allclose(np.asarray(got)[0], want, rtol=1e-10)


def test_import_and_cut_off(tmp_path: Path) -> None:
    address = f"small_cnn_augmented:{directory(tmp_path / 'zoo')}"
    found = formats.list_networks(address, cut_off=0.5)
    root = zoo.import_zoo(found, tmp_path / "out", {})
    got = zoo.read(root, "relu_10")
    assert got.labels["test_accuracy"].min() >= 0.5
    assert len(got) == 4 + 4
    with pytest.raises(ValueError, match="protocol should be one of"):
        formats.list_networks(address, protocol="clean")


NAN = np.full((4, 3), np.nan, np.float32)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "accuracy": (
        {"accuracy_test_augmented": [0.5, 75.0]},
        "should be accuracies in .*, of pairs of networks, got 2 of which 1 are",
    ),
    "odd": (
        {"accuracy_test_augmented": [0.5]},
        "should be accuracies in .*, of pairs of networks, got 1 of which 1 are",
    ),
    "count": (
        {"accuracy_test_augmented": [0.5, 0.5]},
        "layer 0 should have a kernel that begins with",
    ),
    "axes": (
        {"weights_augmented__1": np.zeros((4, 5), np.float32)},
        "weights_augmented.1 should be floating numbers with 5 axes, got",
    ),
    "bias": (
        {"biases_augmented__1": np.zeros((4, 4), np.float32)},
        "layer 1 should have a kernel that begins with",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_damage_is_named_and_stops_no_other(tmp_path: Path, case: str) -> None:
    changes, message = BAD[case]
    write(tmp_path / "alone", "10_train", 2, 0, **changes)
    with pytest.raises(ValueError, match=f"{message}.* No other file can be used"):
        formats.list_networks(f"small_cnn_augmented:{tmp_path / 'alone'}")
    root = directory(tmp_path / "zoo")
    write(root, "10_val", 2, 0, **changes)
    found = formats.list_networks(f"small_cnn_augmented:{root}")
    names = [problem.name for problem in found.problems]
    assert names == ["augment_zoo_cifar_10_val.pickle"]
    assert len(found.listings["relu_10"]) == 14


def test_other_files(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    root.mkdir()
    address = f"small_cnn_augmented:{root}"
    with pytest.raises(FileNotFoundError, match="as an augmented Small CNN Zoo has"):
        formats.list_networks(address)
    path = root / "augment_zoo_cifar_10_train.pickle"
    write_pickle(path, {}, {"accuracy_test_augmented": [0.5, 0.5]})
    message = "should be kernels of convolutions and of a dense layer, got 0 arrays"
    with pytest.raises(ValueError, match=message):
        formats.list_networks(address)
    write(root, "10_train", 2, 0)
    write(root, "10_other", 2, 0)
    more = np.zeros((4, 6, 5), np.float32)
    bias = np.zeros((4, 6), np.float32)
    write(root, "10_val", 2, 0, weights_augmented__2=more, biases_augmented__2=bias)
    write(root, "10_test", 2, 0, biases_augmented__2=NAN)
    found = formats.list_networks(address)
    why = [problem.why for problem in found.problems]
    assert len(why) == 2
    assert "with a split of ['train', 'val', 'test'], got another name" in why[0]
    # The test file comes first, so that networks are as those in it.
    assert "expected networks as those in augment_zoo_cifar_10_test.pickle" in why[1]
    problems = found.listings["relu_10"].read(np.arange(8)).problems
    assert list(problems) == [0, 1, 2, 3]
    with pytest.raises(
        ValueError, match="finite in float32, got 3 values that are not"
    ):
        in_memory(found._replace(problems=()))
    (root / "augment_zoo_cifar_10_train.pickle").unlink()
    listing = formats.list_networks(address).listings["relu_10"]
    (root / "augment_zoo_cifar_10_test.pickle").write_bytes(b"")
    assert "as it was listed" in listing.read(np.arange(1)).problems[0]
