"""Writing a folder of networks in files of one kind; see `_folder`."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from qejax.zoo._listing import Listing, chunks
from qejax.zoo.files import FILES
from qejax.zoo.formats._infer import STATED, from_vector
from qejax.zoo.formats._table import TABLE, write_table

STYLES = {
    "safetensors": "torch",
    "torch": "torch",
    "npz": "qejax",
    "msgpack": "flax",
    "orbax": "flax",
}
"""How tensors are named, by kind."""


def write_folder(kind: str, directory: Path, listings: Mapping[str, Listing]) -> None:
    """Writes every network as a file, with `network.json` and `labels.csv`.

    `list_folder(kind, directory)` lists the same networks, splits and labels.

    Args:
        kind: of `STYLES`.
        directory: exists and is empty.
        listings: by bucket; of several, each has a folder.

    Raises:
        ValueError: if the name of a network is no path below the folder, or a network
            cannot be read.
    """
    row, several = FILES[kind], len(listings) > 1
    assert row.write is not None
    suffix = row.suffixes[0] if row.suffixes else ""
    for bucket, listing in listings.items():
        folder = directory / bucket if several else directory
        folder.mkdir(exist_ok=True)
        config = json.dumps(listing.network.config.to_dict(), indent=1)
        (folder / STATED).write_text(config + "\n")
        for rows, vectors in chunks(listing):
            for at, vector in zip(rows.tolist(), vectors, strict=True):
                name = str(listing.ids[at])
                check_name(directory, name)
                path = folder / f"{name}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                tensors = from_vector(listing.network, vector, STYLES[kind])
                row.write(path, tensors, {})
    write_table(directory / TABLE, listings, several)


def check_name(directory: Path, name: str) -> None:
    """Raises unless a network can have a file of its name below a folder.

    Raises:
        ValueError: names the network.
    """
    path = PurePosixPath(name)
    odd = {"", ".", ".."}.intersection(name.split("/")) or "\\" in name
    if odd or path.is_absolute() or "\0" in name or len(name) > 200:
        raise ValueError(
            f"{directory}: names of networks should be paths below the folder, got "
            f"{name[:80]!r}. Rename it."
        )
