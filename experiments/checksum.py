"""The checksum of what a run reads: another zoo at the same place is another run."""

import hashlib
from pathlib import Path

from qejax import zoo

MANIFEST = "manifest.json"
"""Of a prepared zoo."""


def digest_of(address: str) -> str:
    """Returns the SHA-256 of the files of a zoo, of their names and of their bytes.

    Args:
        address: of a prepared folder or FORMAT:DIRECTORY. Empty, or where nothing lies,
            it has the checksum "".
    """
    if not address:
        return ""
    kind, _, folder = address.rpartition(":")
    place = Path(folder)
    # The manifest of a prepared zoo holds the checksums of all its shards.
    manifest = place / MANIFEST
    if manifest.is_file():
        files = [manifest]
    elif kind in zoo.formats.FORMATS:
        files = zoo.formats.files_of(address)
    else:
        files = sorted(path for path in place.glob("*.*") if path.is_file())
    total = hashlib.sha256()
    for file in files:
        total.update(file.relative_to(place).as_posix().encode())
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest() if files else ""
