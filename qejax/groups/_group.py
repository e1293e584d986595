"""The interface of a group that acts on a set of units.

Conventions, for every group: *gather* permutations (`perm[i]` is the old index now
at `i`), scales indexed by the new position, left action:
`move(mul(h, g), x) == move(h, move(g, x))`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jax.typing import DTypeLike

from qejax._typing import Array, PRNGKeyArray

Element = Any
"""A pytree of arrays: one element of a group on one set of units."""


class Sample(Protocol):
    """Draws a random element on `size` units."""

    def __call__(
        self, key: PRNGKeyArray, size: int, spread: float, dtype: DTypeLike
    ) -> Element:
        """Returns an element; scales lie in `[1 / spread, spread]`; key consumed."""
        ...


class Group(NamedTuple):
    """A group of transformations of `n` units, as pure functions.

    Attributes:
        name: the name under which `GROUPS` lists it.
        identity: `(n, dtype) -> e`.
        mul: `(h, g) -> hg`, "first `g`, then `h`".
        inv: `g -> g^-1`.
        sample: see `Sample`; well conditioned for any `spread`.
        move: `(g, x, axis, power) -> x'`, the action on one axis of an array.
            With `power = 1` the axis transforms as the units do, with
            `power = -k` as weights that read units through a map of degree `k`.
            `power = 0` permutes only.
        monomial: `(g, power) -> (perm, factor)`; what `move` does, as a gather and
            an elementwise factor (`None` for all ones), so that a caller can fuse
            several axes into one pass. `None` for a matrix group.
        balanced: `total -> bool`, whether the group can tell an entry of total
            power `total` on one unit from an invariant one: an equivariant map may
            couple entries whose powers differ by a balanced total. A matrix group
            couples them in pairs only, which contract.
        matrix: `(g, power) -> [n, n]`, the dense matrix of `move`.
        check: `(g, n) -> None`; raises `ValueError` unless `g` is an element on
            `n` units. Looks at values: not for traced code.
        turns: `g -> [n]`, how often what a turn adds is added to the entries that
            have one (`qejax.spaces.Axis.turn`); `None` where nothing is ever added.
    """

    name: str
    identity: Callable[[int, DTypeLike], Element]
    mul: Callable[[Element, Element], Element]
    inv: Callable[[Element], Element]
    sample: Sample
    move: Callable[[Element, Array, int, int], Array]
    monomial: Callable[[Element, int], tuple[Array, Array | None]] | None
    balanced: Callable[[int], bool]
    matrix: Callable[[Element, int], Array]
    check: Callable[[Element, int], None]
    turns: Callable[[Element], Array] | None = None
