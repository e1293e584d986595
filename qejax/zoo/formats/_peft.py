"""Zoos of adapters: a folder of folders in PEFT's layout, see `_peft_files`.

Beside them may lie `labels.csv`, see `_table`.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qejax.nets import Lora
from qejax.zoo._listing import Found, Listing, Problem, Weights, chunks, vectors_of
from qejax.zoo.formats._folder_writer import check_name
from qejax.zoo.formats._peft_files import (
    CONFIG,
    PeftFolder,
    peft_network,
    peft_vector,
    read_peft,
    write_peft,
)
from qejax.zoo.formats._runs import runs_of
from qejax.zoo.formats._table import TABLE, codes_of, known_of, write_table


def list_peft(
    directory: str | Path, split_seed: int = 0, protocol: str | None = None
) -> Found:
    """Lists all adapters under a folder.

    A bucket holds adapters of modules of the same names, sizes, ranks and scales; it
    is called `rRANK_DIGEST` by what these are. Their base is not known: the network is
    `nets.lora`, its function what they add.

    Args:
        directory: holds folders with `adapter_config.json`, at any depth. Links are
            not followed.
        split_seed: of the protocol "clean".
        protocol: as in `list_folder`.

    Returns:
        Networks in the order of their paths; `hyper` has the `base` and the `rank`,
        and what the table says. `ids` are paths under the folder.

    Raises:
        FileNotFoundError: if there is no adapter.
        ValueError: if none can be used; says why the first cannot.
    """
    directory = Path(directory)
    names = [
        Path(root).relative_to(directory).as_posix()
        for root, _, files in os.walk(directory)
        if CONFIG in files
    ]
    names = sorted(directory.name if name == "." else name for name in names)
    if not names:
        raise FileNotFoundError(
            f"{directory}: expected folders with {CONFIG}, as PEFT saves adapters, "
            f"found none."
        )
    runs = [run.name for run in runs_of(names, directory.name)]
    known, problems = known_of(directory, names, runs)
    buckets: dict[str, tuple[Lora, list[int], list[PeftFolder]]] = {}
    for at, place in enumerate(known.kept):
        try:
            adapter = read_peft(_place(directory, names[place]))
            network = peft_network(adapter)
        except ValueError as error:
            problems.append(Problem(names[place], str(error)))
            continue
        # What is listed stays small: weights are read again when they are asked for.
        light = adapter._replace(modules={})
        _, rows, adapters = buckets.setdefault(
            _bucket(adapter, network), (network, [], [])
        )
        rows.append(at)
        adapters.append(light)
    if not buckets:
        raise ValueError(f"{problems[0].why} There is no other adapter.")
    protocol, codes = codes_of(directory, known, protocol, split_seed)
    listings = {}
    for bucket, (network, rows, adapters) in sorted(buckets.items()):
        ids = np.array([names[known.kept[at]] for at in rows], str)
        listings[bucket] = Listing(
            network=network,
            ids=ids,
            runs=known.runs[rows],
            labels={name: x[rows] for name, x in known.labels.items()},
            hyper={
                **{name: x[rows] for name, x in known.hyper.items()},
                "base": np.array([adapter.base for adapter in adapters], str),
                "rank": np.array([adapter.rank for adapter in adapters], np.int64),
            },
            split=codes[rows],
            source=f"peft:{directory.name}",
            read=_reader(directory, network, ids),
        )
    advice = "remove their folders to go on without them"
    return Found(listings, tuple(problems), protocol, advice)


def write_peft_folders(directory: Path, listings: Mapping[str, Listing]) -> None:
    """Writes every adapter as a folder that PEFT reads, with `labels.csv`.

    Args:
        directory: exists and is empty.
        listings: by bucket; networks by `nets.lora`.

    Raises:
        ValueError: if networks are no adapters of unknown networks, or the name of one
            is no path below the folder.
    """
    for bucket, listing in listings.items():
        network = listing.network
        if not isinstance(network, Lora):
            raise ValueError(
                f"{directory}: PEFT folders hold adapters, networks by nets.lora, got "
                f"bucket {bucket!r} of {network.config}. Choose another format."
            )
        bases = listing.hyper.get("base", np.full(len(listing), ""))
        for rows, vectors in chunks(listing):
            for at, vector in zip(rows.tolist(), vectors, strict=True):
                name = str(listing.ids[at])
                check_name(directory, name)
                write_peft(directory / name, network, vector, str(bases[at]))
    own = ("base", "rank")
    write_table(directory / TABLE, listings, prefix=False, without=own)


def _place(directory: Path, name: str) -> Path:
    """The folder of an adapter; the whole directory may be one."""
    path = directory / name
    return path if path.is_dir() else directory


def _reader(directory: Path, network: Lora, ids: np.ndarray) -> Any:
    def vector(path: Path) -> np.ndarray:
        adapter = read_peft(path)
        if peft_network(adapter).config != network.config:
            raise ValueError(
                f"{path}: expected the adapter that was listed, got one of other "
                f"modules, sizes or scales. List the folder again."
            )
        return peft_vector(adapter)

    def read(rows: np.ndarray) -> Weights:
        paths = [_place(directory, str(name)) for name in ids[rows]]
        return vectors_of(paths, network.spec.num_parameters, vector)

    return read


def _bucket(adapter: PeftFolder, network: Lora) -> str:
    config = network.config
    digest = hashlib.sha256(repr((config.modules, config.scales)).encode())
    return f"r{adapter.rank}_{digest.hexdigest()[:8]}"
