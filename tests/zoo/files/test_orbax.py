"""Checkpoints by orbax: of Linen and NNX, links out of them, and sizes that lie."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts
from flax import linen as nn
from flax import nnx

from qejax.zoo import files
from qejax.zoo.files._orbax import zstd_bound


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(11):
            x = nn.tanh(nn.Dense(2)(x))
        return x


class Stack(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(11)])


@pytest.fixture(scope="module")
def variables() -> Any:
    return Linen().init(jax.random.key(0), jnp.ones((1, 2)))


@pytest.fixture(scope="module")
def linen(tmp_path_factory: pytest.TempPathFactory, variables: Any) -> Path:
    path = tmp_path_factory.mktemp("linen") / "one"
    with ocp.StandardCheckpointer() as saver:
        saver.save(path, variables)
    return path


def same(stored: files.Stored, variables: Any) -> None:
    layers = variables["params"]
    assert list(stored.tensors)[::2] == [f"params.Dense_{n}.bias" for n in range(11)]
    for name, tensor in stored.tensors.items():
        _, layer, kind = name.split(".")
        np.testing.assert_array_equal(tensor, layers[layer][kind])


def test_linen_is_read(linen: Path, variables: Any) -> None:
    stored = files.read_orbax(linen)
    same(stored, variables)
    assert stored.fields == {}


def test_numbers_and_texts_are_fields(tmp_path: Path) -> None:
    tree = {"step": 3, "rate": 0.5, "by": "me", "one": np.array(2.0), "no": None}
    ocp.PyTreeCheckpointer().save(tmp_path / "a", tree | {"net": {"b": np.ones(2)}})
    stored = files.read_orbax(tmp_path / "a")
    assert stored.fields == {"step": 3, "rate": 0.5, "by": "me"}
    assert set(stored.tensors) == {"one", "net.b"}


def test_managers_have_steps_and_items(tmp_path: Path, variables: Any) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    save = ocp.args.StandardSave
    with ocp.CheckpointManager(one) as manager:
        for step in (2, 10):
            manager.save(step, args=save({"step": np.full(1, step)}))
    assert files.read_orbax(one).tensors["step"] == 10
    assert files.read_orbax(one, step=2).tensors["step"] == 2
    with ocp.CheckpointManager(many) as manager:
        items: Any = {"state": save(variables), "opt": save({"m": np.ones(2)})}
        items["info"] = ocp.args.JsonSave({"a": 1})
        manager.save(3, args=ocp.args.Composite(**items))
    same(files.read_orbax(many), variables)
    same(files.read_orbax(many / "3"), variables)
    assert list(files.read_orbax(many, item="opt").tensors) == ["m"]
    with pytest.raises(ValueError, match=r"expected a step of \[3\], got 4"):
        files.read_orbax(many, step=4)
    with pytest.raises(ValueError, match=r"one item of \['none'\], got \['opt', 'sta"):
        files.read_orbax(many, item="none")


@pytest.mark.parametrize("pure", [True, False])
def test_nnx_is_read_in_the_order_of_its_layers(tmp_path: Path, pure: bool) -> None:
    state = nnx.state(Stack(nnx.Rngs(0)), nnx.Param)
    layers = nnx.to_pure_dict(state)["layers"]
    with ocp.StandardCheckpointer() as saver:
        saver.save(tmp_path / "a", nnx.to_pure_dict(state) if pure else state)
    stored = files.read_orbax(tmp_path / "a")
    kernels = [name for name in stored.tensors if name.endswith("kernel")]
    assert kernels == [f"layers.{n}.kernel" for n in range(11)]
    for n, name in enumerate(kernels):
        np.testing.assert_array_equal(stored.tensors[name], layers[n]["kernel"])


def test_checkpoints_come_back(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {
        "a.kernel": np.arange(6.0).reshape(2, 3).T,
        "a.bias": np.ones(3, jnp.bfloat16),
        "b": np.array(2, np.int8),
    }
    path = tmp_path / "deep" / "a"
    for count in (1, 2):  # the second replaces the first
        files.write_orbax(path, tensors, {"a.sizes": [count, 2], "by": "me"})
    stored = files.read_orbax(path)
    assert stored.fields == {"a.sizes": [2, 2], "by": "me"}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(stored.tensors[name], tensor)
        assert stored.tensors[name].dtype == tensor.dtype
    restored = ocp.PyTreeCheckpointer().restore(path)
    np.testing.assert_array_equal(restored["a"]["kernel"], tensors["a.kernel"])
    assert [p.name for p in path.parent.iterdir()] == ["a"]
    with pytest.raises(
        ValueError, match="expected arrays that orbax saves, got Cannot"
    ):
        files.write_orbax(path, {"a": np.zeros((0, 2))})
    assert [p.name for p in path.parent.iterdir()] == ["a"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    path, secret = tmp_path / "a", tmp_path / "secret"
    files.write_orbax(secret, {"a": np.ones(2)})
    path.mkdir()
    for inside in secret.iterdir():
        (path / inside.name).symlink_to(inside)
    with pytest.raises(ValueError, match=r"ordinary files, got .*, a link or other"):
        files.read_orbax(path)


def zarr(path: Path, **changes: Any) -> Path:
    """A store without a log of its own, of one array; edited."""
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{path}/a/"}}
    store = ts.open(
        spec
        | {"metadata": {"compressor": {"id": "zstd"}, "shape": [4], "dtype": "<f4"}},
        create=True,
    ).result()
    store.write(np.arange(4, dtype="float32")).result()
    described = path / "a" / ".zarray"
    entry = json.loads(described.read_text()) | changes
    described.write_text(json.dumps(entry))
    (path / "_METADATA").write_text("{}")
    return path


def test_a_store_of_plain_files_is_read(tmp_path: Path) -> None:
    stored = files.read_orbax(zarr(tmp_path / "plain"))
    np.testing.assert_array_equal(stored.tensors["a"], [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [8]}, r"'a' should have 2 chunks for shape \[8\], got 1"),
        ({"chunks": [2**36], "shape": [2**36]}, "are packed, got a claim of"),
        ({"chunks": [2**36]}, "are packed, got a claim of"),
        ({"shape": [2**40] * 3, "chunks": [1] * 3}, "array that fits into memory"),
        ({"chunks": [0]}, "packed by zstd or not, with a chunk size an axis"),
        ({"chunks": [4, 4]}, "packed by zstd or not, with a chunk size an axis"),
        ({"compressor": {"id": "bz2"}}, "should be numbers, packed by zstd or not"),
        ({"dtype": "|O"}, "should be numbers, packed by zstd or not"),
        ({"dtype": "xyz"}, "should be described as zarr 2 does, got"),
        ({"shape": None}, "should be described as zarr 2 does, got"),
        ({"compressor": None}, "array 'a' cannot be unpacked"),
    ],
)
def test_sizes_are_not_believed(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = zarr(tmp_path / "bad", **changes)
    with pytest.raises(ValueError, match=message) as error:
        files.read_orbax(path)
    assert str(path) in str(error.value)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = zarr(tmp_path / "bomb")
    # Blocks that stand for 128 kB of one byte each.
    frame = b"\x28\xb5\x2f\xfd\x00\x58"
    block = (1 << 1 | 128 * 1024 << 3).to_bytes(3, "little") + b"\x00"
    (path / "a" / "0").write_bytes(frame + block * 1000)
    assert zstd_bound(b"some" + frame + block * 1000) == 1000 * 128 * 1024
    with pytest.raises(ValueError, match="are packed, got a claim of 67"):
        files.read_orbax(path)
    # The log of the store is packed as well.
    files.write_orbax(tmp_path / "log", {"a": np.ones(3)})
    log = tmp_path / "log" / "manifest.ocdbt"
    log.write_bytes(log.read_bytes()[:14] + frame + block * 1000)
    with pytest.raises(ValueError, match="are packed, got a claim of 67"):
        files.read_orbax(tmp_path / "log")
    nothing = b"\x28\xb5\x2f\xfd\x00\x00" + b"\x00" * 3 * 10**6
    (tmp_path / "log" / "more").write_bytes(nothing)
    log.unlink()
    with pytest.raises(ValueError, match="are packed, got a claim of"):
        files.read_orbax(tmp_path / "log")


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder by orbax, got none"):
        files.read_orbax(tmp_path / "none")
    with pytest.raises(ValueError, match=r"a checkpoint by orbax, or one item of \['p"):
        files.read_orbax(tmp_path)
    path = tmp_path / "a"
    path.mkdir()
    (path / "_METADATA").write_text("{}")
    with pytest.raises(ValueError, match="arrays in the format zarr 2, got 0"):
        files.read_orbax(path)
    (path / "_METADATA").write_text('{"tree_metadata": {"a": 3}}')
    with pytest.raises(ValueError, match="a description of a tree by orbax, got one"):
        files.read_orbax(path)
    (path / "_METADATA").unlink()
    (path / "manifest.ocdbt").write_text("no manifest")
    with pytest.raises(ValueError, match="expected a store of arrays by orbax, got"):
        files.read_orbax(path)


def test_a_store_without_its_chunks_is_named(tmp_path: Path) -> None:
    """Small chunks are in the log itself, large ones in files of their own."""
    path = tmp_path / "a"
    drawn = np.random.default_rng(0).normal(size=10_000)
    files.write_orbax(path, {"big": drawn})
    (large,) = [p for p in path.rglob("d/*") if p.stat().st_size > 50_000]
    large.write_bytes(large.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"'big': chunk 'big/0' cannot be read"):
        files.read_orbax(path)
