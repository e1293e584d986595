"""Listing a directory: what is wrong with one network is told, and stops no other."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax import zoo
from qejax.zoo import formats
from tests.zoo.formats.small_cnn_directory import (
    metrics_table,
    some_weights,
    with_cell,
    write_directory,
)
from tests.zoo.formats.small_transformer_directory import changed, state
from tests.zoo.formats.small_transformer_directory import (
    write_directory as write_transformers,
)
from tests.zoo.formats.test_fits import dws, nfn


def test_a_bad_row_stops_no_other(tmp_path: Path) -> None:
    weights = some_weights()
    weights[7, 3] = np.inf
    metrics = with_cell(metrics_table, 5, test_loss="nan")
    root = write_directory(tmp_path / "zoo", weights=weights, metrics=metrics)
    found = formats.list_networks(f"small_cnn_zoo:{root}")
    ((name, why),) = found.problems
    assert (name, "test_loss should be in" in why) == ("row 5", True)
    relu = found.listings["relu"]
    # The last good checkpoint of run_2 is the one before.
    assert relu.ids.tolist() == ["run_0", "run_2", "run_3"]
    assert relu.hyper["step"].tolist() == [86, 3, 86]
    read = relu.read(np.array([0, 2]))
    assert list(read.problems) == [1]
    assert "row 7: weights should be finite" in read.problems[1]
    kernel = zoo.from_vectors(relu.network.spec, read.vectors)["layer_00"]["kernel"]
    np.testing.assert_array_equal(kernel[0], weights[1, 2:20].reshape(3, 3, 1, 2))


def test_every_checkpoint_of_a_run_is_in_its_split(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo")
    found = formats.list_networks(f"small_cnn_zoo:{root}", checkpoint="all")
    relu = found.listings["relu"]
    assert relu.ids.tolist() == [
        f"run_{run}@{step}" for run in (0, 2, 3) for step in (3, 86)
    ]
    codes = relu.split.reshape(3, 2)
    np.testing.assert_array_equal(codes[:, 0], codes[:, 1])
    last = formats.list_networks(f"small_cnn_zoo:{root}").listings["relu"]
    np.testing.assert_array_equal(codes[:, 0], last.split)


def many(tmp_path: Path, count: int = 40) -> tuple[Path, list[dict[str, Any]]]:
    """A directory of `count` networks at one step, a third of them tanh."""
    metrics = [
        metrics_table()[1]
        | {"modeldir": f"run_{row}", "test_accuracy": 0.01 * row}
        | {"config.activation": "tanh" if row % 3 == 0 else "relu"}
        for row in range(count)
    ]
    weights = np.resize(some_weights(), (count, some_weights().shape[1]))
    return write_directory(tmp_path / "zoo", weights=weights, metrics=metrics), metrics


def published(order: list[int]) -> tuple[list[int], list[int], list[int]]:
    """The published split of networks that are all at step 86, as peers compute it."""
    half = int(0.5 * len(order))
    places = list(range(half))
    cut = int(0.8 * half)
    random.Random(0).shuffle(places)
    train = [order[place] for place in places[:cut]]
    return train, [order[place] for place in places[cut:]], order[half:]


def test_faithful_splits_are_those_of_published_code(tmp_path: Path) -> None:
    root, metrics = many(tmp_path)
    order = np.random.default_rng(1).permutation(40).tolist()
    table = tmp_path / "cifar10_split.csv"
    # Row 0 is at another step in the public zoos: it is there twice, and dropped.
    metrics[0]["step"] = 0
    write_directory(root, metrics=metrics, weights=np.load(root / "weights.npy"))
    table.write_text("\n".join(["0", *map(str, order)]))
    final = [row for row in order if row != 0]

    def codes(protocol: str) -> dict[str, np.ndarray]:
        found = formats.list_networks(
            f"small_cnn_zoo:{root}", protocol=protocol, split_file=table
        )
        assert found.protocol == protocol
        return {
            str(name): code
            for one in found.listings.values()
            for name, code in zip(one.ids, one.split, strict=True)
        }

    def want(*lists: list[int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for rows in lists:
            for code, part in enumerate(published(rows)):
                found |= {f"run_{row}": code for row in part}
        return found

    assert codes("faithful_nfn") == want(final)
    relu = [row for row in final if row % 3]
    tanh = [row for row in final if row % 3 == 0]
    assert codes("faithful_monomial") == want(relu, tanh)
    assert codes("faithful_nfn") != codes("faithful_monomial") != codes("clean")
    found = formats.list_networks(
        f"small_cnn_zoo:{root}", protocol="faithful_nfn", split_file=table
    )
    out = zoo.import_zoo(found, tmp_path / "out", {"import": {}})
    splits = zoo.notes(out, "relu")["split"]
    assert splits["protocol"] == "faithful_nfn"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the published protocols need the order of all rows: give split_file"),
        ("0\none", "expected one row number a line, got invalid literal"),
        ("\n".join(map(str, range(9))), "expected the numbers 0 to 39 once, perhaps"),
        ("\n".join(map(str, [0, *range(40)])), "every network at step 86 once, got 41"),
    ],
)
def test_orders_that_do_not_fit(tmp_path: Path, text: str | None, message: str) -> None:
    root, _ = many(tmp_path)
    table = None if text is None else tmp_path / "split.csv"
    if table is not None:
        table.write_text(str(text))
    with pytest.raises(ValueError, match=message):
        formats.list_networks(
            f"small_cnn_zoo:{root}", protocol="faithful_nfn", split_file=table
        )


def test_unknown_options_and_protocols(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo")
    with pytest.raises(ValueError, match=r"protocol should be one of \['clean', 'fait"):
        formats.list_networks(f"small_cnn_zoo:{root}", protocol="random")
    with pytest.raises(ValueError, match=r"options should be some .*got \['epoch'\]"):
        formats.list_networks(f"small_cnn_zoo:{root}", epoch=3)


def test_the_format_of_a_directory_is_found(tmp_path: Path) -> None:
    root = nfn(tmp_path / "fits")
    # Files of PyTorch as well, but those of a format of their own.
    assert formats.complete(str(root)) == f"nfn_siren:{root}"
    assert formats.complete(f"dws_inr:{root}") == f"dws_inr:{root}"
    with pytest.raises(FileNotFoundError, match="or a directory, found none"):
        formats.complete(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected files of one format of"):
        formats.complete(str(tmp_path / "empty"))


def test_transformers_that_cannot_be_used(tmp_path: Path) -> None:
    lines = changed(3, n_layers=2)
    lines[5]["test_top1_accuracy"] = "nan"
    root = write_transformers(tmp_path / "zoo", lines=lines)
    found = formats.list_networks(f"small_transformer_zoo:{root}")
    assert [problem.name for problem in found.problems] == ["row 5", "run1"]
    listing = found.listings["mnist"]
    assert listing.ids.tolist() == ["run0", "run3"]
    (root / "mnist" / "run3_75_7000.pt").write_bytes(b"PK\x03\x04torn")
    read = listing.read(np.arange(2))
    assert list(read.problems) == [1]
    want = state(1)["classifier.fc2.bias"]
    np.testing.assert_array_equal(
        zoo.from_vectors(listing.network.spec, read.vectors)["head"]["bias"][0], want
    )
    faithful = formats.list_networks(
        f"small_transformer_zoo:{root}", protocol="faithful_transformer_nfn"
    )
    assert sorted(faithful.listings["mnist"].split.tolist()) == [0, 2]
    for cell in ({"test_top1_accuracy": "x"}, {"n_layers": "y"}):
        lines = [line | cell for line in changed(0)]
        root = write_transformers(tmp_path / next(iter(cell)), lines=lines)
        with pytest.raises(ValueError, match="No other line can be used"):
            formats.list_networks(f"small_transformer_zoo:{root}")


def test_fits_that_cannot_be_used(tmp_path: Path) -> None:
    root = nfn(tmp_path)
    folder = root / "siren_mnist_wts" / "randinit_smaller_3s"
    (folder / "network.pth").write_bytes(b"")
    (folder / "net70000.pth").write_bytes(b"")
    (folder / "net12.pth").write_bytes(b"")
    (folder / "net46000.pth").write_bytes(b"")
    found = formats.list_networks(f"nfn_siren:{root}")
    whys = [problem.why for problem in found.problems]
    assert len(whys) == 3
    assert "expected files called netINDEX.pth, got 'network.pth'" in whys[0]
    assert "expected one network of image 12 under 'randinit_smaller'" in whys[1]
    assert "expected an index below 70,000" in whys[2]
    one = found.listings["fits"]
    assert one.runs.tolist() == one.hyper["signal"].astype(str).tolist()
    read = one.read(np.arange(len(one)))
    assert [str(one.ids[at]) for at in read.problems] == ["12_0", "46000_0"]
    clean = formats.list_networks(f"nfn_siren:{root}", protocol="clean", copies=1)
    signals = clean.listings["fits"].hyper["signal"]
    codes = clean.listings["fits"].split
    assert len(set(codes[signals == 7].tolist())) == 1
    for path in folder.parent.glob("*/*.pth"):
        path.rename(path.with_name(f"net_{path.name}"))
    with pytest.raises(ValueError, match="There is no other file"):
        formats.list_networks(f"nfn_siren:{root}")


def test_dws_networks_that_cannot_be_used(tmp_path: Path) -> None:
    root = dws(tmp_path)
    path = root / "mnist_splits.json"
    parts = json.loads(path.read_text())
    parts["val"] = {"path": [], "label": []}
    parts["train"]["label"] = ["4"]
    parts["test"]["path"].append("a/b/c/d")
    parts["test"]["label"].append("3")
    path.write_text(json.dumps(parts))
    found = formats.list_networks(f"dws_inr:{root}")
    assert found.protocol == "faithful_dws"
    whys = "\n".join(problem.why for problem in found.problems)
    assert "should have the label of the folder, 3 for" in whys
    assert "got 'a/b/c/d' and found no such file" in whys
    assert "every network should be in a split, found none for" in whys
    assert found.listings["fits"].ids.tolist() == ["mnist_png_testing_3_7"]
    parts["test"] = {"path": [], "label": []}
    path.write_text(json.dumps(parts))
    with pytest.raises(ValueError, match="There is no other network"):
        formats.list_networks(f"dws_inr:{root}")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="'faithful_dws' needs this file"):
        formats.list_networks(f"dws_inr:{root}", protocol="faithful_dws")
    assert formats.list_networks(f"dws_inr:{root}").protocol == "clean"
    for folder in list((root / "mnist-inrs").iterdir()):
        folder.rename(folder.with_name(folder.name.replace("ing_", "_")))
    with pytest.raises(ValueError, match="There is no other folder"):
        formats.list_networks(f"dws_inr:{root}")


SHARED = Path(__file__).parents[4] / "shared" / "data" / "zoos"
REAL = {
    "small_cnn_zoo": "small_cnn_zoo/cifar10_gs_relu",
    "small_transformer_zoo": "small_transformer_zoo",
    "nfn_siren": "nfn_siren",
    "dws_inr": "dws_inr",
}


@pytest.mark.parametrize("name", REAL)
def test_real_directories_have_nothing_that_cannot_be_used(name: str) -> None:
    if not (SHARED / REAL[name]).is_dir():
        pytest.skip(f"the shared {name} directory is not beside the checkout")
    found = formats.list_networks(f"{name}:{SHARED / REAL[name]}")
    assert found.problems == ()
    whole = formats.load(f"{name}:{SHARED / REAL[name]}")
    for bucket, listing in found.listings.items():
        read = listing.read(np.arange(len(listing)))
        assert read.problems == {}
        np.testing.assert_array_equal(read.vectors, whole[bucket].vectors())
    assert len(formats.files_of(f"{name}:{SHARED / REAL[name]}")) > 1
