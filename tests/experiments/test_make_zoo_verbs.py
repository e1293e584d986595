"""`make_zoo import`, `inspect`, `verify` and `export`, as a user runs them."""

import re
import shlex
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.make_zoo import inspecting, verbs
from qejax import nets, zoo
from tests.zoo.formats.small_cnn_directory import (
    metrics_table,
    some_weights,
    with_cell,
    write_directory,
)
from tests.zoo.formats.test_fits import nfn
from tests.zoo.random_zoo import random_zoo

DATA = Path(__file__).parents[3] / "shared" / "data"


def call(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and output, with the line breaks of a narrow terminal taken out."""
    verb, *args = shlex.split(line)
    status = verbs.main(verb, args)
    return status, re.sub(r"\s+", " ", capsys.readouterr().out)


@pytest.fixture
def cnns(tmp_path: Path) -> Path:
    weights = some_weights()
    weights[7, 3] = np.inf
    metrics = with_cell(metrics_table, 5, test_loss="nan")
    return write_directory(tmp_path / "cnns", weights=weights, metrics=metrics)


def test_import_inspect_verify_export(
    tmp_path: Path, cnns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = tmp_path / "zoo", tmp_path / "back"
    picture = tmp_path / "picture.png"
    status, text = call(f"inspect {cnns} --picture {picture}", capsys)
    assert status == 0
    assert "relu, cnn: in_channels 1, channels 2-3" in text
    assert "activation relu x2" in text
    assert "tanh, test_accuracy:" in text
    assert "2 networks cannot be used; an import leaves them out" in text
    assert "row 5: " in text
    assert "run_3: " in text
    assert picture.read_bytes()[:4] == b"\x89PNG"

    status, text = call(f"import small_cnn_zoo:{cnns} {out} --memory 1", capsys)
    assert status == 0
    assert "1 more could not even be listed" in text
    assert "left out: run_3: " in text
    assert "nothing was written" not in text
    assert "2 of 2 buckets have fewer than 2 networks in a split" in text
    status, text = call(f"import small_cnn_zoo:{cnns} {out}", capsys)
    assert (status, "is there already, of these files; nothing" in text) == (0, True)
    assert zoo.buckets(out) == ("relu", "tanh")
    assert sorted(zoo.read(out, "relu").ids) == ["run_0", "run_2"]
    assert zoo.recipe(out)["import"] == {
        "format": "small_cnn_zoo",
        "directory": "cnns",
        "options": {},
    }
    status, text = call(f"inspect {out} --picture {picture}", capsys)
    assert (status, "0 networks cannot be used" in text) == (0, True)

    status, text = call(f"verify {out}", capsys)
    assert (status, "8 files with their checksums, 3 net" in text) == (0, True), text
    status, text = call(f"export {out} small_cnn_zoo:{back}", capsys)
    assert (status, "3 networks in" in text) == (0, True)
    again = zoo.formats.load(f"small_cnn_zoo:{back}")
    for name, one in again.items():
        want = zoo.read(out, name)
        np.testing.assert_array_equal(one.vectors(), want.vectors())
        for label, column in want.labels.items():
            np.testing.assert_array_equal(one.labels[label], column)
        assert one.ids.tolist() == want.ids.tolist()
        assert set(one.hyper) == set(want.hyper)
    status, text = call(f"export {out} small_cnn_zoo:{back}", capsys)
    assert (status, "expected a new or empty folder to export" in text) == (2, True)


def test_all_architectures_may_be_one_bucket(
    tmp_path: Path, cnns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "zoo"
    status, text = call(f"import {cnns} {out} --mixed", capsys)
    assert (status, "read it with zoo.stream_mixed(" in text) == (0, True), text
    found = zoo.read_mixed(out)
    configs = [network.config.to_dict() for network in found.networks]
    assert [config["activation"][0] for config in configs] == ["relu", "tanh"]
    (batch,) = zoo.stream_mixed(out, "test", len(found.rows("test")))
    assert np.all(batch.there)


def test_every_checkpoint_is_imported_and_runs_stay_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = write_directory(tmp_path / "cnns"), tmp_path / "zoo"
    status, _ = call(f"import {root} {out} --checkpoint all --split-seed 3", capsys)
    assert status == 0
    one = zoo.list_prepared(out).listings["relu"]
    assert len(one) == 6
    assert one.runs.tolist() == [f"run_{n}" for n in (0, 0, 2, 2, 3, 3)]
    for pair in one.split.reshape(-1, 2):
        assert pair[0] == pair[1]


def test_a_damaged_shard_fails_verification(
    tmp_path: Path, cnns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "zoo"
    call(f"import {cnns} {out}", capsys)
    shard = next(out.rglob("*.array_record*"))
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    status, text = call(f"verify {out}", capsys)
    assert (status, "is damaged: expected SHA-256" in text) == (2, True)


def classifiers(root: Path, images: np.ndarray, wrong: bool = False) -> Path:
    """Three classifiers whose accuracies are measured on images in [0, 1]."""
    net = nets.cnn(1, (4,), 3, head="gap", num_outputs=3)
    one = random_zoo(net, 3)
    x = jnp.asarray((images / 255).astype(np.float32)[..., None])
    labels = np.arange(len(images)) % 3
    logits = [
        net.apply(zoo.from_vectors(net.spec, vector), x) for vector in one.vectors()
    ]
    right = [(np.asarray(found).argmax(1) == labels).mean() for found in logits]
    accuracy = np.array(right, np.float32) + np.float32(0.05 * wrong)
    np.savez(root / "images.npz", image=images, label=labels)
    made = zoo.Zoo(
        net, one.thetas, {"test_accuracy": accuracy}, {}, one.split, "made", one.ids
    )
    return zoo.store(root / "zoo", {"made": made})


@pytest.mark.parametrize("wrong", [False, True])
def test_accuracies_are_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: bool
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 6)).astype(np.uint8)
    root = classifiers(tmp_path, images, wrong)
    status, text = call(f"verify {root} --images {tmp_path}/images.npz", capsys)
    assert status == (2 if wrong else 0)
    expected = "test accuracy should be as recorded" if wrong else "in [0, 1]: mean abs"
    assert expected in text
    np.savez(tmp_path / "images.npz", image=images)
    status, text = call(f"verify {root} --images {tmp_path}/images.npz", capsys)
    assert (status, "expected arrays 'image' and 'label', got" in text) == (2, True)
    np.savez(
        tmp_path / "images.npz",
        image=np.repeat(images[..., None], 2, -1),
        label=np.zeros(60, int),
    )
    status, text = call(f"verify {root} --images {tmp_path}/images.npz", capsys)
    assert (status, "expected 1 channels, as the networks take" in text) == (2, True)


def test_fits_are_rendered_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "zoo"
    assert call(f"import nfn_siren:{nfn(tmp_path)} {out} --copies 1", capsys)[0] == 0
    images = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "images.npz", image=images, index=np.array([7, 12]))
    line = f"verify {out} --images {tmp_path}/images.npz"
    status, text = call(f"{line} --tolerance 1e9", capsys)
    assert (status, "5 networks, 3 compared" in text) == (0, True)
    status, text = call(line, capsys)
    assert (status, "mean squared error should be as recorded" in text) == (2, True)
    np.savez(tmp_path / "images.npz", image=images, index=np.array([1, 2]))
    status, text = call(line, capsys)
    assert (status, "expected images that networks of bucket" in text) == (2, True)
    status, text = call(f"verify {out} --images mnist", capsys)
    assert (status, "fits need a file .npz of the images" in text) == (2, True)


BAD = {
    "import": "expected FORMAT:DIRECTORY",
    "import small_cnn_zoo:somewhere": "OUT: expected a folder",
    "import small_cnn_zoo:somewhere out": "a Small CNN Zoo has the files",
    "import small_cnn_zoo:somewhere out --memory 0": "--memory: expected MiB from 1",
    "import small_cnn_zoo:somewhere out --copies 2": "options should be some of",
    "inspect nowhere": "or a directory, found none",
    "verify": "ZOO: expected the folder of a prepared zoo",
    "verify nowhere": "expected a prepared zoo with a file manifest.json",
    "export": "ZOO: expected the folder of a prepared zoo",
    "export nowhere": "expected FORMAT:DIR behind nowhere, what to write and where",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_command_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, text = call(line, capsys)
    assert (status, BAD[line] in text) == (2, True), text
    assert list(tmp_path.iterdir()) == []


def test_directories_of_no_format_or_of_two(
    tmp_path: Path, cnns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    message = "expected files of one format"
    assert message in call(f"inspect {tmp_path / 'empty'}", capsys)[1]
    nfn(cnns)
    status, text = call(f"inspect {cnns}", capsys)
    assert (status, "found those of ['small_cnn_zoo', 'nfn_siren']" in text) == (
        2,
        True,
    )


def test_inspection_stops_when_it_is_time() -> None:
    asked: list[Any] = []
    listing = inspecting_listing(asked)
    look = inspecting.look(listing, deadline=0.0)
    assert look.read == len(asked[0]) <= inspecting.AT_ONCE
    assert np.ptp(asked[0]) > 0.99 * (len(listing) - 1)
    whole = inspecting.look(listing, deadline=float("inf"))
    assert whole.read == len(listing)
    assert [problem.name for problem in whole.problems] == ["net_9"]


def inspecting_listing(asked: list[Any]) -> zoo.Listing:
    """A thousand networks, one of them not finite."""
    from qejax.zoo._listing import listed

    made = listed(random_zoo(nets.mlp((2, 2)), 1000))

    def read(rows: np.ndarray) -> zoo.Weights:
        asked.append(rows)
        vectors = made.read(rows).vectors.copy()
        vectors[rows == 9] = np.nan
        return zoo.Weights(vectors, {})

    return zoo.Listing(
        made.network,
        made.ids,
        made.runs,
        made.labels,
        made.hyper,
        made.split,
        made.source,
        read,
    )


@pytest.mark.slow
def test_the_real_zoo_does_what_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 800 networks on the 2,000 images that they were scored on."""
    place = DATA / "zoos" / "small_cnn_zoo" / "cifar10_gs_relu"
    if not place.is_dir():
        pytest.skip("the shared Small CNN Zoo directory is not beside the checkout")
    out = tmp_path / "zoo"
    assert call(f"import {place} {out}", capsys)[0] == 0
    line = f"verify {out} --images cifar10 --tfds {DATA / 'tfds'} --tolerance 1e-3"
    status, text = call(line, capsys)
    assert status == 0, text
    back = tmp_path / "back"
    assert call(f"export {out} small_cnn_zoo:{back}", capsys)[0] == 0
    assert (back / "weights.npy").read_bytes() == (place / "weights.npy").read_bytes()
