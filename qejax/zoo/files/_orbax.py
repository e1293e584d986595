"""Folders by orbax: checkpoints of Flax Linen and NNX, and of anything else in JAX.

A checkpoint is a store of chunks: `NAME/.zarray` says what an array is, `NAME/0.0` is a
chunk of it. Read here with tensorstore alone, for orbax's own reader wants the devices
that wrote it, follows links, and believes every size. Before anything is unpacked, all
arrays are compared with the bytes that there are.

Source: orbax 0.12 (format of its folders); RFC 8878, section 3.1.1 (frames of zstd).
"""

import json
import math
import mmap
import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from qejax.zoo.files._bounds import (
    FREE,
    MAX_ENTRIES,
    MAX_TEXT,
    RATIO,
    bytes_of,
    check_name,
    check_unpacked,
    open_file,
)
from qejax.zoo.files._names import in_natural_order, nest
from qejax.zoo.files._safetensors import parse_json
from qejax.zoo.files._stored import Stored

METADATA, STORE, TEXTS = "_METADATA", "manifest.ocdbt", "_strings.json"
ITEMS = ("params", "state", "default")
"""Folders of a step that hold weights, the first that is there."""

FIELDS = "qejax_fields"
_STEP = re.compile(r"(?:[a-z]+_)?([0-9]{1,18})")
_ARRAY = "/.zarray"
_BLOCK = 128 * 1024  # what a block of Zstandard holds at most
_MAGIC = b"\x28\xb5\x2f\xfd"


def read_orbax(path: Path, step: int | None = None, item: str | None = None) -> Stored:
    """Returns the arrays of a checkpoint, layers in the order of their numbers.

    Args:
        path: of a checkpoint, of a step with items in it, or of the folder of a
            `CheckpointManager`.
        step: which, of a manager; `None` for the latest.
        item: folder of a step; `None` for `params`, `state` or `default`, the first
            that is there, or the only one.

    Returns:
        Arrays by dotted name, `.value` of Flax's boxes left out; single numbers and
        texts as fields.

    Raises:
        ValueError: if there is no such checkpoint, it has links in it, is not whole, or
            holds less than it says; names folder and array.
    """
    folder = _item(Path(path), step, item)
    size = _checked_size(folder)
    fields, kinds = _described(folder)
    try:
        store = ts.KvStore.open(_spec(folder)).result()
        keys = [key.decode() for key in store.list().result()]
    except Exception as error:  # of tensorstore: anything
        raise ValueError(
            f"{folder}: expected a store of arrays by orbax, got one that cannot be "
            f"opened ({_short(error)}). Fetch the folder again."
        ) from error
    names = [key.removesuffix(_ARRAY) for key in keys if key.endswith(_ARRAY)]
    if not names or len(names) > MAX_ENTRIES:
        raise ValueError(
            f"{folder}: expected from 1 to {MAX_ENTRIES} arrays in the format zarr 2, "
            f"got {len(names)}. Save with use_zarr3=False."
        )
    chunks: dict[str, list[str]] = {name: [] for name in names}
    for key in keys:
        name = key.rpartition("/")[0]
        if name in chunks and key != name + _ARRAY:
            chunks[name].append(key)
    unpacked = sum(_claim(folder, store, name, chunks[name]) for name in names)
    check_unpacked(str(folder), unpacked, size)
    arrays = {name: _array(folder, name) for name in in_natural_order(names)}
    if all(name.endswith(".value") for name in arrays):
        arrays = {name.removesuffix(".value"): x for name, x in arrays.items()}
    stored = Stored({}, fields)
    for name, array in arrays.items():
        if kinds.get(name) == "scalar" and array.ndim == 0:
            stored.fields[name] = array.item()
        else:
            stored.tensors[name] = array
    return stored


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _is_item(folder: Path) -> bool:
    return (folder / METADATA).is_file() or (folder / STORE).is_file()


def _item(path: Path, step: int | None, item: str | None) -> Path:
    """The folder of one checkpoint; links on the way to it are not followed."""
    if not path.is_dir():
        raise ValueError(
            f"{path}: expected a folder by orbax, got none. Check the path."
        )
    if _is_item(path):
        return path
    inner = [p for p in path.iterdir() if p.is_dir() and not p.is_symlink()]
    steps = {int(m[1]): p for p in inner if (m := _STEP.fullmatch(p.name))}
    if steps:
        number = max(steps) if step is None else step
        if number not in steps:
            raise ValueError(
                f"{path}: expected a step of {sorted(steps)}, got {step}. Choose one."
            )
        return _item(steps[number], None, item)
    items = {p.name: p for p in sorted(inner) if _is_item(p)}
    wanted = [name for name in (ITEMS if item is None else (item,)) if name in items]
    if item is None and len(items) == 1:
        wanted = list(items)
    if not wanted:
        raise ValueError(
            f"{path}: expected a checkpoint by orbax, or one item of "
            f"{list(ITEMS) if item is None else [item]}, got {sorted(items)}. Name the "
            f"folder with {METADATA}."
        )
    return items[wanted[0]]


def _checked_size(folder: Path) -> int:
    """Bytes of all files; links, pipes and devices are refused, and what is a bomb.

    The log of the store is packed as well, so all frames in all files are counted.
    """
    files: list[tuple[Path, int]] = []
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(root, name)
            found = os.lstat(path)
            plain = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
            if not plain or len(files) > 10 * MAX_ENTRIES:
                raise ValueError(
                    f"{folder}: expected at most {10 * MAX_ENTRIES} ordinary files, "
                    f"got {path}, a link or other. Do not use the folder."
                )
            if stat.S_ISREG(found.st_mode):
                files.append((path, found.st_size))
    total = sum(size for _, size in files)
    limit, unpacked = max(FREE, RATIO * total), 0
    for path, size in files:
        if size:
            with (
                open_file(path, "a file by orbax") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                unpacked += zstd_bound(data, limit)
    check_unpacked(str(folder), unpacked, total)
    return total


def _described(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields beside the arrays, and what single values were, by dotted name."""
    found: dict[str, dict[str, Any]] = {METADATA: {}, TEXTS: {}}
    for name in found:
        if (folder / name).is_file():
            with open_file(folder / name, "a description by orbax") as file:
                found[name] = parse_json(folder / name, file.read(32 * MAX_TEXT))
    tree = found[METADATA].get("tree_metadata", {})
    own = found[METADATA].get("custom_metadata") or {}
    kinds: dict[str, Any] = {}
    try:
        for entry in tree.values():
            name = ".".join(str(key["key"]) for key in entry["key_metadata"])
            kinds[name] = entry["value_metadata"]["value_type"]
        fields = dict(own.get(FIELDS, {}))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{folder / METADATA}: expected a description of a tree by orbax, got one "
            f"that cannot be read ({_short(error)}). Fetch the folder again."
        ) from error
    texts = {k: v for k, v in found[TEXTS].items() if isinstance(v, str)}
    return fields | texts, kinds


def _spec(folder: Path) -> dict[str, Any]:
    """How tensorstore opens a folder; its keys cannot leave it."""
    files = {"driver": "file", "path": f"{folder.absolute()}/"}
    if not (folder / STORE).is_file():
        return files
    return {"driver": "ocdbt", "base": files}


def _claim(folder: Path, store: Any, name: str, inside: list[str]) -> int:
    """How many bytes an array takes at most, unpacked; its chunks are `inside`."""
    where = f"{folder}: array {name[:80]!r}"
    check_name(where, name)
    try:
        entry = json.loads(store.read(name + _ARRAY).result().value[:MAX_TEXT])
        shape, chunks = entry["shape"], entry["chunks"]
        packing = entry["compressor"] and entry["compressor"]["id"]
        kind = entry["dtype"]
        bfloat16 = kind == "bfloat16"
        dtype = np.dtype(ml_dtypes.bfloat16 if bfloat16 else kind)
        known = packing in (None, "zstd") and not entry["filters"]
        axes = len(shape) - len(chunks)
    except Exception as error:  # of tensorstore: anything
        raise ValueError(
            f"{where} should be described as zarr 2 does, got {_short(error)}. Fetch "
            f"the folder again."
        ) from error
    if not known or dtype.hasobject or axes or 0 in chunks:
        raise ValueError(
            f"{where} should be numbers, packed by zstd or not, with a chunk size an "
            f"axis, got {kind} packed by {packing}, {chunks}. Save it again."
        )
    total, chunk = (bytes_of(where, sizes, dtype) for sizes in (shape, chunks))
    wanted = math.prod(-(-n // c) for n, c in zip(shape, chunks, strict=True))
    if total and len(inside) < wanted:
        raise ValueError(
            f"{where} should have {wanted} chunks for shape {shape}, got "
            f"{len(inside)}. Fetch the folder again."
        )
    unpacked = total
    for key in inside:
        try:
            packed = store.read(key).result().value
        except Exception as error:  # of tensorstore: anything
            raise ValueError(
                f"{where}: chunk {key[:80]!r} cannot be read ({_short(error)}). Fetch "
                f"the folder again."
            ) from error
        held = zstd_bound(packed) if packing else len(packed)
        unpacked += max(held, chunk)
    return unpacked


def zstd_bound(data: Any, limit: int = 2**62) -> int:
    """Returns how many bytes the frames of Zstandard in some bytes hold at most.

    Nothing is unpacked: every block says how long it is, and holds at most 128 kB.
    Frames may be anywhere, and in each other, so that none can hide behind what only
    looks like one.

    Args:
        data: bytes, or a map of a file.
        limit: where to stop counting.

    Example:
        >>> zstd_bound(bytes.fromhex("28b52ffd0003190000616263"))  # "abc", as it is
        1024
    """
    total, start = 0, data.find(_MAGIC)
    while start >= 0 and total <= limit:
        flags = data[start + 4] if start + 5 <= len(data) else 0
        single = flags >> 5 & 1
        size = (single, 2, 4, 8)[flags >> 6]
        at = start + 5 + (not single) + (0, 1, 2, 4)[flags & 3] + size
        last = False
        while not last and at + 3 <= len(data) and total <= limit:
            header = int.from_bytes(data[at : at + 3], "little")
            last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
            # At least a kilobyte, so that counting ends soon.
            total += max(length if kind < 2 else _BLOCK, 1024)
            at += 3 + (1 if kind == 1 else length)
        start = data.find(_MAGIC, start + 4)
    return total


def _array(folder: Path, name: str) -> np.ndarray:
    """One array as it is stored, whatever devices wrote it."""
    spec = _spec(folder)
    spec |= {"path": f"{name}/"} if "base" in spec else {}
    if "base" not in spec:
        spec["path"] += f"{name}/"
    try:
        opened = ts.open({"driver": "zarr", "kvstore": spec}, read=True).result()
        return np.array(opened.read().result())
    except Exception as error:  # of tensorstore: anything
        raise ValueError(
            f"{folder}: array {name!r} cannot be unpacked ({_short(error)}). Fetch the "
            f"folder again."
        ) from error


def write_orbax(
    path: Path, tensors: Mapping[str, np.ndarray], fields: Mapping[str, Any] = {}
) -> None:
    """Writes a checkpoint by orbax, which `read_orbax` and orbax read.

    Dots in names make nested dictionaries. Files in it have names of chance.

    Args:
        path: of the folder; one that is there is replaced when the new one is whole.
        tensors: by dotted name.
        fields: of JSON types, by name.

    Raises:
        ValueError: if one name is the beginning of another one, or orbax cannot save
            an array (one without entries).
    """
    tree = nest(str(path), {name: np.asarray(x) for name, x in tensors.items()})
    path = Path(path).absolute()
    draft = path.with_name(f"{path.name}.draft-{os.getpid()}")
    old = path.with_name(f"{path.name}.old-{os.getpid()}")
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as saver:
            args = ocp.args.PyTreeSave(tree, custom_metadata={FIELDS: dict(fields)})
            saver.save(draft, args, force=True)
        if path.exists():
            os.replace(path, old)
        os.replace(draft, path)
    except ValueError as error:
        raise ValueError(
            f"{path}: expected arrays that orbax saves, got {_short(error)}. Leave out "
            f"arrays without entries."
        ) from error
    finally:
        # orbax has a name of its own for what it has begun.
        for folder in (*path.parent.glob(f"{draft.name}*"), old):
            shutil.rmtree(folder, ignore_errors=True)
