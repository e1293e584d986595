"""What is left of a prepared zoo some files of which are not as they were written."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qejax import nets
from qejax.zoo._fetch import Records
from qejax.zoo._listing import Found, Listing, Problem, Weights
from qejax.zoo._manifest import read_manifest
from qejax.zoo._normal import WHICH
from qejax.zoo._prepared import RUN, SMALL
from qejax.zoo._store import DESCRIPTIONS
from qejax.zoo._zoo import SPLITS


def list_whole(root: str | Path, wrong: Mapping[str, Collection[str]]) -> Found:
    """Lists the networks of a prepared zoo that are in whole files, split by split.

    Args:
        root: of the zoo.
        wrong: by bucket, paths of files that are not looked into; see `wrong_files`.

    Returns:
        Its buckets; `problems` has those of which no network can be read, and why.
        Normal forms are left out.

    Raises:
        FileNotFoundError: if the folder has no manifest.
        ValueError: if the manifest itself is not as it was written.
    """
    root = Path(root)
    listings: dict[str, Listing] = {}
    problems: list[Problem] = []
    protocols: set[str] = set()
    for name, entry in read_manifest(root)["buckets"].items():
        protocols.add(entry.get("split", {}).get("protocol", "stored"))
        without = wrong.get(name, ())
        lost = [f for f in DESCRIPTIONS if f"{entry['folder']}/{f}" in without]
        if lost:
            why = f"no network can be read without {' and '.join(lost)}"
            problems.append(Problem(name, why))
            continue
        try:
            listing = _bucket(root, entry, without)
        except ValueError as error:
            problems.append(Problem(name, str(error)))
            continue
        if len(listing):
            listings[name] = listing
        else:
            problems.append(Problem(name, "no file that has networks is whole"))
    protocol = "; ".join(sorted(protocols))
    return Found(listings, tuple(problems), protocol, "make the zoo again")


def _bucket(root: Path, entry: dict[str, Any], without: Collection[str]) -> Listing:
    sources = {
        code: Records(root, entry, part, without)
        for part, code in SPLITS.items()
        if entry["splits"][part]
    }
    counts = [len(source) for source in sources.values()]
    split = np.repeat(np.array(list(sources), np.int8), counts)
    # Where a network is among the records of its split.
    places = np.concatenate([np.arange(count) for count in counts])
    small = [source.fetch(range(len(source)), SMALL) for source in sources.values()]
    networks = [nets.build(x) for x in entry.get("networks", [entry["network"]])]
    width = max(network.spec.num_parameters for network in networks)

    def read(rows: np.ndarray) -> Weights:
        vectors = np.zeros((len(rows), width), np.float32)
        for code, source in sources.items():
            at = np.flatnonzero(split[rows] == code)
            if len(at):
                vectors[at] = source.fetch(places[rows[at]], ("theta",))["theta"]
        return Weights(vectors, {})

    def column(name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in small])

    def columns(group: str) -> dict[str, np.ndarray]:
        names = small[0][group]
        return {key: np.concatenate([x[group][key] for x in small]) for key in names}

    ids, hyper = column("id"), columns("hyper")
    return Listing(
        network=networks[0],
        ids=ids,
        runs=hyper[RUN].astype(str) if RUN in hyper else ids,
        labels={key: x.astype(np.float32) for key, x in columns("labels").items()},
        hyper=hyper,
        split=split,
        source=entry["source"],
        read=read,
        others=tuple(networks[1:]),
        which=column(WHICH) if len(networks) > 1 else None,
    )
