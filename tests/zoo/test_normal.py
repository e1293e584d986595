"""Normal forms of zoos: float64, invariant, finite, stored once and read back."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qejax import _trees, nets, spaces, zoo
from qejax.zoo import _normal
from tests.layer_specs import fast_jit

COUNT = 17
NETS = {
    "relu": nets.mlp((4, 6, 5, 3)),
    "mixed": nets.mlp((4, 6, 5, 3), activation=("relu", "tanh")),
    "cnn": nets.cnn(1, (3, 4), 3, 2, num_outputs=3),
    "no_hidden": nets.mlp((4, 3)),
}
SYMMETRIC = ["mixed", "cnn"]


def _vectors(net: nets.Network, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(COUNT, net.spec.num_parameters)).astype(np.float32)


def _zoo(name: str = "relu", seed: int = 0, normal: bool = True) -> zoo.Zoo:
    net = NETS[name]
    thetas = zoo.from_vectors(net.spec, _vectors(net, seed))
    return zoo.Zoo(
        network=net,
        thetas=thetas,
        labels={"test_accuracy": np.linspace(0, 1, COUNT, dtype=np.float32)},
        hyper={"step": np.arange(COUNT)},
        split=zoo.split_networks(COUNT),
        source="a test",
        ids=np.array([f"net_{k}" for k in range(COUNT)]),
        normal=_forms(name, seed) if normal else None,
    )


@functools.cache
def _forms(name: str, seed: int = 0) -> zoo.NormalForm:
    net = NETS[name]
    return zoo.normal_forms(net.spec, zoo.from_vectors(net.spec, _vectors(net, seed)))


@functools.cache
def _elements(name: str) -> spaces.Elements:
    """An element for each network: permutations, scales of up to 1e4 a unit, signs."""
    spec = NETS[name].spec
    keys = jax.random.split(jax.random.key(5), COUNT)
    return fast_jit(jax.vmap(lambda k: spaces.sample(k, spec, 1e4, "float64")))(keys)


@functools.cache
def _act(name: str) -> Callable[..., Any]:
    return fast_jit(jax.vmap(functools.partial(spaces.act, NETS[name].spec)))


@functools.cache
def _raw(name: str) -> Callable[..., Any]:
    spec = NETS[name].spec
    return fast_jit(jax.vmap(functools.partial(spaces.raw_statistics, spec)))


def _moved(name: str, g: spaces.Elements, thetas: Any) -> Any:
    """Moved in float64, stored in float32."""
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), thetas)
    return jax.tree.map(lambda x: np.asarray(x, np.float32), _act(name)(g, wide))


def _assert_same(got: zoo.NormalForm | None, want: zoo.NormalForm | None) -> None:
    assert got is not None
    assert want is not None
    for name, column in want._asdict().items():
        np.testing.assert_array_equal(getattr(got, name), column, err_msg=name)
        assert getattr(got, name).dtype == column.dtype


def _gap(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference of a column, relative to its largest value."""
    return float((np.abs(got - want).max(0) / np.abs(want).max(0)).max())


@pytest.mark.parametrize("name", NETS)
@pytest.mark.one_in(3)
def test_they_are_the_canonical_forms(name: str) -> None:
    spec, got = NETS[name].spec, _forms(name)
    dtypes = {key: np.dtype(dtype) for key, (_, dtype) in _normal.columns(spec).items()}
    assert {key: x.dtype for key, x in got._asdict().items()} == dtypes

    def one(theta: Any) -> tuple[jax.Array, ...]:
        normal = spaces.canonical_form(spec, theta)
        statistics = spaces.canonical_statistics(spec, theta)
        return spaces.ravel(spec, normal.theta), spaces.log_norms(normal), statistics

    wide = zoo.from_vectors(spec, _vectors(NETS[name]).astype(np.float64))
    vectors, log_norm, statistics = fast_jit(jax.vmap(one))(wide)
    np.testing.assert_allclose(got.vectors, vectors, rtol=1e-6)
    np.testing.assert_allclose(got.log_norm, log_norm, rtol=1e-12)
    np.testing.assert_allclose(got.statistics, statistics, rtol=1e-12, atol=1e-14)


def test_leaves_that_are_constant_in_a_normal_form_have_no_statistics() -> None:
    net = nets.transformer(4, 1, 2, 4, image=(4, 4, 1), patch=2, num_outputs=2)
    assert len(spaces.settled_spec(net.spec).leaves) < len(net.spec.leaves)
    one = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), np.float64),
        net.spec.template(),
    )
    found = jax.eval_shape(_normal._program(net.spec), one)
    widths = [width for width, _ in _normal.columns(net.spec).values()]
    assert [column.shape for column in found] == [(1, width) for width in widths]
    assert widths[-1] == len(spaces.statistic_names(net.spec))


def test_float64_whatever_the_program_uses() -> None:
    with jax.enable_x64(False):
        got = zoo.normal_forms(NETS["relu"].spec, _zoo().thetas)
    _assert_same(got, _forms("relu"))


def test_a_few_networks_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    want, some = _forms("relu"), _zoo()
    monkeypatch.setattr(
        _normal, "ENTRIES_AT_ONCE", 4 * some.network.spec.num_parameters
    )
    got = zoo.normal_forms(some.network.spec, some.thetas)
    np.testing.assert_allclose(got.statistics, want.statistics, rtol=1e-12, atol=1e-14)
    none = zoo.normal_forms(some.network.spec, some.take(np.arange(0)).thetas)
    _assert_same(none, want.take(np.arange(0)))


@pytest.mark.parametrize("name", SYMMETRIC)
def test_equivalent_networks_have_equal_statistics(name: str) -> None:
    spec, some = NETS[name].spec, _zoo(name)
    g = _elements(name)
    moved = _moved(name, g, some.thetas)
    got, want = zoo.normal_forms(spec, moved), _forms(name)
    # float32 rounds every moved weight by up to 6e-8 of itself.
    assert _gap(got.statistics, want.statistics) < 1e-6
    assert _gap(got.log_norm, want.log_norm) < 1e-6
    permutations = {k: m._replace(scale=np.ones(m.scale.shape)) for k, m in g.items()}
    permuted = _moved(name, permutations, zoo.from_vectors(spec, want.vectors))
    np.testing.assert_allclose(
        got.vectors, zoo.to_vectors(spec, permuted), rtol=1e-5, atol=1e-6
    )
    # Controls: raw statistics are fooled, and other networks are told apart.
    raw = [np.asarray(_raw(name)(x)) for x in (moved, some.thetas)]
    assert _gap(*raw) > 0.5
    assert _gap(_forms(name, 1).statistics, want.statistics) > 0.1


def test_they_are_their_own_normal_form() -> None:
    spec, once = NETS["mixed"].spec, _forms("mixed")
    twice = zoo.normal_forms(spec, zoo.from_vectors(spec, once.vectors))
    np.testing.assert_allclose(twice.vectors, once.vectors, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(twice.log_norm, 0, atol=1e-6)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_finite_at_any_scale_and_for_dead_units(name: str) -> None:
    spec, some = NETS[name].spec, _zoo(name)
    thetas = jax.tree.map(np.array, some.thetas)
    first, second = thetas["layer_00"], thetas["layer_01"]
    first["kernel"][0, ..., 0], first["bias"][0, 0] = 0, 0  # Nothing comes in.
    second["kernel"][1, ..., 1, :] = 0  # Nothing goes out.
    first["kernel"][2, ..., 1], first["bias"][2, 1] = 0, 0  # Neither.
    second["kernel"][2, ..., 1, :] = 0
    for leaf in _trees.flatten(thetas).values():
        leaf[3] = 0
        leaf[4] *= np.float32(1e-30)
        leaf[5] *= np.float32(1e30)
    first["kernel"][6] *= np.float32(1e30)
    second["kernel"][6] *= np.float32(1e-30)
    dead = zoo.normal_forms(spec, thetas)
    found = zoo.normal_forms(spec, _moved(name, _elements(name), thetas))
    for form in (dead, found):
        assert all(np.isfinite(column).all() for column in form)
    alive = np.setdiff1d(np.arange(COUNT), [3, 4, 5, 6])
    assert _gap(found.statistics[alive], dead.statistics[alive]) < 1e-6


def test_units_below_the_normal_range_of_float32_are_alive() -> None:
    """XLA flushes such weights to zero; networks with strong weight decay have them."""
    spec, some = NETS["relu"].spec, _zoo()
    thetas = dict(some.thetas)
    scale = np.float32(1e-40)
    thetas["layer_00"] = jax.tree.map(lambda x: x * scale, thetas["layer_00"])
    first = slice(0, 4 * 6 + 6)
    got = zoo.normal_forms(spec, thetas).vectors[:, first]
    # Five digits are left of them.
    np.testing.assert_allclose(got, _forms("relu").vectors[:, first], atol=1e-4)


def test_values_beyond_float32_are_the_largest() -> None:
    """A space that two groups of leaves write, the first of them next to nothing."""
    stream = spaces.Wire(2, "stream")
    spec = spaces.WeightSpec(
        (
            spaces.UnitSpace("stream", 2, "positive_scale"),
            spaces.UnitSpace("inner", 2, "positive_scale"),
        ),
        (
            *spaces.dense("stem", spaces.Wire(2), stream),
            *spaces.dense("into", stream, spaces.Wire(2, "inner")),
            *spaces.dense("back", spaces.Wire(2, "inner"), stream),
            *spaces.dense("head", stream, spaces.Wire(2)),
        ),
    )
    vectors = np.ones((3, spec.num_parameters), np.float32)
    thetas = zoo.from_vectors(spec, vectors)
    thetas["stem"] = jax.tree.map(lambda x: x * np.float32(1e-30), thetas["stem"])
    thetas["back"] = jax.tree.map(lambda x: x * np.float32(1e30), thetas["back"])
    got = zoo.normal_forms(spec, thetas)
    assert got.vectors.max() == np.finfo(np.float32).max
    assert np.isfinite(got.statistics).all()
    assert got.statistics.max() > 1e50


@pytest.mark.parametrize("name", ["relu", "no_hidden"])
def test_stored_once_and_read_back(tmp_path: Path, name: str) -> None:
    root = zoo.store(tmp_path / "zoo", {"a": _zoo(name, normal=False)})
    read = zoo.read(root)
    _assert_same(read.normal, _forms(name))
    # What was read is stored as it is.
    again = zoo.store(tmp_path / "again", {"a": read})
    for one, other in zip(
        sorted(root.rglob("*.array_record*")),
        sorted(again.rglob("*.array_record*")),
        strict=True,
    ):
        assert one.read_bytes() == other.read_bytes()


def test_the_manifest_names_the_entries(tmp_path: Path) -> None:
    root = zoo.store(tmp_path / "zoo", {"a": _zoo()})
    entry = json.loads((root / "manifest.json").read_text())["buckets"]["a"]
    found = entry["normal_form"]
    assert found["log_norm"] == ["layer_02/kernel"]
    assert len(found["statistics"]) == _forms("relu").statistics.shape[1] == 43
    assert found["statistics"][-1] == "layer_02/kernel:log_norm"
    assert found["dtype"] == {
        "normal": "float32",
        "log_norm": "float64",
        "statistics": "float64",
    }


def test_tfds_alone_reads_them(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    root = zoo.store(tmp_path / "zoo", {"a": _zoo()})
    builder: Any = tfds.builder("qejax_zoo/a", data_dir=root)
    record = builder.as_data_source("test")[1]
    want = _forms("relu").take(_zoo().rows("test"))
    np.testing.assert_array_equal(record["normal"], want.vectors[1])
    np.testing.assert_array_equal(record["log_norm"], want.log_norm[1])
    np.testing.assert_array_equal(record["statistics"], want.statistics[1])


@pytest.mark.parametrize("seed", [None, 5])
def test_batches_carry_them(tmp_path: Path, seed: int | None) -> None:
    root = zoo.store(tmp_path / "zoo", {"a": _zoo()})
    kwargs: Any = {"seed": seed, "epochs": 2}
    memory = list(zoo.batches(zoo.read(root), "train", 4, **kwargs))
    disk = list(zoo.stream(root, "train", 4, **kwargs))
    assert len(memory) == len(disk) > 1
    for one, other in zip(memory, disk, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        _assert_same(one.normal, other.normal)
        rows = [int(name.removeprefix("net_")) for name in one.ids]
        _assert_same(other.normal, _forms("relu").take(np.array(rows)))
    without = next(zoo.batches(_zoo(normal=False), "train", 4))
    assert without.normal is None


def test_rows_keep_theirs() -> None:
    some = _zoo()
    test = some.select("test")
    _assert_same(test.normal, _forms("relu").take(some.rows("test")))
    assert _zoo(normal=False).select("test").normal is None


def test_augmented_copies_have_that_of_their_originals() -> None:
    some = _zoo()
    more = zoo.augment(jax.random.key(0), some, copies=2, spread=1e3)
    assert more.normal is not None
    _assert_same(more.normal.take(np.arange(COUNT)), some.normal)
    copies = more.take(np.arange(COUNT, len(more)))
    again = zoo.normal_forms(more.network.spec, copies.thetas)
    assert copies.normal is not None
    np.testing.assert_allclose(
        copies.normal.statistics, again.statistics, rtol=1e-12, atol=1e-14
    )
    rows = np.tile(some.rows("train"), 2)
    assert _gap(again.statistics, _forms("relu").statistics[rows]) < 1e-5
    bare = zoo.augment(jax.random.key(0), _zoo(normal=False))
    assert bare.normal is None


def test_those_of_other_weights_are_named(tmp_path: Path) -> None:
    some = _zoo()
    stale = dataclasses.replace(some, normal=_forms("relu", 1))
    message = r"bucket 'a': normal forms should be those of the weights.*'net_0'"
    with pytest.raises(ValueError, match=message):
        zoo.store(tmp_path / "zoo", {"a": stale})
    assert list(tmp_path.iterdir()) == []


def test_other_shapes_and_dtypes_are_named() -> None:
    some, form = _zoo(), _forms("relu")
    with pytest.raises(
        ValueError, match=r"normal.vectors should have shape \(17, 83\)"
    ):
        dataclasses.replace(some, normal=form.take(np.arange(3)))
    narrow = form._replace(log_norm=form.log_norm.astype(np.float32))
    message = r"normal.log_norm should .* dtype float64, got \(17, 1\) and float32"
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(some, normal=narrow)
    with pytest.raises(ValueError, match=r"'cnn' .*|should"):
        zoo.normal_forms(NETS["cnn"].spec, some.thetas)
