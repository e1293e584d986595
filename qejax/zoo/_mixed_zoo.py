"""Networks of mixed architectures in memory, read from a prepared zoo."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qejax.nets import Network, PadSize
from qejax.zoo._joined import MIXED_BUCKET, joined
from qejax.zoo._listing import Found, Listing, check_which, chunks, listed
from qejax.zoo._mixed import MixedBatch, mixed_batches
from qejax.zoo._mixed_normal import MixedNormal
from qejax.zoo._prepared import list_prepared
from qejax.zoo._read import open_bucket
from qejax.zoo._zoo import Zoo, split_code
from qejax.zoo._zoo import from_vectors as from_vectors


@dataclass(frozen=True)
class MixedZoo:
    """`B` trained networks of mixed architectures, as NumPy arrays.

    Attributes:
        networks: all architectures.
        which: `[B]`, the architecture of each network, a place in `networks`.
        vectors: `B` arrays `[P]` float32, `P` that of the network, in the order of
            `qejax.spaces.ravel`.
        labels: by name, `[B]` float32.
        hyper: by name, `[B]`.
        split: `[B]` int8, as in a `Zoo`.
        source: where the networks come from.
        ids: `[B]` strings, unique.
        normal: their normal forms; `None` if they have not been computed, see
            `mixed_normal_forms`.

    Raises:
        ValueError: at construction, if a column does not have `B` entries, or weights
            are not as many as their architecture has.
    """

    networks: tuple[Network, ...]
    which: np.ndarray
    vectors: Sequence[np.ndarray]
    labels: dict[str, np.ndarray]
    hyper: dict[str, np.ndarray]
    split: np.ndarray
    source: str
    ids: np.ndarray
    normal: MixedNormal | None = None

    def __post_init__(self) -> None:
        """Checks lengths."""
        count, columns = len(self.ids), {**self.labels, **self.hyper}
        check_which(f"zoo {self.source}", self.which, count, len(self.networks))
        lengths = {len(x) for x in (self.split, self.vectors, *columns.values())}
        if lengths != {count}:
            raise ValueError(
                f"zoo {self.source}: expected vectors, split and every column to have "
                f"{count} entries, as ids, got {sorted(lengths)}."
            )
        for name, network, vector in zip(
            self.ids.tolist(), self.each, self.vectors, strict=True
        ):
            if vector.shape != (network.spec.num_parameters,):
                raise ValueError(
                    f"zoo {self.source}, network {name!r}: expected a vector of "
                    f"{network.spec.num_parameters} weights, got shape {vector.shape}."
                )

    def __len__(self) -> int:
        """Returns `B`."""
        return len(self.ids)

    @property
    def each(self) -> list[Network]:
        """The architecture of each network, `B` of them."""
        return [self.networks[place] for place in self.which.tolist()]

    def take(self, rows: np.ndarray) -> "MixedZoo":
        """Returns the zoo of these rows, in this order; architectures stay."""
        return replace(
            self,
            which=self.which[rows],
            vectors=[self.vectors[row] for row in rows.tolist()],
            labels={name: x[rows] for name, x in self.labels.items()},
            hyper={name: x[rows] for name, x in self.hyper.items()},
            split=self.split[rows],
            ids=self.ids[rows],
            normal=None if self.normal is None else self.normal.take(rows),
        )

    def rows(self, split: str) -> np.ndarray:
        """Returns the rows of a split, ascending.

        Raises:
            ValueError: if the split is none of "train", "val", "test".
        """
        return np.flatnonzero(self.split == split_code(split))

    def select(self, split: str) -> "MixedZoo":
        """Returns the zoo of one split, in the order of the whole zoo.

        Raises:
            ValueError: if the split is none of "train", "val", "test".
        """
        return self.take(self.rows(split))

    def batches(
        self,
        ladder: Sequence[PadSize],
        batch_size: int,
        seed: int | Sequence[int] | None = None,
    ) -> Iterator[MixedBatch]:
        """Yields every network once; see `mixed_batches`.

        Args:
            ladder: sizes, such as `nets.ladder_of(zoo.each)`.
            batch_size: networks in a batch.
            seed: of the order.

        Raises:
            ValueError: as `mixed_batches`.
        """
        return mixed_batches(
            self.each,
            self.vectors,
            ladder,
            batch_size,
            seed,
            labels=self.labels,
            normal=self.normal,
        )


def read_mixed(
    root: str | Path, bucket: str | None = None, *, verify: bool = True
) -> MixedZoo:
    """Returns one bucket of a prepared zoo, in memory, in the order it was stored in.

    Args:
        root: a folder made by `import_zoo`, or any other prepared zoo: a bucket of one
            architecture is read as well.
        bucket: its name; not needed if there is one only.
        verify: whether to compare the checksum of every shard first.

    Raises:
        FileNotFoundError: as `read`.
        ValueError: as `read`.
    """
    name, _ = open_bucket(Path(root), bucket, verify=False)
    return in_memory_mixed(list_prepared(root, verify=verify).listings[name])


def in_memory_mixed(listing: Listing) -> MixedZoo:
    """Returns listed networks in memory.

    Raises:
        ValueError: if one cannot be used; says why.
    """
    sizes, vectors = listing.sizes, []
    forms: list[MixedNormal] = []
    for rows, found in chunks(listing):
        pairs = zip(found, sizes[rows].tolist(), strict=True)
        vectors += [vector[:size].copy() for vector, size in pairs]
        if listing.mixed_normal is not None:
            forms.append(listing.mixed_normal(rows))
    return MixedZoo(
        networks=listing.networks,
        which=listing.places,
        vectors=vectors,
        labels=listing.labels,
        hyper=listing.hyper,
        split=listing.split,
        source=listing.source,
        ids=listing.ids,
        normal=MixedNormal.joined(forms) if forms else None,
    )


def mixed_of(zoos: Mapping[str, Zoo]) -> MixedZoo:
    """Returns zoos of one architecture each as one of mixed architectures.

    Args:
        zoos: by name, such as `read_all` returns them; see `joined`.

    Raises:
        ValueError: if there is none; as `joined`.

    Example:
        >>> from qejax import nets
        >>> def one(width):
        ...     net = nets.mlp((4, width, 2))
        ...     vectors = np.zeros((2, net.spec.num_parameters), np.float32)
        ...     return Zoo(net, from_vectors(net.spec, vectors), {}, {},
        ...                np.zeros(2, np.int8), "made", np.array(["x", "y"]))
        >>> mixed_of({"small": one(3), "large": one(9)}).ids.tolist()
        ['small/x', 'small/y', 'large/x', 'large/y']
    """
    if not zoos:
        raise ValueError("mixed_of: expected at least one zoo, got none.")
    listings = {name: listed(one) for name, one in zoos.items()}
    found = joined(Found(listings, (), "stored", ""))
    return in_memory_mixed(found.listings[MIXED_BUCKET])
