"""The Small CNN Zoo: read exactly, and every kind of damage named once."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax import nets, zoo
from tests.zoo.formats.small_cnn_directory import (
    Table,
    layout_table,
    metrics_table,
    some_weights,
    with_cell,
    write_directory,
)


def test_networks_are_read_by_name(tmp_path: Path) -> None:
    got = zoo.formats.load(f"small_cnn_zoo:{write_directory(tmp_path / 'zoo')}")["relu"]
    rows = [1, 5, 7]
    assert got.network == nets.cnn(1, (2, 3), 3, 2, num_outputs=4)
    assert got.ids.tolist() == ["run_0", "run_2", "run_3"]
    assert got.hyper["step"].tolist() == [86, 86, 86]
    assert got.hyper["optimizer"].tolist() == ["adam"] * 3
    np.testing.assert_allclose(got.hyper["learning_rate"], 0.01 * np.array(rows))
    np.testing.assert_allclose(
        got.labels["test_accuracy"], 0.1 * np.array(rows), rtol=1e-6
    )
    weights = some_weights()[rows]
    np.testing.assert_array_equal(got.thetas["layer_00"]["bias"], weights[:, :2])
    np.testing.assert_array_equal(
        got.thetas["layer_01"]["kernel"], weights[:, 23:77].reshape(3, 3, 3, 2, 3)
    )
    np.testing.assert_array_equal(
        got.thetas["layer_02"]["kernel"], weights[:, 81:].reshape(3, 3, 4)
    )
    np.testing.assert_array_equal(got.split, zoo.split_networks(3))


def test_kernels_may_come_before_biases(tmp_path: Path) -> None:
    """The same networks with the tensors of every layer the other way round."""
    layout, order, start = layout_table(), [], 0
    for index in (1, 0, 3, 2, 5, 4):
        line = layout[index]
        size = line["end_idx"] - line["start_idx"]
        order.append(np.arange(line["start_idx"], line["end_idx"]))
        line |= {"start_idx": start, "end_idx": start + size}
        start += size
    other = write_directory(
        tmp_path / "b", some_weights()[:, np.concatenate(order)], layout
    )
    first = zoo.formats.load_small_cnn_zoo(write_directory(tmp_path / "a"))
    second = zoo.formats.load_small_cnn_zoo(other)
    np.testing.assert_array_equal(first.vectors(), second.vectors())


def test_steps_and_activations_are_chosen(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo")
    load = zoo.formats.load_small_cnn_zoo
    assert load(root, checkpoint=3).hyper["step"].tolist() == [3, 3, 3]
    tanh = load(root, "tanh")
    assert tanh.ids.tolist() == ["run_1"]
    assert {space.group for space in tanh.network.spec.spaces} == {"sign"}
    with pytest.raises(ValueError, match=r"step 9; there are .* steps \[3, 86\]"):
        load(root, checkpoint=9)
    assert load(root, cut_off=0.3).ids.tolist() == ["run_2", "run_3"]
    with pytest.raises(ValueError, match=r"test_accuracy of at least 0.8; there are"):
        load(root, cut_off=0.8)
    with pytest.raises(ValueError, match=r"no network has activation 'gelu'"):
        load(root, "gelu")
    with pytest.raises(ValueError, match=r"activation 'swoosh' is unknown"):
        load(root, "swoosh")


@pytest.mark.parametrize("name", ["weights.npy", "layout.csv", "metrics.csv.gz"])
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    root = write_directory(tmp_path / "zoo")
    (root / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        zoo.formats.load_small_cnn_zoo(root)


@pytest.mark.parametrize("name", ["weights.npy", "metrics.csv.gz"])
@pytest.mark.parametrize("kept", [0, 20, -60])
def test_truncated_files_are_named(tmp_path: Path, name: str, kept: int) -> None:
    path = write_directory(tmp_path / "zoo") / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"{name}: "):
        zoo.formats.load_small_cnn_zoo(path.parent)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    root = write_directory(tmp_path)
    (root / "metrics.csv.gz").write_bytes(b"no gzip")
    message = r"metrics.csv.gz: expected a gzipped table, got a file that cannot"
    with pytest.raises(ValueError, match=message):
        zoo.formats.load_small_cnn_zoo(root)


def test_a_layout_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = write_directory(tmp_path) / "layout.csv"
    path.write_bytes(path.read_bytes() + b"\xff")
    message = "layout.csv: expected a table in UTF-8, got a file that cannot be read"
    with pytest.raises(ValueError, match=message):
        zoo.formats.load_small_cnn_zoo(tmp_path)


def test_a_layout_with_an_endless_side_is_named(tmp_path: Path) -> None:
    path = write_directory(tmp_path) / "layout.csv"
    path.write_text(path.read_text().replace('"(3,', '"(1e999,', 1))
    with pytest.raises(ValueError, match="expected integers 'start_idx' and 'end_idx'"):
        zoo.formats.load_small_cnn_zoo(tmp_path)


def test_bytes_after_the_weights_are_named(tmp_path: Path) -> None:
    path = write_directory(tmp_path) / "weights.npy"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"more")
    message = f"{size} bytes, as its header says, got {size + 4}. Fetch the file again"
    with pytest.raises(ValueError, match=message):
        zoo.formats.load_small_cnn_zoo(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("end_idx", "start_idx", r"got \['start_idx'\] more than once"),
        ("bias:0,0,2,", "bias:0,0,2,7,", "row 0: expected 4 entries, .* got 5"),
        ('bias:0,0,2,"(2,)"', "bias:0,0", "row 0: expected 4 entries, .* got 2"),
    ],
)
def test_a_table_that_is_not_square_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = write_directory(tmp_path) / "layout.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=f"layout.csv.*{message}"):
        zoo.formats.load_small_cnn_zoo(tmp_path)


def test_weights_of_another_kind_are_named(tmp_path: Path) -> None:
    root = write_directory(tmp_path)
    np.save(root / "weights.npy", np.zeros((2, 3), np.int32))
    message = r"weights.npy: expected a floating array \[rows, weights\], got int32"
    with pytest.raises(ValueError, match=message):
        zoo.formats.load_small_cnn_zoo(root)


def test_an_archive_is_no_array(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo")
    with (root / "weights.npy").open("wb") as file:
        np.savez(file, some_weights())
    message = r"weights.npy: expected one array of numbers, got an archive of arrays"
    with pytest.raises(ValueError, match=message):
        zoo.formats.load_small_cnn_zoo(root)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo")
    np.save(root / "weights.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"weights.npy: expected a whole array"):
        zoo.formats.load_small_cnn_zoo(root)


def _spoilt() -> np.ndarray:
    weights = some_weights()
    weights[5, 7] = np.nan
    return weights


def _without(table: Table, name: str) -> Table:
    return [{k: v for k, v in line.items() if k != name} for line in table]


def _dense_only() -> Table:
    first, second = layout_table()[-2:]
    first |= {"start_idx": 0, "end_idx": 4}
    return [first, second | {"start_idx": 4, "end_idx": 16}]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "weights of one axis": (
        {"weights": some_weights()[0]},
        r"weights.npy: .*\[rows, weig",
    ),
    "weights not finite": (
        {"weights": _spoilt()},
        r"weights.npy, row 5: weights should be finite in float32, got 1 values",
    ),
    "weights beyond float32": (
        {"weights": np.where(np.arange(93) == 7, 1e39, some_weights().astype("f8"))},
        r"row 1: weights should be finite in float32, got 1 values .*\(3 of 3 networks "
        r"cannot be used: run_0, run_2, run_3; remove their rows",
    ),
    "rows missing in weights": (
        {"weights": some_weights()[:-1]},
        r"metrics.csv.gz: expected one line for each of 7 rows .* got 8",
    ),
    "rows missing in metrics": (
        {"metrics": metrics_table()[:-1]},
        r"metrics.csv.gz: expected one line for each of 8 rows .* got 7",
    ),
    "duplicate rows": (
        {"metrics": with_cell(metrics_table, 5, modeldir="run_0")},
        r"row 5: network 'run_0' at step 86 is there twice, first in row 1",
    ),
    "label above 1": (
        {"metrics": with_cell(metrics_table, 5, test_accuracy=34.0)},
        r"metrics.csv.gz, row 5: test_accuracy should be in \[0, 1\], got 34.0",
    ),
    "label not finite": (
        {"metrics": with_cell(metrics_table, 5, test_loss="nan")},
        r"row 5: test_loss should be in \[0, inf\], got nan",
    ),
    "label no number": (
        {"metrics": with_cell(metrics_table, 5, train_accuracy="good")},
        "row 5: train_accuracy should be a number, got 'good'",
    ),
    "step not finite": (
        {"metrics": with_cell(metrics_table, 5, step="nan")},
        "row 5: step should be a whole number from 0, got 'nan'",
    ),
    "step without end": (
        {"metrics": with_cell(metrics_table, 5, step="inf")},
        "row 5: step should be a whole number from 0, got 'inf'",
    ),
    "step between two": (
        {"metrics": with_cell(metrics_table, 5, step=8.5)},
        "row 5: step should be a whole number from 0, got '8.5'",
    ),
    "network without a name": (
        {"metrics": with_cell(metrics_table, 5, modeldir="")},
        "row 5: modeldir should name the network, got ''",
    ),
    "unknown activation": (
        {"metrics": with_cell(metrics_table, 2, **{"config.activation": "swoosh"})},
        "row 2: config.activation should be one of .* got 'swoosh'",
    ),
    "column missing": (
        {"metrics": _without(metrics_table(), "test_accuracy")},
        r"metrics.csv.gz: missing columns \['test_accuracy'\]",
    ),
    "layout with a gap": (
        {
            "layout": [
                line
                for line in layout_table()
                if "conv2d_1/bias" not in line["varname"]
            ]
        },
        "gap before sequential/conv2d_1/kernel: it should start at 20, .* got 23",
    ),
    "layout with an overlap": (
        {"layout": with_cell(layout_table, 2, start_idx=19, end_idx=22)},
        "overlap before sequential/conv2d_1/bias: it should start at 20, .* got 19",
    ),
    "layout too short": (
        {"layout": layout_table()[:-1]},
        "layout.csv: the tensors hold 81 weights, a row of weights.npy has 93",
    ),
    "layout with a wrong product": (
        {"layout": with_cell(layout_table, 1, shape="(3, 3, 1, 3)")},
        r"line 3: .*conv2d/kernel:0 spans 18 .* shape \(3, 3, 1, 3\) holds 27",
    ),
    "layout with code": (
        {"layout": with_cell(layout_table, 1, shape="__import__('os').getcwd()")},
        "line 3: expected integers .* and a tuple 'shape'",
    ),
    "layout with no number": (
        {"layout": with_cell(layout_table, 1, start_idx="two")},
        "line 3: expected integers 'start_idx'",
    ),
    "layout with an unknown name": (
        {"layout": with_cell(layout_table, 1, varname="sequential/norm/gamma:0")},
        "line 3: 'varname' should end in .* got 'sequential/norm/gamma:0'",
    ),
    "layout that does not chain": (
        {"layout": with_cell(layout_table, 3, shape="(3, 3, 3, 2)")},
        "each reading what the one before it writes",
    ),
    "layout without convolutions": (
        {"layout": _dense_only(), "weights": some_weights()[:, :16]},
        "layout.csv: expected convolutions of four axes and then a dense layer",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_directories_are_named(tmp_path: Path, name: str) -> None:
    parts, message = BAD[name]
    root = write_directory(tmp_path / "zoo", **parts)
    before = sorted(path.name for path in root.iterdir())
    with pytest.raises(ValueError, match=message):
        zoo.formats.load_small_cnn_zoo(root)
    assert sorted(path.name for path in root.iterdir()) == before


def test_bad_addresses_are_named() -> None:
    for address in ("hdf5:somewhere", "somewhere", "small_cnn_zoo:"):
        with pytest.raises(ValueError, match="expected FORMAT:DIRECTORY"):
            zoo.formats.load(address)


SHARED = Path(__file__).parents[4] / "shared" / "data"
REAL = SHARED / "zoos" / "small_cnn_zoo" / "cifar10_gs_relu"
IMAGES = SHARED / "tfds"


@pytest.fixture(scope="module")
def real() -> zoo.Zoo:
    if not REAL.is_dir():
        pytest.skip("the shared Small CNN Zoo directory is not beside the checkout")
    return zoo.formats.load_small_cnn_zoo(REAL)


def test_the_real_directory(real: zoo.Zoo) -> None:
    assert len(real) == 800
    assert real.network == nets.cnn(1, (16, 16, 16), 3, 2)
    assert np.bincount(real.split).tolist() == [480, 80, 240]
    accuracy = real.labels["test_accuracy"]
    assert 0.07 < accuracy.min() < 0.1
    assert 0.33 < accuracy.max() < 0.36


def test_real_accuracies_are_those_of_the_weights(real: zoo.Zoo) -> None:
    """On the images that the zoo was scored on; some networks, good ones among them."""
    if not (IMAGES / "cifar10").is_dir():
        pytest.skip("the shared CIFAR-10 images are not beside the checkout")
    import tensorflow_datasets as tfds

    source: Any = tfds.data_source(
        "cifar10",
        split="test",
        data_dir=IMAGES,
        download=False,
        builder_kwargs={"file_format": "array_record"},
    )
    records = [source[k] for k in range(len(source))]
    images = np.stack([r["image"] for r in records]).astype(np.float32)
    labels = np.array([r["label"] for r in records])
    grey = images @ np.array([0.299, 0.587, 0.114], np.float32)
    x = jax.numpy.asarray(((grey / 255 - 0.5) * 2)[..., None])
    best = np.argsort(real.labels["test_accuracy"])[-4:]
    some = real.take(np.concatenate([np.arange(4), best]))
    logits = jax.jit(jax.vmap(some.network.apply, (0, None)))(some.thetas, x)
    got = (np.asarray(logits).argmax(-1) == labels).mean(1)
    # A logit or two of 2,000 ties differently in other arithmetic.
    np.testing.assert_allclose(got, some.labels["test_accuracy"], atol=2.1e-3)
    assert got.max() > 0.3


def test_a_header_of_weights_that_is_no_literal(tmp_path: Path) -> None:
    """NumPy's parser has errors of its own, found by the fuzz run."""
    root = write_directory(tmp_path / "zoo")
    path = root / "weights.npy"
    path.write_bytes(path.read_bytes().replace(b"}", b" ", 1))
    with pytest.raises(ValueError, match=r"weights.npy: expected a whole array of num"):
        zoo.formats.load_small_cnn_zoo(root)
