"""A folder of a few files that is there whole or not at all, and known to be whole.

`model.json`, the record, has the checksums of the others. Where one model takes the
place of another, files of the new one have names of its own until its record is there.
"""

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
    """Writes a record and files beside it: killed at any moment, all or none are there.

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
    body[DIGEST] = digest(body)
    text = (json.dumps(body, indent=1) + "\n").encode()
    _finish(folder)
    if _holds(folder, {RECORD: text, **files}):
        return
    _check_room(folder, overwrite)
    # What a save left that was killed.
    for path in folder.parent.glob(f".{folder.name}.draft-*"):
        shutil.rmtree(path, ignore_errors=True)
    if (folder / RECORD).exists():
        coming = {_coming(folder, body, name): files[name] for name in files}
        _replace(folder, text, coming)
    else:
        _make(folder, {RECORD: text, **files})


def _make(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes files under another name of the folder, then gives it its own."""
    draft = folder.with_name(f".{folder.name}.draft-{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        for name, content in contents.items():
            _write(draft / name, content, folder)
        if folder.exists():
            folder.rmdir()  # it is empty
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(folder: Path, record: bytes, coming: Mapping[Path, bytes]) -> None:
    """Writes files beside those that are there, then the record that tells of them.

    A folder cannot take the place of another one at once, a file can: the old model is
    read until the record is replaced, and the new one from then on.
    """
    draft = folder / f".{RECORD}.draft"
    try:
        for path, content in {**coming, draft: record}.items():
            _write(path, content, folder)
    except BaseException:
        for path in (*coming, draft):
            path.unlink(missing_ok=True)
        raise
    os.replace(draft, folder / RECORD)
    _finish(folder)


def _write(path: Path, content: bytes, folder: Path) -> None:
    with room(folder), path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _coming(folder: Path, record: Mapping[str, Any], name: str) -> Path:
    """Where a file of a record lies until the record is there, and it is renamed.

    Two records may name the same content, so the name is by the record.
    """
    return folder / f".{name}.{record[DIGEST][:16]}"


def _finish(folder: Path) -> None:
    """Does what is left of a save that was killed, and removes what it began."""
    try:
        record = read_record(folder)
    except ValueError:
        return  # there is nothing, or nothing that could be read
    for name in record["files"]:
        path = _coming(folder, record, name)
        if path.exists():
            os.replace(path, folder / name)
        for left in folder.glob(f".{name}.*"):
            left.unlink()
    (folder / f".{RECORD}.draft").unlink(missing_ok=True)


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
    coming = _coming(folder, record, name)
    if coming.is_file():
        path = coming
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
