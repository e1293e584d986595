"""Networks that are listed and not read yet: all but their weights is in memory.

A format lists a directory at once, however large its weights are; who wants them reads
some rows at a time, and is told which of these cannot be used and why.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax.nets import Network
from qejax.zoo._normal import NormalForm
from qejax.zoo._zoo import Zoo, from_vectors

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
            a problem.
        problems: why a network cannot be used, by its place among the rows.
    """

    vectors: np.ndarray
    problems: dict[int, str]


Reader = Callable[[np.ndarray], Weights]
"""From rows, ascending, to their weights."""


@dataclass(frozen=True)
class Listing:
    """`B` networks of one architecture.

    Attributes:
        network: the architecture.
        ids: `[B]` strings, unique.
        runs: `[B]` strings: of which training run a network is a checkpoint.
        labels: as in a `Zoo`.
        hyper: as in a `Zoo`.
        split: `[B]` int8 codes.
        source: where the networks come from.
        read: weights of some rows; never raises for a network that is damaged.
        normal: normal forms of some rows, where they have been computed before.
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

    def __len__(self) -> int:
        """Returns `B`."""
        return len(self.ids)


class Found(NamedTuple):
    """What a directory holds.

    Attributes:
        listings: by bucket, one architecture each.
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

    Raises:
        ValueError: if a network cannot be used: says what is wrong with the first,
            names the first few and counts all.
    """
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
        name: Zoo(
            network=one.network,
            thetas=from_vectors(one.network.spec, weights[name].vectors),
            labels=one.labels,
            hyper=one.hyper,
            split=one.split,
            source=one.source,
            ids=one.ids,
        )
        for name, one in found.listings.items()
    }


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


def named(names: Iterable[str]) -> str:
    """Returns the first few names."""
    names = list(names)
    return ", ".join([*names[:NAMED], "..."] if len(names) > NAMED else names)
