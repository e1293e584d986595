"""Folders of adapters: those by PEFT itself, round trips, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from qejax import nets
from qejax.zoo import files, formats, from_vectors, read, store

FIXTURES = Path(__file__).parents[1] / "files" / "fixtures"


@pytest.mark.parametrize("name", ["lora_llama", "lora_gpt2"])
def test_changes_are_those_of_peft(name: str) -> None:
    """Scales with patterns and roots, and both orders of axes."""
    folder = formats.read_peft(FIXTURES / name)
    deltas = files.read_safetensors(FIXTURES / name / "deltas.safetensors").tensors
    net = formats.peft_network(folder)
    theta = from_vectors(net.spec, formats.peft_vector(folder))
    changes = net.changes(theta)
    assert len(changes) == len(deltas) == 4
    for module, change in changes.items():
        expected = deltas[f"base_model.model.{module}"]
        stored = change if folder.fan_in_fan_out else change.T
        np.testing.assert_allclose(np.asarray(stored), expected, rtol=1e-5, atol=1e-6)


def test_configurations_are_read() -> None:
    folder = formats.read_peft(FIXTURES / "lora_gpt2")
    assert folder.use_rslora
    assert folder.fan_in_fan_out
    assert (folder.rank, folder.alpha, folder.base) == (2, 3, "")
    assert folder.rank_pattern == {"mlp.c_proj": 1}
    scales = [module.scale for module in folder.modules.values()]
    assert scales == pytest.approx([3 / 2**0.5, 3, 5 / 2**0.5, 3])
    assert list(folder.modules)[:2] == [
        "transformer.h.0.attn.c_attn",
        "transformer.h.0.mlp.c_proj",
    ]


def test_pickled_adapters_are_read() -> None:
    if "torch" not in files.FILES:
        pytest.skip("files by PyTorch are not read by this room yet")
    folder = formats.read_peft(FIXTURES / "lora_bin")
    assert [module.a.shape for module in folder.modules.values()] == [(2, 4)] * 2


def test_adapters_come_back(tmp_path: Path) -> None:
    net = nets.lora([("l.0.q", 4, 6, 2), ("l.0.v", 3, 5, 1)], (1.5, -0.25))
    drawn = np.random.default_rng(0).normal(size=net.spec.num_parameters)
    vector = drawn.astype("float32")
    formats.write_peft(tmp_path / "a", net, vector, base="some/model")
    folder = formats.read_peft(tmp_path / "a")
    assert formats.peft_network(folder) == net
    assert folder.base == "some/model"
    np.testing.assert_array_equal(formats.peft_vector(folder), vector)
    tensors = files.read_file(tmp_path / "a" / "adapter_model.safetensors").tensors
    assert tensors["base_model.model.l.0.q.lora_A.weight"].shape == (2, 4)
    with pytest.raises(ValueError, match="a vector of 28 weights of adapters, got"):
        formats.write_peft(tmp_path / "a", net, vector[1:])
    with pytest.raises(ValueError, match=r"modules should be called by .*\['a\*'\]"):
        formats.write_peft(tmp_path / "b", nets.lora([("a*", 1, 1, 1)]), vector[:2])


def test_a_folder_of_adapters_is_a_zoo(tmp_path: Path) -> None:
    net = nets.lora([("l.0.q", 4, 6, 2)], 2)
    other = nets.lora([("l.0.q", 4, 6, 1)], 2)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 20)).astype("float32")
    for row, vector in enumerate(vectors):
        formats.write_peft(tmp_path / "all" / f"run-{row}", net, vector, base="m")
    formats.write_peft(tmp_path / "all" / "odd" / "one", other, vectors[0, :10])
    zoos = formats.load(f"peft:{tmp_path / 'all'}")
    assert sorted(len(zoo) for zoo in zoos.values()) == [1, 5]
    bucket, zoo = next((name, zoo) for name, zoo in zoos.items() if len(zoo) == 5)
    assert zoo.network == net
    assert bucket.startswith("r2_")
    np.testing.assert_array_equal(zoo.vectors(), vectors)
    assert zoo.ids.tolist() == [f"run-{row}" for row in range(5)]
    assert zoo.hyper["base"].tolist() == ["m"] * 5
    again = read(store(tmp_path / "stored", {bucket: zoo}), bucket)
    np.testing.assert_array_equal(again.vectors(), vectors)
    assert again.network == net
    (tmp_path / "all" / "run-3" / "adapter_config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"\(1 of 6 networks cannot be used: run-3;"):
        formats.load(f"peft:{tmp_path / 'all'}")
    with pytest.raises(FileNotFoundError, match="expected folders with adapter_config"):
        formats.load(f"peft:{tmp_path / 'none'}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "lora_llama", tmp_path / "a"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type should be 'LORA', got 'LOHA'"),
        ({"use_dora": True}, "product of two matrices a module, got use_dora"),
        ({"modules_to_save": ["head"]}, "got modules_to_save = .*trained whole"),
        ({"r": 0}, "r should be of the kind of 8, .* got '0'"),
        ({"r": True}, "r should be of the kind of 8, .* got 'True'"),
        ({"lora_alpha": "8"}, "lora_alpha should be of the kind of 8"),
        ({"lora_alpha": float("nan")}, "lora_alpha should be of the kind of 8"),
        ({"use_rslora": 1}, "use_rslora should be of the kind of False"),
        ({"fan_in_fan_out": "no"}, "fan_in_fan_out should be of the kind of False"),
        ({"base_model_name_or_path": 3}, "base_model_name_or_path should be of"),
        ({"rank_pattern": {"(a+)+$": 2}}, "patterns by plain names of modules, got"),
        ({"rank_pattern": {"q": 0}}, "rank_pattern should be of the kind of"),
        ({"alpha_pattern": [1]}, "alpha_pattern should be of the kind of"),
        ({"r": 3}, "should have rank 3, as adapter_config.json says, got lora_A"),
    ],
)
def test_bad_configurations_are_named(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=message) as error:
        formats.read_peft(folder)
    assert str(folder) in str(error.value)


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
Tensors = dict[str, np.ndarray]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop(Q), "should have both matrices, .* got"),
        (lambda x: x.update(a=x.pop(Q)), "expected matrices base_model.*, got 'a'"),
        (lambda x: x.update({Q: np.ones((2, 8), int)}), "expected matrices .* int64"),
        (lambda x: x.update({Q: np.ones(2)}), "expected matrices .* got"),
        (lambda x: x.clear(), "adapters of at least one module, got a file without"),
        (lambda x: x.update({Q: np.ones((1, 8))}), "should have rank 2, as"),
        (lambda x: x.update({Q: np.ones((2, 1))}), "rank that is at most its 1 inputs"),
    ],
)
def test_bad_tensors_are_named(
    folder: Path, change: Callable[[Tensors], object], message: str
) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = files.read_safetensors(path).tensors
    change(tensors)
    files.write_safetensors(path, tensors)
    with pytest.raises(ValueError, match=message) as error:
        formats.read_peft(folder)
    assert str(folder) in str(error.value)


def test_half_precision_is_read(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = files.read_safetensors(path).tensors
    half = {name: x.astype(ml_dtypes.bfloat16) for name, x in tensors.items()}
    files.write_safetensors(path, half)
    expected = formats.peft_vector(formats.read_peft(FIXTURES / "lora_llama"))
    vector = formats.peft_vector(formats.read_peft(folder))
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, expected, rtol=1e-2)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"expected one of .* beside adapter_config"):
        formats.read_peft(folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(
        ValueError, match="configuration of an adapter by PEFT that can"
    ):
        formats.read_peft(folder)


def test_mutated_folders_are_read_or_named(folder: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["adapter_config.json", "adapter_model.safetensors"]
    raw = {name: (folder / name).read_bytes() for name in names}
    accepted = refused = 0
    for step in range(300):
        name = names[step % 2]
        changed = bytearray(raw[name])
        for at in rng.integers(len(changed), size=rng.integers(1, 4)):
            changed[at] = rng.choice([0, 0x22, 0x39, 0x5D, 0x7B, changed[at] ^ 1])
        (folder / name).write_bytes(changed[: rng.integers(len(changed) * 5)])
        try:
            formats.peft_network(formats.read_peft(folder))
        except ValueError as error:
            refused += str(folder) in str(error)
        else:
            accepted += 1
        (folder / name).write_bytes(raw[name])
    assert refused > 30
    assert accepted + refused == 300
