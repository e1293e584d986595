"""Folders of adapters in the layout of Hugging Face's PEFT, read and written.

A folder holds `adapter_config.json` and `adapter_model.safetensors` (or `.bin`), whose
tensors are `base_model.model.MODULE.lora_A.weight: [r, in]` and `lora_B.weight:
[out, r]`. A module adds `scale B A` to its kernel, `scale = alpha / r`, or
`alpha / sqrt(r)` where the configuration says `use_rslora`; patterns give modules a
rank or an alpha of their own.

Source: PEFT 0.21, `LoraConfig`; Kalajdzievski 2023, arXiv:2312.03732 (rslora).
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from qejax.nets import Lora, lora
from qejax.zoo.files import in_natural_order, read_file, write_safetensors
from qejax.zoo.files._bounds import open_file
from qejax.zoo.files._draft import replace_file
from qejax.zoo.files._safetensors import parse_json

CONFIG, MODELS = (
    "adapter_config.json",
    ("adapter_model.safetensors", "adapter_model.bin"),
)
PREFIX, ENDS = "base_model.model.", (".lora_A.weight", ".lora_B.weight")
MAX_CONFIG = 2**20

DEFAULTS: dict[str, Any] = {
    "base_model_name_or_path": "",
    "r": 8,
    "lora_alpha": 8,
    "use_rslora": False,
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
}
"""Fields that count, with what stands for them where they are not there, by PEFT."""

REFUSED = {
    "use_dora": "magnitudes beside its products",
    "use_qalora": "pooled inputs",
    "use_bdlora": "blocks in its products",
    "lora_bias": "biases in its products",
    "layer_replication": "layers that are there twice",
    "modules_to_save": "modules that are trained whole",
    "trainable_token_indices": "rows of tables that are trained",
}
"""Fields of a configuration that make the function another one where they are set."""


class Module(NamedTuple):
    """One adapter of a folder.

    Attributes:
        a: `[r, in]`, as PEFT stores it.
        b: `[out, r]`.
        scale: of `b a`.
    """

    a: np.ndarray
    b: np.ndarray
    scale: float


class PeftFolder(NamedTuple):
    """What a folder holds.

    Attributes:
        modules: by name in the base, in the order of their numbers.
        base: name or address of the base, empty if it has none.
        rank: of modules without a pattern.
        alpha: likewise.
        use_rslora: whether scales have a root in them.
        fan_in_fan_out: whether the kernels of the base are `(in, out)`.
        rank_pattern: ranks of modules, by the ends of their names; the first counts.
        alpha_pattern: alphas, likewise.
    """

    modules: dict[str, Module]
    base: str
    rank: int
    alpha: float
    use_rslora: bool
    fan_in_fan_out: bool
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]


def read_peft(folder: str | Path) -> PeftFolder:
    """Returns the adapters of a folder, checked against its configuration.

    Nothing is executed; the base is not opened, whatever its address.

    Args:
        folder: holds `adapter_config.json` and the adapters.

    Raises:
        ValueError: if a file is missing or not whole, the adapters are of another
            kind, or tensors do not fit each other or the configuration; names file
            and entry, what was expected and found.
    """
    folder = Path(folder)
    path = folder / CONFIG
    with open_file(path, "the configuration of an adapter by PEFT") as file:
        config = parse_json(path, file.read(MAX_CONFIG))
    head = _checked(path, config)
    models = [folder / name for name in MODELS if (folder / name).is_file()]
    if not models:
        raise ValueError(
            f"{folder}: expected one of {list(MODELS)} beside {CONFIG}, got none. "
            f"Fetch the folder again."
        )
    pairs = _pairs(models[0], read_file(models[0]).tensors)
    modules: dict[str, Module] = {}
    for name in in_natural_order(pairs):
        a, b = pairs[name]
        rank = int(pattern_of(head.rank_pattern, name, head.rank))
        if a.shape[0] != rank or b.shape[1] != rank:
            raise ValueError(
                f"{models[0]}: module {name!r} should have rank {rank}, as {CONFIG} "
                f"says, got lora_A {a.shape} and lora_B {b.shape}. The files are of "
                f"different adapters."
            )
        if rank > min(a.shape[1], b.shape[0]):
            raise ValueError(
                f"{models[0]}: module {name!r} should have a rank that is at most its "
                f"{a.shape[1]} inputs and {b.shape[0]} outputs, got {rank}. Merge the "
                f"adapter: a product of this rank is no smaller than its kernel."
            )
        alpha = float(pattern_of(head.alpha_pattern, name, head.alpha))
        modules[name] = Module(a, b, scale_of(alpha, rank, head.use_rslora))
    return head._replace(modules=modules)


def scale_of(alpha: float, rank: int, use_rslora: bool) -> float:
    """Returns what a product is multiplied by.

    Example:
        >>> scale_of(8, 4, False), scale_of(8, 4, True)
        (2.0, 4.0)
    """
    return alpha / (math.sqrt(rank) if use_rslora else rank)


def pattern_of(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    """Returns the first entry of a pattern whose name ends the name of a module.

    Example:
        >>> pattern_of({"c_attn": 3, "1.c_attn": 5}, "h.0.c_attn", 2)
        3
    """
    for end, value in pattern.items():
        if module == end or module.endswith(f".{end}"):
            return value
    return default


def _checked(path: Path, config: dict[str, Any]) -> PeftFolder:
    """The fields that count, of the types that they should have."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ValueError(
            f"{path}: peft_type should be 'LORA', got {str(kind)[:40]!r}. Other "
            f"adapters have other symmetries."
        )
    for name, what in REFUSED.items():
        if config.get(name):
            raise ValueError(
                f"{path}: expected an adapter that is a product of two matrices a "
                f"module, got {name} = {str(config[name])[:40]!r}: {what}. Merge it."
            )
    given = {name: config.get(name) for name in DEFAULTS}
    values = {
        name: DEFAULTS[name] if value is None else value
        for name, value in given.items()
    }
    ranks, alphas = values["rank_pattern"], values["alpha_pattern"]
    good = {
        "base_model_name_or_path": type(values["base_model_name_or_path"]) is str,
        "use_rslora": type(values["use_rslora"]) is bool,
        "fan_in_fan_out": type(values["fan_in_fan_out"]) is bool,
        "r": _is_rank(values["r"]),
        "lora_alpha": _is_alpha(values["lora_alpha"]),
        "rank_pattern": _is_pattern(ranks) and all(map(_is_rank, ranks.values())),
        "alpha_pattern": _is_pattern(alphas) and all(map(_is_alpha, alphas.values())),
    }
    for name, fine in good.items():
        if not fine:
            raise ValueError(
                f"{path}: {name} should be of the kind of {DEFAULTS[name]!r}, patterns "
                f"by plain names of modules, got {str(config.get(name))[:80]!r}. Fetch "
                f"the folder again."
            )
    return PeftFolder({}, *values.values())


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**31


def _is_alpha(value: Any) -> bool:
    return type(value) in (int, float) and 0 < abs(value) < 2.0**64


def _is_pattern(value: Any) -> bool:
    # PEFT takes names as regular expressions; those of a file are not run.
    plain = re.compile(r"[\w.]{1,1000}")
    return type(value) is dict and all(plain.fullmatch(name) for name in value)


def _pairs(
    path: Path, tensors: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Both matrices of every module, by its name in the base."""
    halves: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        end = next((end for end in ENDS if name.endswith(end)), "")
        module = name.removesuffix(end).removeprefix(PREFIX)
        floats = tensor.dtype.kind == "f" or "float" in tensor.dtype.name
        if not end or tensor.ndim != 2 or not floats or not module or "/" in module:
            raise ValueError(
                f"{path}: expected matrices {PREFIX}MODULE{ENDS[0]} and {ENDS[1]}, got "
                f"{name!r}, {tensor.dtype} of shape {tensor.shape}. Save adapters of "
                f"dense layers alone."
            )
        with np.errstate(over="ignore"):
            halves.setdefault(module, {})[end] = tensor.astype(np.float32)
    for module, own in halves.items():
        if len(own) != 2:
            raise ValueError(
                f"{path}: module {module!r} should have both matrices, {list(ENDS)}, "
                f"got {list(own)}. Fetch the file again."
            )
    if not halves:
        raise ValueError(
            f"{path}: expected the adapters of at least one module, got a file without "
            f"tensors. Fetch it again."
        )
    return {module: (own[ENDS[0]], own[ENDS[1]]) for module, own in halves.items()}


def peft_network(folder: PeftFolder) -> Lora:
    """Returns the network of the adapters of a folder, of an unknown base."""
    modules = [
        (name, module.a.shape[1], module.b.shape[0], module.a.shape[0])
        for name, module in folder.modules.items()
    ]
    return lora(modules, [module.scale for module in folder.modules.values()])


def peft_vector(folder: PeftFolder) -> np.ndarray:
    """Returns the adapters of a folder as weights of `peft_network`, `[P]` float32."""
    flat = [
        side.T.reshape(-1)
        for module in folder.modules.values()
        for side in (module.a, module.b)
    ]
    return np.concatenate(flat).astype(np.float32)


def write_peft(
    folder: str | Path, network: Lora, vector: np.ndarray, base: str = ""
) -> None:
    """Writes a folder that `read_peft` and PEFT read, each file whole or not at all.

    Args:
        folder: is made; files of these names in it are replaced.
        network: by `nets.lora`; names of modules are those in the base.
        vector: its weights, `[P]`.
        base: name or address of the base.

    Raises:
        ValueError: if the vector has another length, or a name is no plain one.
    """
    folder, modules = Path(folder), network.config.modules
    if vector.shape != (network.spec.num_parameters,):
        raise ValueError(
            f"{folder}: expected a vector of {network.spec.num_parameters} weights of "
            f"adapters, got shape {vector.shape}."
        )
    if not _is_pattern(dict.fromkeys(name for name, *_ in modules)):
        raise ValueError(
            f"{folder}: modules should be called by letters, digits and dots, got "
            f"{[name for name, *_ in modules][:3]}. Rename them."
        )
    tensors: dict[str, np.ndarray] = {}
    start = 0
    for name, inputs, outputs, rank in modules:
        for end, shape in zip(ENDS, ((inputs, rank), (rank, outputs)), strict=True):
            size = shape[0] * shape[1]
            side = vector[start : start + size].reshape(shape)
            tensors[f"{PREFIX}{name}{end}"] = np.ascontiguousarray(side.T, np.float32)
            start += size
    ranks = {name: rank for name, _, _, rank in modules}
    scales = dict(zip(ranks, network.config.scales, strict=True))
    first = modules[0][0]
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base or None,
        "r": ranks[first],
        "lora_alpha": scales[first] * ranks[first],
        "target_modules": sorted(ranks),
        "rank_pattern": ranks,
        "alpha_pattern": {name: scales[name] * rank for name, rank in ranks.items()},
        "use_rslora": False,
        "fan_in_fan_out": False,
        "bias": "none",
        "inference_mode": True,
    }
    text = json.dumps(config, indent=2).encode()

    def write(file: BinaryIO) -> None:
        file.write(text)

    write_safetensors(folder / MODELS[0], tensors, {"format": "pt"})
    replace_file(folder / CONFIG, write)
