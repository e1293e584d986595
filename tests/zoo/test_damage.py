"""Prepared zoos that are damaged or edited: refused, and the file or field is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo import _manifest
from tests.zoo.random_zoo import random_zoo

NET = nets.mlp((3, 4, 2))
COUNT = 20


def _zoo(seed: int) -> zoo.Zoo:
    return random_zoo(NET, COUNT, seed)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store") / "zoo"
    return zoo.store(root, {"a": _zoo(0), "b": _zoo(1)}, config={"rates": (1, 2.5)})


@pytest.fixture
def broken(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / "broken"))


def _files(root: Path) -> list[Path]:
    return [path for path in (root / "qejax_zoo" / "a").rglob("*") if path.is_file()]


def _shard(root: Path, name: str = "train.array_record") -> Path:
    return next(path for path in _files(root) if name in path.name)


def _write(root: Path, change: Callable[[Any], Any], *, sign: bool) -> None:
    """Edits the manifest; with `sign`, it gets the digest of what it says now."""
    path = root / "manifest.json"
    manifest = json.loads(path.read_text())
    changed = change(manifest)
    manifest = manifest if changed is None else changed
    if sign:
        manifest["sha256"] = _manifest.digest(manifest)
    path.write_text(json.dumps(manifest))


def test_the_manifest_lists_every_file(stored: Path) -> None:
    shards = json.loads((stored / "manifest.json").read_text())["buckets"]["a"]
    listed = {stored / name for name in shards["shards"]}
    assert listed == set(_files(stored))
    assert {"features.json", "dataset_info.json"} <= {path.name for path in listed}


FILES = ["train.array_record", "features.json", "dataset_info.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(broken: Path, name: str) -> None:
    path = _shard(broken, name)
    whole = path.read_bytes()
    raw = bytearray(whole)
    raw[len(raw) // 2] ^= 1
    for damaged in (raw, whole[:-10]):
        path.write_bytes(damaged)
        for read in (
            lambda: zoo.read(broken, "a"),
            lambda: zoo.stream(broken, "train", 4, bucket="a"),
        ):
            with pytest.raises(
                ValueError, match=rf"'a': shard .*{name}.*is damaged: expected SHA"
            ):
                read()
    # The other bucket is whole.
    np.testing.assert_array_equal(zoo.read(broken, "b").vectors(), _zoo(1).vectors())


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(broken: Path, name: str) -> None:
    _shard(broken, name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"shard .*{name}.* not on disk"):
        zoo.read(broken, "a")


def test_manifests_that_are_none_are_named(broken: Path) -> None:
    path = broken / "manifest.json"
    _write(broken, lambda found: found | {"format_version": 9}, sign=True)
    with pytest.raises(ValueError, match=r"'format_version' should be .* 9\)"):
        zoo.read(broken, "a")
    for text in ("{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"manifest.json: expected JSON, got"):
            zoo.read(broken)
    for text in ("[]", "null", '"zoo"'):
        path.write_text(text)
        with pytest.raises(ValueError, match="expected a JSON object with the fields"):
            zoo.buckets(broken)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"file manifest.json, found none"):
        zoo.buckets(broken)


TOP: list[tuple[dict[str, Any], str]] = [
    ({"buckets": None}, "field 'buckets' should be of type dict, got None"),
    ({"buckets": ["a"]}, r"field 'buckets' should be of type dict, got \['a'\]"),
    ({"buckets": {}}, "'buckets' should have at least one bucket, got none"),
    ({"buckets": {"a": []}}, r"bucket 'a': expected an object with the fields"),
    ({"config": 3}, "field 'config' should be of type dict or NoneType, got 3"),
]
ENTRY: list[tuple[dict[str, Any], str]] = [
    ({"network": "mlp"}, "'a': field 'network' should be of type dict, got 'mlp'"),
    ({"count": "20"}, "'a': field 'count' should be of type int, got '20'"),
    ({"count": True}, "'a': field 'count' should be of type int, got True"),
    ({"count": 99}, "to list 99 different networks, .* got 20 different ids among 20"),
    ({"splits": {"train": []}}, r"'splits': missing fields \['val', 'test'\]"),
    (
        {"splits": {"train": 3, "val": [], "test": []}},
        "field 'splits': field 'train' should be of type list, got 3",
    ),
    (
        {"splits": {"train": [3], "val": [], "test": []}},
        "field 'splits' should have lists of ids for",
    ),
    ({"shards": []}, "'a': field 'shards' should be of type dict"),
    ({"shards": {"../x": "0"}}, r"should give the SHA-256 of files below .*'\.\./x'"),
    ({"folder": "../x"}, r"'folder' should be a path below the folder .*'\.\./x'"),
    ({"folder": "/"}, "'folder' should be a path below the folder of the zoo, got '/'"),
    ({"folder": ""}, "'folder' should be a path below the folder of the zoo, got ''"),
]


@pytest.mark.parametrize(("change", "message"), TOP)
def test_bad_fields_are_named(
    broken: Path, change: dict[str, Any], message: str
) -> None:
    _write(broken, lambda found: found | change, sign=True)
    with pytest.raises(ValueError, match=rf"manifest.json.*{message}"):
        zoo.read(broken, "a")


@pytest.mark.parametrize(("change", "message"), ENTRY)
def test_bad_fields_of_a_bucket_are_named(
    broken: Path, change: dict[str, Any], message: str
) -> None:
    _write(broken, lambda found: found["buckets"]["a"].update(change), sign=True)
    with pytest.raises(ValueError, match=rf"manifest.json, bucket.*{message}"):
        zoo.read(broken, "a")


def test_missing_fields_are_named(broken: Path) -> None:
    path = broken / "manifest.json"
    good = json.loads(path.read_text())
    for name in ("config", "versions", "buckets"):
        path.write_text(json.dumps({k: v for k, v in good.items() if k != name}))
        with pytest.raises(ValueError, match=rf"missing fields \['{name}'\]"):
            zoo.read(broken, "a")
    for name in good["buckets"]["a"]:
        entry = {k: v for k, v in good["buckets"]["a"].items() if k != name}
        path.write_text(json.dumps(good | {"buckets": {"a": entry}}))
        with pytest.raises(ValueError, match=rf"bucket 'a': missing fields \['{name}'"):
            zoo.read(broken, "a")


def test_a_folder_that_links_elsewhere_is_refused(broken: Path, stored: Path) -> None:
    (broken / "link").symlink_to(stored / "qejax_zoo")
    change: dict[str, Any] = {"folder": "link/a/1.1.0", "shards": {}}
    _write(broken, lambda found: found["buckets"]["a"].update(change), sign=True)
    with pytest.raises(ValueError, match="'folder' should be a path below the folder"):
        zoo.read(broken, "a")


def _tanh(manifest: Any) -> None:
    network = manifest["buckets"]["a"]["network"]
    assert network["activation"] == ["relu"]
    network["activation"] = ["tanh"]


def _swap(manifest: Any) -> None:
    splits = manifest["buckets"]["a"]["splits"]
    splits["train"][0], splits["test"][0] = splits["test"][0], splits["train"][0]


def _unsigned(manifest: Any) -> None:
    del manifest["sha256"]


def _rate(manifest: Any) -> None:
    manifest["config"]["rates"][1] = 2.6


@pytest.mark.parametrize("change", [_tanh, _swap, _unsigned, _rate])
def test_an_edited_manifest_is_refused(
    broken: Path, change: Callable[[Any], None]
) -> None:
    _write(broken, change, sign=False)
    for read in (
        lambda: zoo.buckets(broken),
        lambda: zoo.read(broken, "a", verify=False),
        lambda: zoo.stream(broken, "train", 4, bucket="a"),
    ):
        with pytest.raises(ValueError, match="the manifest is not as it was written"):
            read()


def test_a_manifest_may_be_laid_out_anew(broken: Path) -> None:
    """The digest is that of what it says: order of fields and spaces are free."""
    path = broken / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert zoo.buckets(broken) == ("a", "b")


def test_records_are_those_of_the_manifest(broken: Path) -> None:
    _write(broken, _swap, sign=True)
    message = r"'train': by the manifest, the record should be network '.*', got 'net_"
    with pytest.raises(ValueError, match=message):
        zoo.read(broken, "a")
    with pytest.raises(ValueError, match=message):
        list(zoo.stream(broken, "train", 4, bucket="a", seed=1))

    def one_less(manifest: Any) -> None:
        entry = manifest["buckets"]["a"]
        entry["splits"]["train"].pop()
        entry["count"] -= 1

    _write(broken, one_less, sign=True)
    for read in (
        lambda: zoo.read(broken, "a"),
        lambda: zoo.stream(broken, "train", 4, bucket="a"),
    ):
        with pytest.raises(
            ValueError, match=r"expected 11 networks by the manifest, got 12 records"
        ):
            read()
