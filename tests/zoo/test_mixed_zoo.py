"""Zoos of mixed architectures on disk: the same networks, whoever is beside them."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from qejax import models, nets, zoo
from qejax.zoo import formats
from tests.layer_specs import fast_jit, random_module
from tests.zoo.formats.wild_park_directory import write_directory
from tests.zoo.random_zoo import random_zoo


def prepared(tmp_path: Path, name: str = "zoo", memory: int = 1 << 28) -> Path:
    root = tmp_path / "park"
    if not root.exists():
        write_directory(root, 7)
    found = formats.list_networks(f"cnn_wild_park:{root}", checkpoint="all")
    return zoo.import_zoo(found, tmp_path / name, {}, memory=memory)


def test_what_was_listed_is_read_again(tmp_path: Path) -> None:
    root = prepared(tmp_path)
    want = formats.list_networks(f"cnn_wild_park:{tmp_path / 'park'}", checkpoint="all")
    expected = zoo.in_memory_mixed(want.listings["cnns"])
    got = zoo.read_mixed(root)
    assert [one.config for one in got.networks] == [x.config for x in expected.networks]
    for name in ("which", "split", "ids"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
    for a, b in zip(got.vectors, expected.vectors, strict=True):
        np.testing.assert_array_equal(a, b)
    for name, column in expected.labels.items():
        np.testing.assert_array_equal(got.labels[name], column)
    np.testing.assert_array_equal(got.hyper["iteration"], expected.hyper["iteration"])
    assert got.hyper["run"].tolist()[:3] == ["run0", "run0", "run1"]
    few = got.select("test")
    assert len(few) == len(got.rows("test")) > 0
    assert few.ids.tolist() == got.ids[got.rows("test")].tolist()


def test_bytes_do_not_depend_on_memory(tmp_path: Path) -> None:
    one, other = prepared(tmp_path), prepared(tmp_path, "other", memory=1)
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert len(names) == 5


def test_a_prediction_is_that_of_the_network_alone(tmp_path: Path) -> None:
    got = zoo.read_mixed(prepared(tmp_path))
    vectors = [vector.astype(np.float64) for vector in got.vectors]
    got = replace(got, vectors=vectors)
    config = models.MixedConfig(hidden_units=8, embed=8, hidden=8)
    with jax.enable_x64(True):
        ladder = nets.ladder_of(got.each, 2)
        (largest,) = nets.ladder_of(got.each, 1)
        config = replace(config, precision="float64")
        predictor = random_module(
            lambda: models.MixedPredictor(largest, 4, config=config, rngs=nnx.Rngs(0))
        )
        one = fast_jit(predictor)
        alone = np.array(
            [
                one(fast_jit(functools.partial(nets.padded_vector, network))(vector))
                for network, vector in zip(got.each[:6:2], vectors[:6:2], strict=True)
            ]
        )
        read = fast_jit(jax.vmap(predictor))

        def together(steps: Any, count: int, seed: int | None) -> np.ndarray:
            found = np.full(len(got), np.nan)
            for batch in got.batches(steps, count, seed):
                found[batch.rows[batch.there]] = read(batch.chains)[batch.there]
            return found

        for steps, count, seed in ((ladder, 3, None), ((largest,), 5, 1)):
            found = together(steps, count, seed)
            np.testing.assert_allclose(found[:6:2], alone, rtol=1e-10)
    # A control: networks of one architecture, and of others, are told apart.
    assert np.ptp(alone) > 1e-6
    assert len(np.unique(alone)) == 3


def test_readers_of_one_architecture_say_so(tmp_path: Path) -> None:
    root = prepared(tmp_path)
    message = "expected networks of one architecture, got 3 architectures"
    with pytest.raises(ValueError, match=message):
        zoo.read(root)
    with pytest.raises(ValueError, match=message):
        zoo.stream(root, "train", 2)
    assert zoo.buckets(root) == ("cnns",)
    entry = zoo.notes(root)
    assert entry["network"] == {"kind": "mixed"}
    assert entry["width"] == max(
        n.spec.num_parameters for n in zoo.read_mixed(root).networks
    )


def test_a_zoo_of_one_architecture_is_read_as_well(tmp_path: Path) -> None:
    want = random_zoo(nets.mlp((4, 3, 2)), 5)
    got = zoo.read_mixed(zoo.store(tmp_path / "zoo", {"a": want}))
    assert got.which.tolist() == [0] * 5
    np.testing.assert_array_equal(np.stack(list(got.vectors)), want.vectors())


def test_a_prepared_zoo_is_written_back(tmp_path: Path) -> None:
    root = prepared(tmp_path)
    found = zoo.list_prepared(root)
    out = formats.export(found, f"cnn_wild_park:{tmp_path / 'out'}")
    again = formats.list_networks(
        f"cnn_wild_park:{out}", protocol="faithful_neural_graphs"
    )
    got, want = again.listings["cnns"], found.listings["cnns"]
    assert got.ids.tolist() == want.ids.tolist()
    rows = np.arange(len(want))
    np.testing.assert_array_equal(got.read(rows).vectors, want.read(rows).vectors)
    np.testing.assert_array_equal(got.split, want.split)


def test_misfits_are_named(tmp_path: Path) -> None:
    got = zoo.read_mixed(prepared(tmp_path))
    with pytest.raises(ValueError, match="expected vectors, split and every column to"):
        replace(got, split=got.split[1:])
    with pytest.raises(ValueError, match="'run0@1': expected a vector of"):
        replace(got, vectors=[got.vectors[0][1:], *got.vectors[1:]])
    with pytest.raises(ValueError, match="which should give each of 14 networks"):
        replace(got, which=got.which + 3)
    found = formats.list_networks(f"cnn_wild_park:{tmp_path / 'park'}")
    one = found.listings["cnns"]

    def read(rows: np.ndarray) -> zoo.Weights:
        return one.read(rows)._replace(problems={1: "it is torn"})

    with pytest.raises(ValueError, match="network 'run1' cannot be used: it is torn"):
        zoo.in_memory_mixed(replace(one, read=read))
