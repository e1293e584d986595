"""The manifest of a prepared zoo: what is in it, and how to know that it is whole."""

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path, PurePosixPath
from typing import Any

from qejax._disk import room
from qejax.zoo._zoo import SPLITS

FORMAT = "qejax-zoo"
FORMAT_VERSION = 2
"""2: records hold the normal form of every network beside its weights."""
MANIFEST = "manifest.json"
DIGEST = "sha256"
"""Field of the manifest: the SHA-256 of all others, as canonical JSON."""

FIELDS: dict[str, type | tuple[type, ...]] = {
    "config": (dict, type(None)),
    "versions": dict,
    "buckets": dict,
}
"""Of the manifest, by name, beside its format and its digest."""

MIXED = "mixed"
"""The kind of a bucket's network where architectures are mixed: see its `networks`."""

ENTRY_FIELDS: dict[str, type | tuple[type, ...]] = {
    "network": dict,
    "count": int,
    "source": str,
    "folder": str,
    "splits": dict,
    "normal_form": dict,
    "shards": dict,
}
"""Of a bucket in the manifest; the notes of `store` come on top."""


AGAIN = "Restore the file, or make the zoo again in a new folder."


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Returns the versions of what decides the bytes of a zoo."""
    names = ("jax", "jaxlib", "numpy", "tensorflow-datasets", "array-record")
    found = {name: importlib.metadata.version(name) for name in names}
    return found | {"python": platform.python_version()}


def digest(manifest: dict[str, Any]) -> str:
    """Returns the SHA-256 of a manifest without its own digest, as canonical JSON."""
    body = {name: value for name, value in manifest.items() if name != DIGEST}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest of a folder that is not in its place yet."""
    body = {"format": FORMAT, "format_version": FORMAT_VERSION, **manifest}
    # As it will be read: keys are strings, tuples are lists.
    body = json.loads(json.dumps(body))
    text = json.dumps(body | {DIGEST: digest(body)}, indent=1)
    with room(root / MANIFEST):
        (root / MANIFEST).write_text(text + "\n")


def read_manifest(root: Path) -> dict[str, Any]:
    """Returns the manifest of a prepared zoo, with the fields that it should have.

    Raises:
        FileNotFoundError: if the folder has none.
        ValueError: if it is no JSON, of another format or version, a field is missing
            or has another type, or it is not as it was written.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{root}: expected a prepared zoo with a file {MANIFEST}, found none. "
            f"Make one of networks that are there with `make_zoo import` "
            f"(zoo.import_zoo, zoo.store), or of new ones with zoo.generate."
        )
    try:
        manifest = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}. {AGAIN}") from error
    if not isinstance(manifest, dict):
        raise ValueError(
            f"{path}: expected a JSON object with the fields of a manifest, got "
            f"{_shown(manifest)}. {AGAIN}"
        )
    got = (manifest.get("format"), manifest.get("format_version"))
    if got != (FORMAT, FORMAT_VERSION):
        raise ValueError(
            f"{path}: fields 'format' and 'format_version' should be "
            f"{(FORMAT, FORMAT_VERSION)}, got {got}. Remove the folder and make "
            f"the zoo again with zoo.generate or zoo.store."
        )
    _check_fields(str(path), manifest, FIELDS)
    if not manifest["buckets"]:
        raise ValueError(
            f"{path}: field 'buckets' should have at least one bucket, got none. "
            f"{AGAIN}"
        )
    for name, entry in manifest["buckets"].items():
        _check_entry(f"{path}, bucket {name!r}", root, entry)
    expected, got = digest(manifest), manifest.get(DIGEST)
    if got != expected:
        raise ValueError(
            f"{path}: the manifest is not as it was written: expected field {DIGEST!r} "
            f"to be that of its other fields, {expected[:16]}..., got {_shown(got)}. "
            f"{AGAIN}"
        )
    return manifest


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _check_fields(
    what: str, got: Any, fields: dict[str, type | tuple[type, ...]]
) -> None:
    """Raises unless `got` is an object that has every field, of its type."""
    if not isinstance(got, dict):
        raise ValueError(
            f"{what}: expected an object with the fields {list(fields)}, got "
            f"{_shown(got)}. {AGAIN}"
        )
    missing = [name for name in fields if name not in got]
    if missing:
        raise ValueError(
            f"{what}: missing fields {missing}, expected {list(fields)}, got "
            f"{list(got)}. {AGAIN}"
        )
    for name, kinds in fields.items():
        value = got[name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            kinds = kinds if isinstance(kinds, tuple) else (kinds,)
            raise ValueError(
                f"{what}: field {name!r} should be of type "
                f"{' or '.join(kind.__name__ for kind in kinds)}, got "
                f"{_shown(value)}. {AGAIN}"
            )


def _check_entry(what: str, root: Path, entry: Any) -> None:
    _check_fields(what, entry, ENTRY_FIELDS)
    splits = entry["splits"]
    _check_fields(f"{what}, field 'splits'", splits, dict.fromkeys(SPLITS, list))
    listed = [name for ids in splits.values() for name in ids]
    if set(splits) != set(SPLITS) or not all(isinstance(x, str) for x in listed):
        raise ValueError(
            f"{what}: field 'splits' should have lists of ids for {list(SPLITS)}, "
            f"got {_shown(splits)}. {AGAIN}"
        )
    if len(listed) != entry["count"] or len(set(listed)) != len(listed):
        raise ValueError(
            f"{what}: expected field 'splits' to list {entry['count']} different "
            f"networks, as 'count' says, got {len(set(listed))} different ids among "
            f"{len(listed)}. {AGAIN}"
        )
    folder = PurePosixPath(entry["folder"])
    outside = not (root / folder).resolve().is_relative_to(root.resolve())
    if outside or not folder.parts or ".." in folder.parts:
        raise ValueError(
            f"{what}: field 'folder' should be a path below the folder of the zoo, got "
            f"{entry['folder']!r}. {AGAIN}"
        )
    for name, expected in entry["shards"].items():
        path = PurePosixPath(name)
        below = path.is_relative_to(folder) and ".." not in path.parts
        if not below or not isinstance(expected, str):
            raise ValueError(
                f"{what}: field 'shards' should give the SHA-256 of files below "
                f"{entry['folder']!r}, got {_shown(expected)} for {name!r}. {AGAIN}"
            )


def check_shards(root: Path, bucket: str, shards: dict[str, str]) -> None:
    """Raises unless every file of a bucket has the checksum of the manifest.

    Raises:
        FileNotFoundError: names the shard that is missing.
        ValueError: names the shard whose bytes are others, expected and found.
    """
    for name, expected in shards.items():
        path = root / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{root}, bucket {bucket!r}: shard {name} is in the manifest and not "
                f"on disk. Restore it, or generate the zoo again."
            )
        got = sha256(path)
        if got != expected:
            raise ValueError(
                f"{root}, bucket {bucket!r}: shard {name} is damaged: expected "
                f"SHA-256 {expected[:16]}..., got {got[:16]}... Restore it, or "
                f"generate the zoo again."
            )


def wrong_files(root: str | Path) -> dict[str, dict[str, str]]:
    """Returns every file of a prepared zoo that is not as it was written.

    Args:
        root: of the zoo.

    Returns:
        By bucket, by the path of the file below `root`, what is wrong. Buckets without
        such files are left out: a whole zoo has none.

    Raises:
        FileNotFoundError: if the folder has no manifest.
        ValueError: if the manifest itself is not as it was written.
    """
    root = Path(root)
    wrong: dict[str, dict[str, str]] = {}
    for bucket, entry in read_manifest(root)["buckets"].items():
        for name, expected in entry["shards"].items():
            try:
                check_shards(root, bucket, {name: expected})
            except (OSError, ValueError) as error:
                wrong.setdefault(bucket, {})[name] = str(error)
    return wrong


def inside_zoo(folder: Path) -> Path | None:
    """Returns the finished zoo that a folder would be in; `None` if there is none."""
    for parent in folder.absolute().parents:
        path = parent / MANIFEST
        try:
            found = json.loads(path.read_text()) if path.is_file() else None
        except (OSError, ValueError, RecursionError):
            continue  # Others have files of this name as well.
        if isinstance(found, dict) and found.get("format") == FORMAT:
            return parent
    return None
