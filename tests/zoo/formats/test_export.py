"""Writers of public formats: what is written is read back, and misfits are named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import formats
from qejax.zoo._listing import listed
from tests.zoo.formats.small_cnn_directory import write_directory
from tests.zoo.formats.small_transformer_directory import (
    write_directory as write_transformers,
)
from tests.zoo.random_zoo import random_zoo


def found(*zoos: zoo.Zoo) -> zoo.Found:
    listings = {f"bucket_{n}": listed(one) for n, one in enumerate(zoos)}
    return zoo.Found(listings, (), "clean", "")


def cnns(activation: str = "relu", channels: tuple[int, ...] = (2, 3)) -> zoo.Zoo:
    made = random_zoo(nets.cnn(1, channels, 3, 2, activation=activation), 5)
    rng = np.random.default_rng(0)
    names = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
    labels = {name: rng.random(5).astype(np.float32) for name in names}
    ids = np.array([f"{activation}_{n}" for n in range(5)])
    return replace(made, labels=labels, ids=ids)


def test_small_cnn_zoo_of_two_activations(tmp_path: Path) -> None:
    zoos = {"relu": cnns(), "tanh": cnns("tanh")}
    root = formats.export(found(*zoos.values()), f"small_cnn_zoo:{tmp_path / 'a'}")
    got = formats.load(f"small_cnn_zoo:{root}")
    for name, want in zoos.items():
        np.testing.assert_array_equal(got[name].vectors(), want.vectors())
        for label, column in want.labels.items():
            np.testing.assert_array_equal(got[name].labels[label], column)
        assert got[name].ids.tolist() == want.ids.tolist()
        assert got[name].hyper["optimizer"].tolist() == want.hyper["optimizer"].tolist()
        assert got[name].hyper["step"].tolist() == want.hyper["step"].tolist()
    # The same zoo is the same bytes.
    again = formats.export(found(*zoos.values()), f"small_cnn_zoo:{tmp_path / 'b'}")
    for path in root.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_what_a_format_does_not_hold(tmp_path: Path) -> None:
    address = f"small_cnn_zoo:{tmp_path / 'out'}"
    for one in (
        random_zoo(nets.mlp((2, 3, 2)), 3),
        random_zoo(nets.cnn(1, (2,), 3, 1), 3),
    ):
        message = "does not hold networks of this kind, got bucket 'bucket_0' of"
        with pytest.raises(ValueError, match=message):
            formats.export(found(one), address)
    message = "does not hold another layout as well, got bucket 'bucket_1'"
    with pytest.raises(ValueError, match=message):
        formats.export(found(cnns(), cnns(channels=(2, 4))), address)
    few = replace(cnns(), labels={})
    with pytest.raises(ValueError, match=r"the format has the labels .* has no \['te"):
        formats.export(found(few), address)

    def read(rows: np.ndarray) -> zoo.Weights:
        return zoo.Weights(np.zeros((len(rows), 0), np.float32), {1: "it is torn"})

    torn = replace(listed(cnns()), read=read)
    with pytest.raises(ValueError, match="'relu_1' cannot be used: it is torn"):
        formats.export(zoo.Found({"a": torn}, (), "", ""), address)
    with pytest.raises(ValueError, match="expected FORMAT:DIRECTORY"):
        formats.export(found(cnns()), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def fits(convention: str) -> zoo.Zoo:
    rules = zoo.CONVENTIONS[convention]
    net = nets.coordinate((2, 4, 1), offset=rules.offset, biases=rules.biases)
    made = random_zoo(net, 6)
    hyper = {"signal": np.arange(6) // 2, "copy": np.arange(6) % 2}
    labels = {"class": np.repeat(np.array([3, 1, 4], np.float32), 2)}
    return replace(made, hyper=hyper, labels=labels)


def test_nfn_sirens_there_and_back(tmp_path: Path) -> None:
    want = fits("signed")
    root = formats.export(found(want), f"nfn_siren:{tmp_path / 'out'}")
    got = formats.load(f"nfn_siren:{root}", copies=1)["fits"]
    np.testing.assert_array_equal(got.vectors(), want.vectors())
    for name in ("signal", "copy"):
        np.testing.assert_array_equal(got.hyper[name], want.hyper[name])
    np.testing.assert_array_equal(got.labels["class"], want.labels["class"])
    twice = replace(want, hyper={"signal": np.zeros(6, int)})
    with pytest.raises(ValueError, match="holds one network of an image and copy, got"):
        formats.export(found(twice), f"nfn_siren:{tmp_path / 'b'}")
    with pytest.raises(ValueError, match="does not hold networks of this kind"):
        formats.export(found(fits("unit")), f"nfn_siren:{tmp_path / 'b'}")
    with pytest.raises(ValueError, match="holds one set of networks, got buckets"):
        formats.export(found(want, want), f"nfn_siren:{tmp_path / 'b'}")


def test_dws_inrs_there_and_back(tmp_path: Path) -> None:
    want = fits("unit").take(np.arange(0, 6, 2))
    root = formats.export(found(want), f"dws_inr:{tmp_path / 'out'}")
    listing = formats.list_networks(f"dws_inr:{root}")
    assert listing.protocol == "faithful_dws"
    got = formats.load(f"dws_inr:{root}")["fits"]
    np.testing.assert_array_equal(got.vectors(), want.vectors())
    np.testing.assert_array_equal(got.split, want.split)
    np.testing.assert_array_equal(got.labels["class"], want.labels["class"])


def test_transformers_there_and_back(tmp_path: Path) -> None:
    source = write_transformers(tmp_path / "zoo")
    want = formats.load(f"small_transformer_zoo:{source}")["mnist"]
    root = formats.export(found(want), f"small_transformer_zoo:{tmp_path / 'out'}")
    got = formats.load(f"small_transformer_zoo:{root}")["mnist"]
    np.testing.assert_array_equal(got.vectors(), want.vectors())
    assert got.ids.tolist() == want.ids.tolist()
    label = "test_accuracy"
    np.testing.assert_array_equal(got.labels[label], want.labels[label])
    assert got.hyper["optimizer"].tolist() == want.hyper["optimizer"].tolist()
    # Names that the format does not hold become numbers.
    odd = replace(want, ids=np.array([f"Run {n}" for n in range(len(want))]))
    root = formats.export(found(odd), f"small_transformer_zoo:{tmp_path / 'odd'}")
    again = formats.load(f"small_transformer_zoo:{root}")["mnist"]
    assert again.ids.tolist() == [f"run{n:05d}" for n in range(len(want))]
    other = random_zoo(nets.transformer(4, 1, 2, 8, image=(4, 4, 1), patch=2), 2)
    with pytest.raises(ValueError, match="does not hold networks of this kind"):
        formats.export(found(other), f"small_transformer_zoo:{tmp_path / 'no'}")
    with pytest.raises(ValueError, match="holds one set of encoders, got buckets"):
        formats.export(found(want, want), f"small_transformer_zoo:{tmp_path / 'no'}")


def test_formats_without_a_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(formats.FORMATS["small_cnn_zoo"], write=None)
    monkeypatch.setitem(formats.FORMATS, "small_cnn_zoo", row)
    with pytest.raises(ValueError, match="there is no writer of this format"):
        formats.export(found(cnns()), f"small_cnn_zoo:{tmp_path / 'out'}")


def test_steps_that_are_none(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "zoo")
    assert len(formats.load(f"small_cnn_zoo:{root}", checkpoint="86")["relu"]) == 3
    with pytest.raises(ValueError, match="expected a number or 'all', got 'best'"):
        formats.list_networks(f"small_cnn_zoo:{root}", checkpoint="best")
