"""A folder of a few files that is there whole or not at all, and known to be whole."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qejax._disk import room

RECORD = "model.json"
"""The file that says what the others are."""

FORMAT, FORMAT_VERSION = "qejax-model", 1
DIGEST = "sha256"
"""Field of the record: the SHA-256 of all others, as canonical JSON."""

AGAIN = "Restore the folder, or save the model again."


def write_folder(
    folder: Path, record: Mapping[str, Any], files: Mapping[str, bytes], overwrite: bool
) -> None:
    """Writes a record and files beside it under another name, then gives it its own.

    Args:
        folder: to be; folders above it are made.
        record: JSON; format, version and checksums are added.
        files: by name.
        overwrite: whether a saved model that is there makes room.

    Raises:
        ValueError: if something else is there; nothing is written then.
    """
    sums = {
        name: {"bytes": len(content), DIGEST: hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    head = {"format": FORMAT, "format_version": FORMAT_VERSION}
    # As it will be read: keys are strings, tuples are lists.
    body = json.loads(json.dumps({**head, **record, "files": sums}, allow_nan=False))
    text = json.dumps(body | {DIGEST: digest(body)}, indent=1) + "\n"
    contents = {RECORD: text.encode(), **files}
    if _holds(folder, contents):
        return
    _check_room(folder, overwrite)
    draft = folder.with_name(f".{folder.name}.draft-{os.getpid()}")
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    # What a save left that was killed.
    for left in ("draft", "old"):
        for path in folder.parent.glob(f".{folder.name}.{left}-*"):
            shutil.rmtree(path, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        for name, content in contents.items():
            with room(folder), (draft / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            os.replace(folder, old)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def digest(record: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a record without its own digest, as canonical JSON."""
    body = {name: value for name, value in record.items() if name != DIGEST}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _holds(folder: Path, contents: Mapping[str, bytes]) -> bool:
    """Whether these very files are there."""
    paths = {folder / name: content for name, content in contents.items()}
    if not all(path.is_file() for path in paths):
        return False
    return all(path.read_bytes() == content for path, content in paths.items())


def _check_room(folder: Path, overwrite: bool) -> None:
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if there and not (overwrite and RECORD in there):
        what = "another model" if RECORD in there else f"{sorted(there)[:3]}"
        raise ValueError(
            f"{folder}: expected a new or empty folder to save a model in, got one "
            f"with {what}. Choose another one; overwrite=True replaces a saved model."
        )


def read_record(folder: Path) -> dict[str, Any]:
    """Returns the record of a folder.

    Raises:
        ValueError: if there is none, it is of another format or version, or not as it
            was written.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ValueError(
            f"{path}: the file is missing, expected the folder of a saved model. Give "
            f"the folder that models.save wrote."
        )
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}. {AGAIN}") from error
    found = record if isinstance(record, dict) else {}
    got = found.get("format"), found.get("format_version")
    if got != (FORMAT, FORMAT_VERSION):
        raise ValueError(
            f"{path}: fields 'format' and 'format_version' should be "
            f"{(FORMAT, FORMAT_VERSION)}, got {str(got)[:80]}. Use the version of "
            f"qejax that saved it."
        )
    if found.get(DIGEST) != digest(found):
        raise ValueError(
            f"{path}: field {DIGEST!r} should be that of the other fields, "
            f"{digest(found)[:16]}..., got {str(found.get(DIGEST))[:16]}: the file is "
            f"not as it was written. {AGAIN}"
        )
    return found


def read_content(folder: Path, record: Mapping[str, Any], name: str) -> bytes:
    """Returns a file of the folder.

    Raises:
        ValueError: if it is missing or not as it was written.
    """
    path, expected = folder / name, record["files"][name]
    if not path.is_file():
        raise ValueError(
            f"{path}: the file is missing, expected {expected['bytes']} bytes. {AGAIN}"
        )
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise ValueError(
            f"{path}: the file should have {expected['bytes']} bytes, got {size}. "
            f"{AGAIN}"
        )
    content = path.read_bytes()
    got = hashlib.sha256(content).hexdigest()
    if got != expected[DIGEST]:
        raise ValueError(
            f"{path}: the file is damaged, expected SHA-256 "
            f"{expected[DIGEST][:16]}..., got {got[:16]}... {AGAIN}"
        )
    return content
