"""Formats of public zoos by name: a new format is a new row."""

import inspect
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qejax.zoo._listing import Found, Listing, apart, in_memory
from qejax.zoo._zoo import Zoo
from qejax.zoo.files import FILES
from qejax.zoo.formats._dws_inr import DWS_INR, list_dws_inr
from qejax.zoo.formats._fits_writer import write_dws_inr, write_nfn_siren
from qejax.zoo.formats._folder import KINDS, found_in, list_folder
from qejax.zoo.formats._folder_writer import write_folder
from qejax.zoo.formats._infer import STATED
from qejax.zoo.formats._modelzoos import MODELZOOS, list_modelzoos
from qejax.zoo.formats._nfn_siren import NFN_SIREN, list_nfn_siren
from qejax.zoo.formats._peft import list_peft, write_peft_folders
from qejax.zoo.formats._protocols import SMALL_CNN_ZOO, SMALL_TRANSFORMER_ZOO
from qejax.zoo.formats._small_cnn_augmented import (
    PATTERN,
    PROTOCOLS,
    list_small_cnn_augmented,
)
from qejax.zoo.formats._small_cnn_writer import write_small_cnn_zoo
from qejax.zoo.formats._small_cnn_zoo import list_small_cnn_zoo
from qejax.zoo.formats._small_transformer_writer import write_small_transformer_zoo
from qejax.zoo.formats._small_transformer_zoo import list_small_transformer_zoo
from qejax.zoo.formats._table import FOLDER, TABLE
from qejax.zoo.formats._wild_park import WILD_PARK, list_wild_park
from qejax.zoo.formats._wild_park_writer import write_wild_park


@dataclass(frozen=True)
class Format:
    """A layout of directories.

    Attributes:
        list: `directory -> Found`, with options by keyword.
        files: patterns of what is read, below the directory.
        protocols: how networks can be split.
        write: `(empty directory, listings by bucket)`; `None` if there is no writer.
        mixed: whether `write` takes buckets of mixed architectures as they are.
        beside: patterns of further files that are read where they are there.
        general: whether its files can be those of another format as well.
        accuracy: whether networks have a test accuracy; options then have `cut_off`,
            the least accuracy of a network that is kept, before it is split.
    """

    list: Callable[..., Found]
    files: tuple[str, ...]
    protocols: tuple[str, ...]
    write: Callable[[Path, Mapping[str, Listing]], None] | None = None
    accuracy: bool = False
    mixed: bool = False
    beside: tuple[str, ...] = ()
    general: bool = False

    def options(self) -> tuple[str, ...]:
        """Returns the names of the options of `list`."""
        return tuple(inspect.signature(self.list).parameters)[1:]


def _folder(kind: str) -> Format:
    """The format of folders of files of one kind."""
    rows = [FILES[name] for name in KINDS[kind]]
    ends = [f"**/*{_any_case(end)}" for row in rows for end in row.suffixes]
    inside = [f"**/{marker}" for row in rows for marker in row.markers]
    return Format(
        partial(list_folder, kind),
        (*ends, *inside),
        FOLDER,
        partial(write_folder, kind),
        beside=(TABLE, f"**/{STATED}"),
        general=True,
    )


def _any_case(text: str) -> str:
    """A pattern of a text in small letters or capitals."""
    return "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in text)


FORMATS: dict[str, Format] = {
    "small_cnn_zoo": Format(
        list_small_cnn_zoo,
        ("weights.npy", "layout.csv", "metrics.csv.gz"),
        tuple(SMALL_CNN_ZOO),
        write_small_cnn_zoo,
        accuracy=True,
    ),
    "small_cnn_augmented": Format(
        list_small_cnn_augmented,
        (PATTERN,),
        PROTOCOLS,
        accuracy=True,
    ),
    "small_transformer_zoo": Format(
        list_small_transformer_zoo,
        ("metadata/mnist.csv", "mnist/*.pt"),
        tuple(SMALL_TRANSFORMER_ZOO),
        write_small_transformer_zoo,
        accuracy=True,
    ),
    "nfn_siren": Format(
        list_nfn_siren,
        ("**/net*.pth",),
        tuple(NFN_SIREN),
        write_nfn_siren,
    ),
    "dws_inr": Format(
        list_dws_inr,
        ("mnist-inrs/*/checkpoints/model_final.pth", "mnist_splits.json"),
        DWS_INR,
        write_dws_inr,
    ),
    "cnn_wild_park": Format(
        list_wild_park,
        ("*/*/checkpoint_*/checkpoint.pt",),
        WILD_PARK,
        write_wild_park,
        accuracy=True,
        mixed=True,
        beside=("*splits*.json", "*/*splits*.json"),
    ),
    "modelzoos": Format(
        list_modelzoos,
        ("*/checkpoint_*/checkpoints",),
        MODELZOOS,
        accuracy=True,
        beside=("*/params.json", "*/result.json"),
    ),
    "peft": Format(
        list_peft,
        ("**/adapter_config.json", "**/adapter_model.*"),
        FOLDER,
        write_peft_folders,
        beside=(TABLE,),
    ),
    **{kind: _folder(kind) for kind in KINDS},
}
"""Formats by name."""

LOOKED_INTO = 100
"""Folders of a directory without a zoo, in search of one."""

CLASSIFIERS = tuple(name for name, row in FORMATS.items() if row.accuracy)
"""Formats whose networks have a test accuracy."""


def _parsed(address: str) -> tuple[Format, Path]:
    name, _, directory = address.partition(":")
    if name not in FORMATS or not directory:
        raise ValueError(
            f"zoo address {address!r}: expected FORMAT:DIRECTORY with a format of "
            f"{list(FORMATS)}."
        )
    return FORMATS[name], Path(directory)


def list_networks(address: str, **options: Any) -> Found:
    """Lists what is at an address `FORMAT:DIRECTORY`; weights are not read yet.

    Args:
        address: such as `small_cnn_zoo:data/cifar10`.
        options: of the format.

    Returns:
        The networks by bucket, and what is wrong with others. A bucket holds networks
        of one architecture, activations included.

    Raises:
        ValueError: if the format or an option is unknown, and as the format.
        FileNotFoundError: as the format.
    """
    row, directory = _parsed(address)
    unknown = [name for name in options if name not in row.options()]
    if unknown:
        raise ValueError(
            f"zoo address {address!r}: options should be some of "
            f"{list(row.options())}, got {unknown}."
        )
    return row.list(directory, **options)


def complete(address: str) -> str:
    """Returns `FORMAT:DIRECTORY`, also for a directory that fits one format alone.

    Raises:
        ValueError: if no format fits, or several do; says which.
        FileNotFoundError: if there is no such directory.
    """
    if address.partition(":")[0] in FORMATS:
        return address
    directory = Path(address)
    if not address or not directory.exists():
        raise FileNotFoundError(
            f"{address or 'address'}: expected FORMAT:DIRECTORY with a format of "
            f"{list(FORMATS)}, or a directory, found none. Check the path."
        )
    if not directory.is_dir():
        raise FileNotFoundError(
            f"{address}: expected a directory of networks, found a file. Give the one "
            f"that it is in, {directory.parent}."
        )
    fitting = _fitting(directory)
    if not fitting:
        raise ValueError(
            f"{address}: expected files of one format of {list(FORMATS)}, "
            f"{found_in(directory)}. {_below(directory)}"
        )
    if len(fitting) > 1:
        raise ValueError(
            f"{address}: expected files of a single format, found those of {fitting}. "
            f"Say which: {fitting[0]}:{address}."
        )
    return f"{fitting[0]}:{address}"


def _fitting(directory: Path) -> list[str]:
    """Formats whose files are in a directory; of general ones only if no other is."""
    every = [
        name
        for name, row in FORMATS.items()
        if any(next(directory.glob(rule), None) for rule in row.files)
    ]
    return [name for name in every if not FORMATS[name].general] or every


def _below(directory: Path) -> str:
    """What to give instead of a directory without a zoo."""
    inner = sorted(path for path in directory.iterdir() if path.is_dir())[:LOOKED_INTO]
    zoos = [f"{kind}:{path}" for path in inner for kind in _fitting(path)]
    if not zoos:
        return "Give the directory of the networks, as FORMAT:DIRECTORY."
    return f"There are zoos below: give {' or '.join(zoos[:4])}."


def files_of(address: str) -> Sequence[Path]:
    """Returns the files that a zoo at an address is read from, sorted.

    Raises:
        ValueError: if the format is unknown.
    """
    row, directory = _parsed(address)
    rules = (*row.files, *row.beside)
    found = {path for rule in rules for path in directory.glob(rule)}
    return sorted(path for path in found if path.is_file())


def export(found: Found, address: str) -> Path:
    """Writes listed networks in a public format, whole or not at all.

    Args:
        found: such as `zoo.list_prepared(root)`.
        address: `FORMAT:DIRECTORY`; the directory is new, or empty.

    Returns:
        The directory.

    Raises:
        ValueError: if the format is unknown, has no writer, or does not hold such
            networks; names the bucket. Mixed architectures come apart, see
            `zoo.apart`, for formats of one architecture a bucket.
        FileExistsError: if the directory holds anything.
    """
    row, directory = _parsed(address)
    if row.write is None:
        having = [name for name, one in FORMATS.items() if one.write is not None]
        raise ValueError(
            f"zoo address {address!r}: there is no writer of this format, expected one "
            f"of {having}."
        )
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(
            f"{directory}: expected a new or empty folder to export to, found "
            f"{sorted(path.name for path in directory.iterdir())[:4]}."
        )
    draft = directory.with_name(f"{directory.name}.draft-{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        row.write(draft, found.listings if row.mixed else _apart(found))
        if directory.is_dir():
            directory.rmdir()  # it is empty
        os.replace(draft, directory)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return directory


def _apart(found: Found) -> dict[str, Listing]:
    parts = [apart(name, one) for name, one in found.listings.items()]
    return {name: one for part in parts for name, one in part.items()}


def load(address: str, **options: Any) -> dict[str, Zoo]:
    """Returns all networks at an address `FORMAT:DIRECTORY`, by bucket.

    Args:
        address: such as `small_cnn_zoo:data/cifar10`.
        options: of the format.

    Raises:
        ValueError: if the format is unknown, as the format, and if a network cannot be
            used: names the first few and counts all.
        FileNotFoundError: as the format.
    """
    row, directory = _parsed(address)
    return in_memory(row.list(directory, **options))
