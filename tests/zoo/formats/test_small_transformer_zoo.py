"""The Small Transformer Zoo: read exactly, and every kind of damage named once."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax import zoo
from tests.zoo.formats.small_transformer_directory import (
    DIM,
    PATCHES,
    State,
    changed,
    state,
    table,
    write_directory,
)

load = zoo.formats.load_small_transformer_zoo


def _norm(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)


def _logits(of: State, image: np.ndarray) -> np.ndarray:
    """One image, as PyTorch's layers are defined, head by head and patch by patch."""
    conv, block = of["embedding.conv1.weight"], "encoder.0."
    patches = [image[i : i + 2, j : j + 2] for i in (0, 2) for j in (0, 2)]
    x = np.stack([(conv[:, 0] * patch).sum((1, 2)) for patch in patches])
    x = x + of["embedding.conv1.bias"] + of["embedding.pos_embedding"]
    q, k, v = (
        _norm(x) @ of[f"{block}attention.{name}.weight"].T
        for name in ("queries", "keys", "values")
    )
    heads = []
    for units in (slice(0, 2), slice(2, 4)):
        scores = np.exp(q[:, units] @ k[:, units].T / np.sqrt(DIM // 2))
        heads.append(scores / scores.sum(1, keepdims=True) @ v[:, units])
    out = of[f"{block}attention.out_projection.weight"]
    x = _norm(np.concatenate(heads, 1) @ out.T)
    x = np.maximum(x @ of[f"{block}fc1.weight"].T + of[f"{block}fc1.bias"], 0)
    x = x @ of[f"{block}fc2.weight"].T + of[f"{block}fc2.bias"]
    x = _norm(x).mean(0)
    x = np.maximum(x @ of["classifier.fc1.weight"].T + of["classifier.fc1.bias"], 0)
    return x @ of["classifier.fc2.weight"].T + of["classifier.fc2.bias"]


def test_networks_compute_what_theirs_do(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo")
    got = zoo.formats.load(f"small_transformer_zoo:{root}")["mnist"]
    assert got.ids.tolist() == [f"run{k}" for k in range(4)]
    images = np.random.default_rng(9).normal(size=(5, 4, 4)).astype(np.float32)
    x = jax.numpy.asarray(images)
    for row, line in enumerate((1, 3, 5, 7)):
        theta = jax.tree.map(lambda leaf, row=row: leaf[row], got.thetas)
        want = [_logits(state(line), image) for image in images]
        np.testing.assert_allclose(
            got.network.apply(theta, x), want, rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(got.labels["test_accuracy"], [0.1, 0.3, 0.5, 0.7])
    assert got.hyper["optimizer"].tolist() == ["adam"] * 4
    np.testing.assert_allclose(got.hyper["lr"], [0.01, 0.03, 0.05, 0.07])
    np.testing.assert_array_equal(got.split, zoo.split_networks(4, 0, (0.7, 0.15)))


def test_epochs_and_cut_offs_are_chosen(tmp_path: Path) -> None:
    # A checkpoint that is not kept is not opened.
    root = write_directory(tmp_path / "zoo", states={1: {}})
    np.testing.assert_allclose(
        load(root, "1", split_seed=3).labels["test_accuracy"], [0, 0.2, 0.4, 0.6]
    )
    got = load(root, cut_off=0.3)
    assert got.ids.tolist() == ["run1", "run2", "run3"]
    np.testing.assert_array_equal(got.split, zoo.split_networks(3, 0, (0.7, 0.15)))
    message = r"no checkpoint has ckpt_epoch '9'; there are \['1', '75'\]"
    with pytest.raises(ValueError, match=message):
        load(root, "9")
    with pytest.raises(
        ValueError, match=r"at least cut_off=0.8; the best of 4 has 0.7"
    ):
        load(root, cut_off=0.8)
    with pytest.raises(ValueError, match=r"cut_off should be in \[0, 1\], got 20"):
        load(root, cut_off=20)


def _with(row: int, name: str, value: Any) -> dict[int, State]:
    return {row: state(row) | {name: value}}


def _without(name: str) -> dict[int, State]:
    return {row: {k: v for k, v in state(row).items() if k != name} for row in (3, 7)}


ZEROS = np.zeros((DIM, DIM), np.float32)
QUERIES = "encoder.0.attention.queries.weight"
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "column missing": (
        {"lines": [{k: v for k, v in x.items() if k != "n_layers"} for x in table()]},
        r"mnist.csv: expected columns \['n_layers'\] as well, got \['optimizer'",
    ),
    "accuracy not finite": (
        {"lines": changed(3, test_top1_accuracy="nan")},
        r"mnist.csv, row 3: test_top1_accuracy should be in \[0, 1\], got nan",
    ),
    "accuracy no number": (
        {"lines": changed(3, test_top1_accuracy="")},
        "row 3: column test_top1_accuracy should hold numbers, got ''",
    ),
    "accuracy of another file": (
        {"lines": changed(3, test_top1_accuracy=0.31)},
        "row 3: test_top1_accuracy should be that of the file name 'run1_75_3000.pt'",
    ),
    "a path": (
        {"lines": changed(3, ckpt_file="../run1_75.pt")},
        "row 3: ckpt_file should be 'RUN_75_ACCURACY.pt', got '../run1_75.pt'",
    ),
    "epoch of another file": (
        {"lines": changed(3, ckpt_file="mnist/run1_1_2000.pt")},
        "row 3: ckpt_file should be 'RUN_75_ACCURACY.pt', got 'mnist/run1_1_2000.pt'",
    ),
    "a run twice": (
        {
            "lines": changed(
                5, ckpt_file="mnist/run1_75_3000.pt", test_top1_accuracy=0.3
            )
        },
        "row 5: run 'run1' has two checkpoints of epoch '75', the first in row 3",
    ),
    "a size that is none": (
        {"lines": changed(3, n_layers=1.5)},
        "row 3: n_layers should be a whole number from 1, got '1.5'",
    ),
    "two architectures": (
        {"lines": changed(3, n_layers=2)},
        "row 3: all networks of an epoch should have one arch.* 1 as most have, got 2",
    ),
    "no architecture": (
        {"lines": [line | {"n_attention_heads": 3} for line in table()]},
        r"columns \['image_size', .* should describe a network, .*divisor of dim=4",
    ),
    "tensor missing": (
        {"states": _without(QUERIES)},
        rf"3000.pt: expected the tensors .* got none called '{QUERIES}'. \(2 of 4",
    ),
    "tensor too many": (
        {"states": _with(3, "norm.weight", ZEROS)},
        r"a further one called 'norm.weight'. \(1 of 4 networks cannot be used: run1;",
    ),
    "tensor of another shape": (
        {"states": _with(3, QUERIES, ZEROS[1:])},
        rf"{QUERIES} should be floating numbers of shape \(4, 4\), got float32 of sha",
    ),
    "tensor of integers": (
        {"states": _with(3, QUERIES, ZEROS.astype(np.int64))},
        "should be floating numbers of .* got int64",
    ),
    "weights not finite": (
        {"states": _with(3, QUERIES, ZEROS + np.float32("nan"))},
        f"{QUERIES} should be finite in float32, got 16 values that",
    ),
    "weights beyond float32": (
        {"states": _with(3, QUERIES, ZEROS + np.float64(1e39))},
        "should be finite in float32, got 16 values that",
    ),
    "trained positions": (
        {"states": _with(3, "embedding.pos_embedding", np.ones((PATCHES, DIM)))},
        r"embedding should be the sines and cosines of .* a table that is 2 away",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_directories_are_named(tmp_path: Path, name: str) -> None:
    parts, message = BAD[name]
    root = write_directory(tmp_path / "zoo", **parts)
    with pytest.raises(ValueError, match=message):
        load(root)


def test_missing_and_damaged_files_are_named_and_counted(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo")
    (root / "mnist" / "run1_75_3000.pt").unlink()
    (root / "mnist" / "run3_75_7000.pt").write_bytes(b"PK\x03\x04torn")
    message = (
        r"run1_75_3000.pt: .*\(2 of 4 networks cannot be used: run1, run3; remove their"
    )
    with pytest.raises(ValueError, match=message):
        load(root)
    (root / "metadata" / "mnist.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"has a table .*mnist.csv .*; found no table"
    ):
        load(root)


ZOOS = Path(__file__).parents[4] / "shared" / "data" / "zoos"


def _right(got: zoo.Zoo) -> np.ndarray:
    """The share of the images that a directory was scored on."""
    with np.load(ZOOS / "mnist_test_first_1000.npz", allow_pickle=False) as file:
        images, labels = file["image"], file["label"]
    apply = jax.jit(got.network.apply)
    x = (images / 255).astype(np.float32)
    right = [
        (apply(zoo.from_vectors(got.network.spec, v), x).argmax(-1) == labels).sum()
        for v in got.vectors()
    ]
    return np.array(right, np.float32) / np.float32(len(labels))


@pytest.fixture
def real() -> Path:
    if not (ZOOS / "small_transformer_zoo").is_dir():
        pytest.skip("the shared Small Transformer Zoo is not beside the checkout")
    return ZOOS / "small_transformer_zoo"


def test_real_accuracies_are_those_of_the_weights(real: Path) -> None:
    """To the last image of those that PyTorch scored the networks on."""
    got = load(real)
    assert len(got) == 24
    assert np.bincount(got.split).tolist() == [16, 4, 4]
    some = got.take(np.arange(0, 24, 5))
    np.testing.assert_array_equal(_right(some), some.labels["test_accuracy"])


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "count"), [("75", 24), ("best1", 5)])
def test_all_real_accuracies(real: Path, epoch: str, count: int) -> None:
    got = load(real, epoch)
    assert len(got) == count
    np.testing.assert_array_equal(_right(got), got.labels["test_accuracy"])
