"""The manifest of a prepared zoo: what is in it, and how to know that it is whole."""

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

FORMAT = "qejax-zoo"
FORMAT_VERSION = 2
"""2: records hold the normal form of every network beside its weights."""
MANIFEST = "manifest.json"


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


def write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest of a folder that is not in its place yet."""
    text = json.dumps(
        {"format": FORMAT, "format_version": FORMAT_VERSION, **manifest}, indent=1
    )
    (root / MANIFEST).write_text(text + "\n")


def read_manifest(root: Path) -> dict[str, Any]:
    """Returns the manifest of a prepared zoo.

    Raises:
        FileNotFoundError: if the folder has none.
        ValueError: if it is no JSON, or of another format or version.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{root}: expected a prepared zoo with a file {MANIFEST}, found none. "
            f"Make one with zoo.generate or zoo.store."
        )
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got {error}.") from error
    got = (manifest.get("format"), manifest.get("format_version"))
    if got != (FORMAT, FORMAT_VERSION):
        raise ValueError(
            f"{path}: fields 'format' and 'format_version' should be "
            f"{(FORMAT, FORMAT_VERSION)}, got {got}. Remove the folder and make "
            f"the zoo again with zoo.generate or zoo.store."
        )
    return manifest


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
