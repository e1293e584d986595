"""Networks that are listed and not read yet: all but their weights is in memory.

A format lists a directory at once, however large its weights are; who wants them reads
some rows at a time, and is told which of these cannot be used and why.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax.nets import Network
from qejax.zoo._mixed_normal import MixedNormal
from qejax.zoo._normal import NormalForm
from qejax.zoo._zoo import Zoo, from_vectors

AT_ONCE = 1 << 26
"""Bytes of weights in memory."""

NAMED = 3
"""Of the networks that something is wrong with."""


class Problem(NamedTuple):
    """A network that cannot be used.

    Attributes:
        name: of the network, or of its file or row.
        why: names file and field, expected and found.
    """

    name: str
    why: str


class Weights(NamedTuple):
    """The weights of some rows.

    Attributes:
        vectors: `[n, P]` float32, leaves in the order of the spec; zeros where there is
            a problem. Of mixed architectures `P` is the largest, and zeros are behind
            the weights of a smaller one.
        problems: why a network cannot be used, by its place among the rows.
    """

    vectors: np.ndarray
    problems: dict[int, str]


Reader = Callable[[np.ndarray], Weights]
"""From rows, ascending, to their weights."""


@dataclass(frozen=True)
class Listing:
    """`B` networks of one architecture, or of a few or many.

    Attributes:
        network: the architecture; of mixed ones the first.
        ids: `[B]` strings, unique.
        runs: `[B]` strings: of which training run a network is a checkpoint.
        labels: as in a `Zoo`.
        hyper: as in a `Zoo`.
        split: `[B]` int8 codes.
        source: where the networks come from.
        read: weights of some rows; never raises for a network that is damaged.
        normal: normal forms of some rows, where they have been computed before.
        mixed_normal: likewise, of mixed architectures.
        others: further architectures.
        which: `[B]`, the architecture of each network, a place in `networks`; `None`
            for the first.

    Raises:
        ValueError: at construction, if `which` names no architecture or there are not
            as many as networks.
    """

    network: Network
    ids: np.ndarray
    runs: np.ndarray
    labels: dict[str, np.ndarray]
    hyper: dict[str, np.ndarray]
    split: np.ndarray
    source: str
    read: Reader
    normal: Callable[[np.ndarray], NormalForm] | None = None
    mixed_normal: Callable[[np.ndarray], MixedNormal] | None = None
    others: tuple[Network, ...] = ()
    which: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks the architecture of every network."""
        check_which(self.source, self.places, len(self), len(self.networks))

    def __len__(self) -> int:
        """Returns `B`."""
        return len(self.ids)

    def take(self, rows: np.ndarray) -> "Listing":
        """Returns the listing of these rows, in this order."""
        read, normal, mixed = self.read, self.normal, self.mixed_normal
        return replace(
            self,
            ids=self.ids[rows],
            runs=self.runs[rows],
            labels={name: x[rows] for name, x in self.labels.items()},
            hyper={name: x[rows] for name, x in self.hyper.items()},
            split=self.split[rows],
            read=lambda asked: read(rows[asked]),
            normal=None if normal is None else lambda asked: normal(rows[asked]),
            mixed_normal=None if mixed is None else lambda asked: mixed(rows[asked]),
            which=None if self.which is None else self.which[rows],
        )

    @property
    def networks(self) -> tuple[Network, ...]:
        """All architectures."""
        return (self.network, *self.others)

    @property
    def places(self) -> np.ndarray:
        """`[B]`, the architecture of each network."""
        return np.zeros(len(self), np.int64) if self.which is None else self.which

    @property
    def mixed(self) -> bool:
        """Whether there are several architectures."""
        return bool(self.others)

    @property
    def sizes(self) -> np.ndarray:
        """`[B]`, number of weights of each network."""
        sizes = [network.spec.num_parameters for network in self.networks]
        return np.array(sizes, np.int64)[self.places]

    @property
    def width(self) -> int:
        """Number of weights of the largest architecture."""
        return max(network.spec.num_parameters for network in self.networks)


def check_which(source: str, which: np.ndarray, count: int, networks: int) -> None:
    """Raises unless every network has one of the architectures.

    Args:
        source: for the message.
        which: `[B]`.
        count: of networks, `B`.
        networks: number of architectures.

    Raises:
        ValueError: says what was expected and found.
    """
    known = which.dtype.kind in "iu" and which.shape == (count,)
    if not known or not ((0 <= which) & (which < networks)).all():
        raise ValueError(
            f"{source}: which should give each of {count} networks an architecture, a "
            f"number below {networks}, got {which.dtype} of shape {which.shape}: "
            f"{which[:4].tolist()}."
        )


def apart(name: str, listing: Listing) -> dict[str, Listing]:
    """Returns a listing of mixed architectures as one for each of them.

    Args:
        name: of the bucket.
        listing: of any networks.

    Returns:
        Listings by `NAME_NUMBER`, architectures that no network has left out; by `NAME`
        if there is one architecture only. Normal forms are left out.
    """
    if not listing.mixed:
        return {name: listing}
    return {
        f"{name}_{place:04d}": _of_one(listing, place)
        for place in np.unique(listing.places).tolist()
    }


def _of_one(listing: Listing, place: int) -> Listing:
    some = listing.take(np.flatnonzero(listing.places == place))
    network = listing.networks[place]

    def read(rows: np.ndarray) -> Weights:
        vectors, problems = some.read(rows)
        return Weights(vectors[:, : network.spec.num_parameters], problems)

    return replace(some, network=network, others=(), which=None, read=read, normal=None)


class Found(NamedTuple):
    """What a directory holds.

    Attributes:
        listings: by bucket.
        problems: networks that cannot even be listed.
        protocol: by which rule networks were split.
        advice: what to do about networks that cannot be used, to go on without them.
    """

    listings: dict[str, Listing]
    problems: tuple[Problem, ...]
    protocol: str
    advice: str


def listed(zoo: Zoo) -> Listing:
    """Returns the listing of a zoo in memory."""
    vectors, normal = zoo.vectors(), zoo.normal
    return Listing(
        network=zoo.network,
        ids=zoo.ids,
        runs=zoo.ids,
        labels=zoo.labels,
        hyper=zoo.hyper,
        split=zoo.split,
        source=zoo.source,
        read=lambda rows: Weights(vectors[rows], {}),
        normal=None if normal is None else normal.take,
    )


def in_memory(found: Found) -> dict[str, Zoo]:
    """Returns all networks of a directory as zoos by bucket.

    Mixed architectures come apart, see `apart`.

    Raises:
        ValueError: if a network cannot be used: says what is wrong with the first,
            names the first few and counts all.
    """
    parts = [apart(name, one) for name, one in found.listings.items()]
    found = found._replace(listings={k: x for part in parts for k, x in part.items()})
    weights = {
        name: one.read(np.arange(len(one))) for name, one in found.listings.items()
    }
    problems = list(found.problems)
    for name, read in weights.items():
        ids = found.listings[name].ids
        problems += [Problem(str(ids[at]), why) for at, why in read.problems.items()]
    if problems:
        total = sum(map(len, found.listings.values())) + len(found.problems)
        raise ValueError(
            f"{problems[0].why} ({len(problems)} of {total} networks cannot be used: "
            f"{named(problem.name for problem in problems)}; {found.advice})"
        )
    return {
        name: _with_weights(one, weights[name].vectors)
        for name, one in found.listings.items()
    }


def loaded(listing: Listing) -> Zoo:
    """Returns networks of one architecture in memory.

    Raises:
        ValueError: at the first network that cannot be used; says why.
    """
    parts = [vectors for _, vectors in chunks(listing)]
    empty = np.zeros((0, listing.width), np.float32)
    return _with_weights(listing, np.concatenate([empty, *parts]))


def _with_weights(listing: Listing, vectors: np.ndarray) -> Zoo:
    return Zoo(
        network=listing.network,
        thetas=from_vectors(listing.network.spec, vectors),
        labels=listing.labels,
        hyper=listing.hyper,
        split=listing.split,
        source=listing.source,
        ids=listing.ids,
    )


def vectors_of(
    paths: Sequence[Path], size: int, vector: Callable[[Path], np.ndarray]
) -> Weights:
    """Returns the weights in some files, one network each.

    Args:
        paths: of the files.
        size: `P`.
        vector: reads one; its `ValueError` says what is wrong with the file.
    """
    vectors = np.zeros((len(paths), size), np.float32)
    problems: dict[int, str] = {}
    for at, path in enumerate(paths):
        try:
            vectors[at] = vector(path)
        except ValueError as error:
            problems[at] = str(error)
    return Weights(vectors, problems)


def chunks(listing: Listing) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rows and their weights, some at a time, of networks that are all whole.

    Raises:
        ValueError: at the first network that cannot be used; says why.
    """
    each = max(1, AT_ONCE // (4 * max(1, listing.width)))
    for start in range(0, len(listing), each):
        rows = np.arange(start, min(start + each, len(listing)))
        read = listing.read(rows)
        if read.problems:
            at, why = next(iter(read.problems.items()))
            raise ValueError(
                f"{listing.source}: network {str(listing.ids[rows[at]])!r} cannot be "
                f"used: {why}"
            )
        yield rows, read.vectors


def named(names: Iterable[str]) -> str:
    """Returns the first few names."""
    names = list(names)
    return ", ".join([*names[:NAMED], "..."] if len(names) > NAMED else names)
