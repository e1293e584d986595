"""Public zoos of coordinate networks: what they hold, and what damage is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax import zoo
from qejax.zoo import formats
from tests.zoo.formats.small_transformer_directory import write_state

WIDTHS = (2, 3, 3, 1)
SHARED = Path(__file__).parents[4] / "shared" / "data"


def tensors(seed: int, hidden: str, last: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for number, form in enumerate((hidden, hidden, last)):
        shape = (WIDTHS[number + 1], WIDTHS[number])
        name = form.format(number)
        found[f"{name}.weight"] = rng.normal(size=shape).astype("f4")
        found[f"{name}.bias"] = rng.normal(size=shape[:1]).astype("f4")
    return found


def nfn(root: Path) -> Path:
    wts = root / "siren_mnist_wts"
    for seed, (folder, index) in enumerate(
        [("3s", 7), ("3s", 46_000), ("5s", 12), ("aug0_3s", 7), ("7s", 60_001)]
    ):
        path = wts / f"randinit_smaller_{folder}" / f"net{index}.pth"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_state(path, tensors(seed, "net.{}.linear", "net.{}"))
    return root


def dws(root: Path) -> Path:
    parts: dict[str, Any] = {}
    for seed, (part, kind, label, index) in enumerate(
        [
            ("train", "training", 3, 7),
            ("val", "training", 5, 12),
            ("test", "testing", 3, 7),
        ]
    ):
        name = f"mnist-inrs/mnist_png_{kind}_{label}_{index}/checkpoints/"
        path = root / name / "model_final.pth"
        path.parent.mkdir(parents=True)
        write_state(path, tensors(seed, "seq.{}", "seq.{}"))
        where = path.relative_to(root).as_posix()
        parts[part] = {"path": [where], "label": [str(label)]}
    (root / "mnist_splits.json").write_text(json.dumps(parts))
    return root


def test_nfn_siren_by_image_and_copy(tmp_path: Path) -> None:
    one = formats.load(f"nfn_siren:{nfn(tmp_path)}", copies=1)["fits"]
    assert one.hyper["signal"].tolist() == [7, 7, 12, 46_000, 60_001]
    assert one.hyper["copy"].tolist() == [0, 1, 0, 0, 0]
    assert one.labels["class"].tolist() == [3, 3, 5, 3, 7]
    assert one.split.tolist() == [0, 0, 0, 1, 2]
    assert one.ids.tolist() == ["7_0", "7_1", "12_0", "46000_0", "60001_0"]
    state = tensors(0, "net.{}.linear", "net.{}")
    kernel = one.thetas["layer_01"]["kernel"][0]
    np.testing.assert_array_equal(kernel, state["net.1.linear.weight"].T)
    assert one.network.config.to_dict()["offset"] == 0
    alone = formats.load_nfn_siren(tmp_path / "siren_mnist_wts")
    assert len(alone) == 4


@pytest.mark.parametrize(("name", "images"), [("fashion", 70_000), ("cifar", 60_000)])
def test_networks_of_images_that_are_not_in_the_set(
    name: str, images: int, tmp_path: Path
) -> None:
    root = (nfn(tmp_path) / "siren_mnist_wts").rename(tmp_path / f"siren_{name}_wts")
    (root / "randinit_smaller_7s" / "net60001.pth").unlink()
    for number, index in enumerate((images - 1, images, images + 5)):
        path = root / "randinit_smaller_3s" / f"net{index}.pth"
        write_state(path, tensors(number, "net.{}.linear", "net.{}"))
    message = (
        rf"net{images}\.pth: expected an index below {images:,}, .* got {images}\. "
        rf"\(2 of 6 networks cannot be used: randinit_smaller_3s/net{images}\.pth, "
        rf"randinit_smaller_3s/net{images + 5}\.pth; remove the files"
    )
    with pytest.raises(ValueError, match=message):
        formats.load(f"nfn_siren:{tmp_path}")
    for index in (images, images + 5):
        (root / "randinit_smaller_3s" / f"net{index}.pth").unlink()
    one = formats.load(f"nfn_siren:{tmp_path}")["fits"]
    assert one.hyper["signal"].tolist() == [7, 12, 46_000, images - 1]
    assert one.split.tolist() == [0, 0, 1, 2]


def test_networks_of_no_image_of_the_set(tmp_path: Path) -> None:
    path = tmp_path / "randinit_smaller_3s" / "net70000.pth"
    path.parent.mkdir()
    write_state(path, tensors(0, "net.{}.linear", "net.{}"))
    with pytest.raises(FileNotFoundError, match="got none below in 1 files"):
        formats.load_nfn_siren(tmp_path)


def test_dws_inr_with_its_splits(tmp_path: Path) -> None:
    one = formats.load(f"dws_inr:{dws(tmp_path)}")["fits"]
    assert one.ids.tolist() == [
        "mnist_png_testing_3_7",
        "mnist_png_training_3_7",
        "mnist_png_training_5_12",
    ]
    assert one.split.tolist() == [2, 0, 1]
    assert one.hyper["testing"].tolist() == [1, 0, 0]
    assert one.network.config.to_dict()["offset"] == 0.5
    (tmp_path / "mnist_splits.json").unlink()
    drawn = [formats.load_dws_inr(tmp_path, seed).split.tolist() for seed in range(5)]
    assert len(set(map(tuple, drawn))) > 1


def rewrite(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def on(root: Path) -> None:
        path = root / "mnist_splits.json"
        parts = json.loads(path.read_text())
        change(parts)
        path.write_text(json.dumps(parts))

    return on


def other_shape(root: Path) -> None:
    path = root / "mnist-inrs/mnist_png_training_5_12/checkpoints/model_final.pth"
    state = tensors(1, "seq.{}", "seq.{}")
    path.unlink()
    write_state(path, state | {"seq.1.bias": np.zeros(4, "f4")})


def not_finite(root: Path) -> None:
    path = root / "mnist-inrs/mnist_png_training_5_12/checkpoints/model_final.pth"
    state = tensors(1, "seq.{}", "seq.{}")
    path.unlink()
    write_state(path, state | {"seq.1.bias": np.full(3, np.nan, "f4")})


def odd_folder(root: Path) -> None:
    folder = root / "mnist-inrs"
    (folder / "mnist_png_training_5_12").rename(folder / "mnist_png_train_5_12")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "shape": (other_shape, r"seq.1.bias should be .* \(1 of 3 networks cannot be used"),
    "not finite": (not_finite, r"seq.1.bias should be finite in float32, got 3"),
    "folder": (odd_folder, "expected a folder mnist_png_KIND_LABEL_INDEX"),
    "no entry": (
        rewrite(lambda parts: parts["val"].update(path=[], label=[])),
        r"every network should be in a split, found none for .*5_12.* \(1 of 3\)",
    ),
    "twice": (
        rewrite(lambda parts: parts.update(val=parts["train"])),
        "should name every network once, got .*3_7.* found it twice",
    ),
    "no file": (
        rewrite(lambda parts: parts["val"].update(path=["a/b/c/d"])),
        "got 'a/b/c/d' and found no such file",
    ),
    "label": (
        rewrite(lambda parts: parts["val"].update(label=["4"])),
        "should have the label of the folder, 5 for",
    ),
    "no table": (
        lambda root: (root / "mnist_splits.json").write_text("[]"),
        r"expected \{'train': .*, got TypeError",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(case: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[case]
    damage(dws(tmp_path))
    with pytest.raises(ValueError, match=message):
        formats.load_dws_inr(tmp_path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"expected folders .*_LABELs of files netINDEX\.pth"
    ):
        formats.load_nfn_siren(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected networks mnist-inrs"):
        formats.load_dws_inr(tmp_path)


def test_other_files_among_them(tmp_path: Path) -> None:
    folder = nfn(tmp_path) / "siren_mnist_wts" / "randinit_smaller_3s"
    shutil.copy(folder / "net7.pth", folder / "network.pth")
    with pytest.raises(ValueError, match=r"expected files called netINDEX\.pth"):
        formats.load_nfn_siren(tmp_path)


def test_files_that_are_no_layers(tmp_path: Path) -> None:
    for path in nfn(tmp_path).glob("siren_mnist_wts/*/net*.pth"):
        path.unlink()
        write_state(path, {"net.0.linear.weight": np.zeros((3, 2, 1), "f4")})
    with pytest.raises(ValueError, match=r"expected matrices net\.0\.linear\.weight"):
        formats.load_nfn_siren(tmp_path)


def test_an_odd_first_file_is_the_one_that_is_named(tmp_path: Path) -> None:
    path = nfn(tmp_path) / "siren_mnist_wts" / "randinit_smaller_3s" / "net7.pth"
    odd = {
        f"net.{n}.{name}": np.ones(shape, "f4")
        for n, name, shape in (
            (0, "linear.weight", (5, 2)),
            (0, "linear.bias", (5,)),
            (1, "weight", (1, 5)),
            (1, "bias", (1,)),
        )
    }
    path.unlink()
    write_state(path, odd)
    message = (
        r"randinit_smaller_3s/net7\.pth: .* \(1 of 4 networks cannot be used: 7_0; "
        r"remove the files"
    )
    with pytest.raises(ValueError, match=message):
        formats.load_nfn_siren(tmp_path)
    path.unlink()
    assert len(formats.load_nfn_siren(tmp_path)) == 3


def test_nothing_but_damaged_files(tmp_path: Path) -> None:
    paths = sorted(nfn(tmp_path).glob("siren_mnist_wts/*/net*.pth"))
    assert len(paths) == 5
    for path in paths:
        path.write_bytes(b"damaged")
    message = (
        r"3s/net7\.pth: expected a file by torch.* \(5 of 5 files that "
        r"were looked at cannot be used"
    )
    with pytest.raises(ValueError, match=message):
        formats.load_nfn_siren(tmp_path, copies=1)


@pytest.mark.parametrize(
    ("name", "convention", "split"),
    [("nfn_siren", "signed", [43, 4, 13]), ("dws_inr", "unit", [40, 8, 12])],
)
def test_real_networks_render_their_images(
    name: str, convention: str, split: list[int]
) -> None:
    """Mean squared errors below 1e-4 of a signal in [0, 1]."""
    if not (SHARED / "zoos" / name).is_dir():
        pytest.skip(f"the shared {name} networks are not beside the checkout")
    one = formats.load(f"{name}:{SHARED / 'zoos' / name}")["fits"]
    assert (len(one), np.bincount(one.split).tolist()) == (60, split)
    with np.load(SHARED / "zoos" / "mnist_train_by_index.npz") as file:
        index, labels = file["index"], file["label"]
        images = file["image"][..., None] / 255
    row = {int(number): n for n, number in enumerate(index)}
    rows = [row[int(number)] for number in one.hyper["signal"]]
    assert one.labels["class"].tolist() == labels[rows].tolist()
    offset = zoo.CONVENTIONS[convention].offset
    assert one.network.config.to_dict()["offset"] == offset
    found = zoo.compare_signals(one, images, index)
    assert (found.missing, found.constant) == ((), ())
    assert found.mse.max() < 1e-4
    others = zoo.compare_signals(one, images, np.roll(index, 1))
    assert others.mse.min() > 1e-3
    known = found.mse[one.hyper["signal"] != index[0]]
    fewer = zoo.compare_signals(one, images[1:], index[1:])
    (missing,) = np.flatnonzero(one.hyper["signal"] == index[0])
    assert fewer.missing == (one.ids[missing],)
    np.testing.assert_allclose(fewer.mse[~np.isnan(fewer.mse)], known)
