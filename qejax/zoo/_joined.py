"""Listings of several architectures as one of mixed architectures."""

import numpy as np

from qejax.nets import Network, size_of
from qejax.zoo._listing import Found, Listing, Weights

MIXED_BUCKET = "mixed"
"""The name of the bucket of all networks."""


def joined(found: Found) -> Found:
    """Returns the networks of all buckets as one bucket of mixed architectures.

    Imported (`import_zoo`), one metanetwork reads them all: `read_mixed`,
    `stream_mixed`, `models.MixedPredictor`.

    Args:
        found: of chains of layers: MLPs, CNNs with or without skips, coordinate
            networks.

    Returns:
        One listing, named "mixed", in the order of the buckets. Ids begin with the name
        of their bucket unless they are unique without. Labels and hyper-parameters are
        those that all buckets have; problems and protocol stay.

    Raises:
        ValueError: if a network is no chain of layers.
    """
    listings = list(found.listings.values())
    networks: dict[Network, int] = {}
    which = []
    for one in listings:
        for network in one.networks:
            size_of(network)  # raises for what is no chain
            networks.setdefault(network, len(networks))
        places = np.array([networks[network] for network in one.networks], np.int64)
        which.append(places[one.places])
    first, *others = networks
    ids = [one.ids.astype(str) for one in listings]
    if len(set(np.concatenate(ids).tolist())) != sum(map(len, ids)):
        ids = [
            np.array([f"{name}/{x}" for x in one.ids.tolist()], str)
            for name, one in found.listings.items()
        ]
    # A network that is a run of its own keeps its name as one.
    runs = [
        new if np.array_equal(one.runs, one.ids) else one.runs.astype(str)
        for new, one in zip(ids, listings, strict=True)
    ]
    one = Listing(
        network=first,
        ids=np.concatenate(ids),
        runs=np.concatenate(runs),
        labels=_columns([one.labels for one in listings]),
        hyper=_columns([one.hyper for one in listings]),
        split=np.concatenate([one.split for one in listings]),
        source="; ".join(dict.fromkeys(one.source for one in listings)),
        read=_Reader(listings),
        others=tuple(others),
        which=np.concatenate(which),
    )
    return found._replace(listings={MIXED_BUCKET: one})


def _columns(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The columns that all tables have, one below the other."""
    names = [name for name in tables[0] if all(name in table for table in tables)]
    return {name: np.concatenate([table[name] for table in tables]) for name in names}


class _Reader:
    """Weights of rows of all listings, each read by its own."""

    def __init__(self, listings: list[Listing]) -> None:
        self._listings = listings
        self._starts = np.cumsum([0, *map(len, listings)])
        self._width = max(one.width for one in listings)

    def __call__(self, rows: np.ndarray) -> Weights:
        vectors = np.zeros((len(rows), self._width), np.float32)
        problems: dict[int, str] = {}
        for one, start in zip(self._listings, self._starts.tolist(), strict=False):
            at = np.flatnonzero((rows >= start) & (rows < start + len(one)))
            if not len(at):
                continue
            found = one.read(rows[at] - start)
            vectors[at, : found.vectors.shape[1]] = found.vectors
            problems |= {int(at[row]): why for row, why in found.problems.items()}
        return Weights(vectors, problems)
