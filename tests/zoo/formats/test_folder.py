"""Folders of networks in one kind of file: there and back, and what damage is named."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization

from qejax import nets, zoo
from qejax.zoo import files, formats
from qejax.zoo._listing import listed
from qejax.zoo.formats._folder import KINDS
from tests.zoo.random_zoo import random_zoo

NETS = {
    "mlp": nets.mlp((3, 4, 2), activation="tanh"),
    "cnn": nets.cnn(1, (2, 3), 3, head="flatten", image=(6, 6), num_outputs=2),
    "coordinate": nets.coordinate((2, 4, 1)),
}


def found(**zoos: zoo.Zoo) -> zoo.Found:
    return zoo.Found({name: listed(one) for name, one in zoos.items()}, (), "", "")


def some(name: str = "mlp", count: int = 4) -> zoo.Zoo:
    made = random_zoo(NETS[name], count)
    ids = np.array([f"{name}/net_{n}" for n in range(count)])
    return replace(
        made, ids=ids, labels=made.labels | {"class": made.labels["test_accuracy"]}
    )


def assert_same(got: zoo.Zoo, want: zoo.Zoo) -> None:
    order = np.argsort(want.ids)
    want = want.take(order)
    assert got.ids.tolist() == want.ids.tolist()
    np.testing.assert_array_equal(got.vectors(), want.vectors())
    np.testing.assert_array_equal(got.split, want.split)
    for name, column in want.labels.items():
        np.testing.assert_array_equal(got.labels[name], column)
    for name, column in want.hyper.items():
        np.testing.assert_array_equal(got.hyper[name], column)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(tmp_path: Path, kind: str, name: str) -> None:
    want = some(name)
    root = formats.export(found(a=want), f"{kind}:{tmp_path / 'out'}")
    got = formats.load(f"{kind}:{root}")
    assert list(got) == ["networks"]
    assert got["networks"].network == want.network
    assert_same(got["networks"], want)
    listing = formats.list_networks(f"{kind}:{root}")
    assert (listing.protocol, listing.problems) == ("stored", ())
    assert formats.complete(str(root)) == f"{kind}:{root}"


def test_several_architectures_are_several_buckets(tmp_path: Path) -> None:
    zoos = {"a": some("mlp"), "b": some("cnn"), "c": some("coordinate")}
    root = formats.export(found(**zoos), f"npz:{tmp_path / 'out'}")
    got = formats.load(f"npz:{root}", protocol="clean", split_seed=1)
    assert sorted(name.split("_")[0] for name in got) == ["cnn", "coordinate", "mlp"]
    # All together: a run is in one split, whatever its networks are.
    names = sorted(f"{name}/{x}" for name, one in zoos.items() for x in one.ids)
    codes = dict(zip(names, zoo.split_networks(12, 1).tolist(), strict=True))
    for name, one in zoos.items():
        (same,) = [x for x in got.values() if x.network == one.network]
        wanted = one.take(np.argsort(one.ids))
        assert same.ids.tolist() == [f"{name}/{x}" for x in wanted.ids]
        np.testing.assert_array_equal(same.vectors(), wanted.vectors())
        assert same.split.tolist() == [codes[x] for x in same.ids]


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        for width in (8, 6):
            x = nn.tanh(nn.Dense(width)(x))
        return nn.Dense(2)(x)


def test_linen_models_in_msgpack(tmp_path: Path) -> None:
    x = jax.random.normal(jax.random.key(9), (5, 3))
    params = []
    for seed in range(3):
        params.append(Linen().init(jax.random.key(seed), jnp.zeros((1, 3))))
        data = serialization.to_bytes(params[-1])
        (tmp_path / f"{seed}.msgpack").write_bytes(data)
    one = formats.load(f"msgpack:{tmp_path}", activation="tanh")["networks"]
    assert one.network == nets.mlp((3, 8, 6, 2), activation="tanh")
    for row, theirs in enumerate(params):
        theta = jax.tree.map(lambda leaf, row=row: leaf[row], one.thetas)
        got, want = one.network.apply(theta, x), Linen().apply(theirs, x)
        np.testing.assert_allclose(got, np.asarray(want), rtol=1e-5, atol=1e-6)


class Module(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.inner = nnx.Linear(3, 4, rngs=rngs)
        self.outer = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.outer(nnx.relu(self.inner(x)))


def test_nnx_checkpoints_by_orbax_are_runs(tmp_path: Path) -> None:
    x = jax.random.normal(jax.random.key(9), (5, 3))
    models = {}
    for run in range(3):
        with ocp.CheckpointManager(tmp_path / f"run_{run}") as manager:
            for step in (1, 10):
                model = models[run, step] = Module(nnx.Rngs(10 * run + step))
                params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
                manager.save(step, args=ocp.args.StandardSave(params))
            manager.wait_until_finished()
    config = nets.mlp((3, 4, 2)).config.to_dict()
    (tmp_path / "given.json").write_text(json.dumps(config))
    options: dict[str, Any] = {"network": tmp_path / "given.json"}
    last = formats.load(f"orbax:{tmp_path}", **options)["networks"]
    assert last.hyper["step"].tolist() == [10, 10, 10]
    for row in range(3):
        theta = jax.tree.map(lambda leaf, row=row: leaf[row], last.thetas)
        want = models[row, 10](x)
        np.testing.assert_allclose(last.network.apply(theta, x), want, rtol=1e-5)
    listing = formats.list_networks(f"orbax:{tmp_path}", checkpoint="all", **options)
    every = listing.listings["networks"]
    assert every.runs.tolist() == [f"run_{n}" for n in (0, 0, 1, 1, 2, 2)]
    for pair in every.split.reshape(-1, 2):
        assert pair[0] == pair[1]
    first = formats.load(f"orbax:{tmp_path}", checkpoint="1", **options)["networks"]
    assert first.hyper["step"].tolist() == [1, 1, 1]
    for asked, message in (("7", r"checkpoints 7, got \[1, 10\]"), ("x", "got 'x'")):
        with pytest.raises(ValueError, match=message):
            formats.list_networks(f"orbax:{tmp_path}", checkpoint=asked, **options)


def edited(root: Path, row: int, **cells: Any) -> None:
    path = root / "labels.csv"
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    lines[row] |= cells
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[row]), restval="0.5")
        writer.writeheader()
        writer.writerows(lines)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return formats.export(found(a=some()), f"npz:{tmp_path / 'out'}")


def test_damaged_files_and_lines_stop_no_other(root: Path) -> None:
    (root / "mlp" / "net_0.npz").write_bytes(b"PK\x03\x04")
    edited(root, 1, test_accuracy="-0.5")
    edited(root, 2, file="mlp/another")
    listing = formats.list_networks(f"npz:{root}")
    whys = "\n".join(problem.why for problem in listing.problems)
    assert "'mlp/net_1' has test_accuracy -0.5, expected a finite number" in whys
    assert "'mlp/net_2' has no line for it" in whys
    assert "net_0.npz" in whys
    one = listing.listings["networks"]
    assert one.ids.tolist() == ["mlp/net_3"]
    path = root / "mlp" / "net_3.npz"
    path.write_bytes(path.read_bytes()[:-9])
    assert list(one.read(np.array([0])).problems) == [0]
    with pytest.raises(ValueError, match="There is no other network"):
        formats.list_networks(f"npz:{root}")


def test_tables_that_cannot_be_read(root: Path) -> None:
    edited(root, 1, split="dev")
    problems = formats.list_networks(f"npz:{root}").problems
    assert "split 'dev', expected one of" in problems[0].why
    edited(root, 1, split="train", test_accuracy="x")
    problems = formats.list_networks(f"npz:{root}").problems
    assert "test_accuracy 'x', expected a number" in problems[0].why
    edited(root, 1, test_accuracy="0.5", test_loss="1e39")
    problems = formats.list_networks(f"npz:{root}").problems
    assert "test_loss 1e39, expected a finite number up to 3.4" in problems[0].why
    edited(root, 1, file="mlp/net_0")
    with pytest.raises(
        ValueError, match="expected every network once, got 'mlp/net_0'"
    ):
        formats.list_networks(f"npz:{root}")
    (root / "labels.csv").write_text("name,class\na,3\n")
    with pytest.raises(ValueError, match="expected a column 'file' and others"):
        formats.list_networks(f"npz:{root}")


def test_tables_by_excel(root: Path) -> None:
    path = root / "labels.csv"
    want = formats.list_networks(f"npz:{root}").listings["networks"]
    text = path.read_text().replace("\r\n", "\n").replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    got = formats.list_networks(f"npz:{root}").listings["networks"]
    assert list(got.labels) == list(want.labels)
    assert got.hyper["step"].tolist() == want.hyper["step"].tolist()


def test_percent_is_no_share(root: Path) -> None:
    edited(root, 1, test_accuracy="88.5")
    message = r"'test_accuracy' should be .* got 1 beyond, up to 88.5: percent\? Divide"
    with pytest.raises(ValueError, match=message):
        formats.list_networks(f"npz:{root}")
    edited(root, 1, test_accuracy="inf")
    assert "test_accuracy inf" in formats.list_networks(f"npz:{root}").problems[0].why


def test_cut_offs(root: Path) -> None:
    want = some()
    cut = float(np.sort(want.labels["test_accuracy"])[2])
    got = formats.load(f"npz:{root}", cut_off=cut)["networks"]
    assert_same(got, want.take(np.flatnonzero(want.labels["test_accuracy"] >= cut)))
    (root / "labels.csv").unlink()
    with pytest.raises(ValueError, match="with a column 'split', got none such"):
        formats.list_networks(f"npz:{root}", protocol="stored")
    with pytest.raises(ValueError, match=r"cut_off needs a table labels\.csv"):
        formats.list_networks(f"npz:{root}", cut_off=0.5)


def test_networks_that_nobody_tells(root: Path, tmp_path: Path) -> None:
    (root / "network.json").unlink()
    with pytest.raises(ValueError, match=r"do not tell its \['activation'\], got none"):
        formats.list_networks(f"npz:{root}")
    one = formats.list_networks(f"npz:{root}", activation="tanh").listings["networks"]
    assert one.network == NETS["mlp"]
    for text, message in (("{", "in JSON, as"), (None, "in JSON, got .*No such file")):
        path = tmp_path / "net.json"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(ValueError, match=message):
            formats.list_networks(f"npz:{root}", network=path)
    with pytest.raises(FileNotFoundError, match="networks in files of kind 'torch'"):
        formats.list_networks(f"torch:{root}")


@pytest.mark.parametrize("name", ["../out", "/x", "a//b", "", "a/../b", "x" * 201])
def test_names_that_are_no_paths_below(tmp_path: Path, name: str) -> None:
    one = random_zoo(NETS["mlp"], 1)
    bad = found(a=replace(one, ids=np.array([name])))
    for kind in ("npz", "orbax"):
        with pytest.raises(ValueError, match="should be paths below the folder, got"):
            formats.export(bad, f"{kind}:{tmp_path / 'out'}")
    assert list(tmp_path.iterdir()) == []


def test_adapters_there_and_back(tmp_path: Path) -> None:
    net = nets.lora([("q_proj", 4, 5, 2), ("v_proj", 4, 3, 2)], 0.5)
    want = random_zoo(net, 4)
    root = formats.export(found(a=want), f"peft:{tmp_path / 'out'}")
    (got,) = formats.load(f"peft:{root}").values()
    assert_same(got, want)
    assert formats.complete(str(root)) == f"peft:{root}"
    (root / "net_1" / "adapter_config.json").write_text("{")
    listing = formats.list_networks(f"peft:{root}", protocol="clean")
    assert [problem.name for problem in listing.problems] == ["net_1"]
    (one,) = listing.listings.values()
    shutil.copytree(root / "net_0", root / "other", dirs_exist_ok=True)
    path = root / "net_2" / "adapter_config.json"
    path.write_text(path.read_text().replace('"lora_alpha": 1.0', '"lora_alpha": 2.0'))
    config = json.loads(path.read_text())
    config["alpha_pattern"] = {name: 7.0 for name in config["alpha_pattern"]}
    path.write_text(json.dumps(config))
    problems = one.read(np.arange(len(one))).problems
    assert "expected the adapter that was listed" in problems[1]
    with pytest.raises(ValueError, match="PEFT folders hold adapters, networks by"):
        formats.export(found(a=some()), f"peft:{tmp_path / 'no'}")
    for folder in ("net_0", "net_1", "net_2", "net_3", "other"):
        (root / folder / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="There is no other adapter"):
        formats.list_networks(f"peft:{root}")


@pytest.mark.parametrize("end", [".ckpt", ".pth.tar", ".PT", ".Pth"])
def test_other_ends_of_names(tmp_path: Path, end: str) -> None:
    want = some()
    root = formats.export(found(a=want), f"torch:{tmp_path / 'out'}")
    for path in root.rglob("*.pt"):
        path.rename(path.with_suffix(end))
    table = root / "labels.csv"
    table.write_text(table.read_text().replace("mlp/net_1,", f"mlp/net_1{end},"))
    assert formats.complete(str(root)) == f"torch:{root}"
    assert len(formats.files_of(f"torch:{root}")) == 6
    got = formats.list_networks(f"torch:{root}")
    assert len(got.problems) == (end == ".Pth")  # the table has known ends alone
    ids = got.listings["networks"].ids.tolist()
    assert ids[0] == "mlp/net_0"


def test_files_of_equal_names_keep_their_ends(tmp_path: Path) -> None:
    tensors = formats.from_vector(NETS["mlp"], some(count=1).vectors()[0])
    for name in ("a.pt", "a.ckpt", "b.pt"):
        files.write_torch(tmp_path / name, tensors)
    one = formats.list_networks(f"torch:{tmp_path}", activation="tanh")
    listing = one.listings["networks"]
    assert listing.ids.tolist() == ["a.ckpt", "a.pt", "b"]
    assert listing.runs.tolist() == ["a", "a", "b"]


def test_why_nothing_is_found(root: Path, tmp_path: Path) -> None:
    message = r"expected a folder of networks, found none\. Check"
    with pytest.raises(FileNotFoundError, match=message):
        formats.list_networks(f"npz:{tmp_path / 'no'}")
    with pytest.raises(FileNotFoundError, match="found a file: give the folder that"):
        formats.list_networks(f"npz:{root / 'labels.csv'}")
    with pytest.raises(
        FileNotFoundError, match=r"\.ckpt \.pth\.tar\), found 4 x \.npz,"
    ):
        formats.list_networks(f"torch:{root}")
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in root.rglob("*.npz"):
        (linked / path.name).symlink_to(path)
    with pytest.raises(FileNotFoundError, match="found none, and 4 links, which are"):
        formats.list_networks(f"npz:{linked}")


def test_a_directory_above_zoos(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    assert formats.complete(str(tmp_path)) == f"npz:{tmp_path}"
    files.write_torch(root / "mlp" / "a.pt", {"a.weight": np.ones((2, 2))})
    with pytest.raises(ValueError, match=r"a single format, found those of .* Say wh"):
        formats.complete(str(root))
    with pytest.raises(FileNotFoundError, match=r"of networks, found a file\. Give"):
        formats.complete(str(root / "labels.csv"))
    with pytest.raises(ValueError, match=r"found none\. Give the directory of"):
        formats.complete(str(tmp_path / "a"))
    published = tmp_path / "a" / "small"
    published.mkdir()
    (published / "weights.npy").write_bytes(b"")
    message = rf"1 x .npy. There are zoos below: give small_cnn_zoo:{published}"
    with pytest.raises(ValueError, match=message):
        formats.complete(str(tmp_path / "a"))


def test_files_of_a_folder_are_all_that_is_read(root: Path) -> None:
    names = {path.name for path in formats.files_of(f"npz:{root}")}
    assert names == {"labels.csv", "network.json", *(f"net_{n}.npz" for n in range(4))}
    assert files.kind_of(root / "labels.csv") is None
