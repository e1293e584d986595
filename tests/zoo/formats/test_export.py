"""Writers of public formats: what is written is read back, and misfits are named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import formats
from qejax.zoo._listing import listed
from tests.zoo.formats.small_cnn_directory import write_directory
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
    with pytest.raises(ValueError, match="'relu_1' cannot be exported: it is torn"):
        formats.export(zoo.Found({"a": torn}, (), "", ""), address)
    with pytest.raises(ValueError, match="expected FORMAT:DIRECTORY"):
        formats.export(found(cnns()), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(ValueError, match="expected a step or 'all', got 'best'"):
        formats.list_networks(f"small_cnn_zoo:{root}", checkpoint="best")
