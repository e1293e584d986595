"""Shapes to pad networks to: one compiled program each, so a few for a whole zoo."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

from qejax.nets._config import sizes
from qejax.nets._network import Network
from qejax.nets._plain import plain_shapes


@dataclass(frozen=True)
class PadSize:
    """The shape of a padded network; networks of any smaller one fit.

    Attributes:
        layers: hidden layers, `L`.
        width: units of a hidden layer, `K`.
        window: side of the kernels of hidden layers, `W`; odd.
        inputs: channels of the inputs, features of a dense layer, `I`.
        outputs: `O`.
        head: side of the flattened map that the outputs read, `H`; odd, 1 without.

    Raises:
        ValueError: at construction, for sizes below 1 or even windows.
    """

    layers: int
    width: int
    window: int = 1
    inputs: int = 1
    outputs: int = 1
    head: int = 1

    def __post_init__(self) -> None:
        """Checks."""
        names = [field.name for field in fields(self)]
        sizes(f"pad size {', '.join(names)}", astuple(self))
        if not (self.window % 2 and self.head % 2):
            raise ValueError(
                f"pad size: windows are centred, expected odd sides, got window="
                f"{self.window}, head={self.head}. Take one more."
            )

    def holds(self, other: "PadSize") -> bool:
        """Whether networks of another size fit into this one."""
        return self.joined(other) == self

    def joined(self, other: "PadSize") -> "PadSize":
        """Returns the smallest size that holds both."""
        return PadSize(*map(max, astuple(self), astuple(other)))

    @property
    def entries(self) -> int:
        """Scalars of all kernels, what a padded network costs."""
        area, head = self.window**2, self.head**2
        middle = (self.layers - 1) * area * self.width**2
        ends = area * self.inputs * self.width + head * self.width * self.outputs
        return middle + ends


def size_of(network: Network) -> PadSize:
    """Returns the smallest size that holds a network.

    Raises:
        ValueError: if the network is no chain of layers, or has no hidden layer.

    Example:
        >>> from qejax import nets
        >>> size_of(nets.cnn(3, (8, 16), (5, 3)))
        PadSize(layers=2, width=16, window=5, inputs=3, outputs=10, head=1)
    """
    shapes = plain_shapes(network)
    if len(shapes) < 2:
        raise ValueError(
            f"padded: expected a network with at least one hidden layer, got "
            f"{network.config}."
        )
    hidden, last = shapes[:-1], shapes[-1]
    return PadSize(
        layers=len(hidden),
        width=max(shape[3] for shape in hidden),
        window=_odd(max(side for shape in hidden for side in shape[:2])),
        inputs=hidden[0][2],
        outputs=last[3],
        head=_odd(max(last[:2])),
    )


def ladder_of(networks: Iterable[Network], count: int = 3) -> tuple[PadSize, ...]:
    """Returns at most `count` sizes, small to large; every network fits one of them.

    Starts from one size for each architecture and joins, again and again, the two that
    cost the least in padding when they are one.

    Args:
        networks: at least one; networks of all splits, or later ones may not fit.
        count: number of sizes, and so of compilations.

    Raises:
        ValueError: if there is no network, or `count` is below 1.

    Example:
        >>> from qejax import nets
        >>> nets_of = [nets.mlp((4, n, n, 2)) for n in (3, 5, 15, 16)]
        >>> [size.width for size in ladder_of(nets_of, 2)]
        [5, 16]
    """
    counts = Counter(map(size_of, networks))
    if not counts or count < 1:
        raise ValueError(
            f"ladder_of: expected at least one network and one size, got "
            f"{len(counts)} networks and count={count}."
        )
    grain = 1
    while len(groups := _grouped(counts, grain)) > _MOST_GROUPS:
        grain *= 2
    while len(groups) > count:
        pairs = itertools.combinations(range(len(groups)), 2)
        i, j = min(pairs, key=lambda pair: _waste(groups[pair[0]], groups[pair[1]]))
        (one, many), (other, more) = groups[i], groups.pop(j)
        groups[i] = (one.joined(other), many + more)
    found = {size for size, _ in groups}
    return tuple(sorted(found, key=lambda size: (size.entries, astuple(size))))


_MOST_GROUPS = 64
"""Sizes that are compared pair by pair."""


def _grouped(counts: Counter[PadSize], grain: int) -> list[tuple[PadSize, int]]:
    """Sizes joined where widths are the same up to `grain`, and how many each holds."""
    groups: dict[tuple[int, ...], tuple[PadSize, int]] = {}
    for size, many in sorted(counts.items(), key=lambda item: astuple(item[0])):
        layers, width, *rest = astuple(size)
        key = (layers, -(-width // grain), *rest)
        old, before = groups.get(key, (size, 0))
        groups[key] = (old.joined(size), before + many)
    return list(groups.values())


def _waste(one: tuple[PadSize, int], other: tuple[PadSize, int]) -> int:
    """Scalars of padding that joining two groups adds."""
    (a, many), (b, more) = one, other
    entries = a.joined(b).entries
    return many * (entries - a.entries) + more * (entries - b.entries)


def rung_of(network: Network, ladder: Sequence[PadSize]) -> PadSize:
    """Returns the cheapest size of a ladder that holds a network.

    Raises:
        ValueError: if none does.
    """
    wants = size_of(network)
    fits = [size for size in ladder if size.holds(wants)]
    if not fits:
        raise ValueError(
            f"padded: expected a network that fits one of {list(ladder)}, got one that "
            f"needs {wants}. Make the ladder of all networks with nets.ladder_of."
        )
    return min(fits, key=lambda size: size.entries)


def _odd(side: int) -> int:
    return side + (side + 1) % 2
