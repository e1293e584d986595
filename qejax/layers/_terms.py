"""Every equivariant linear map between weight spaces, as a table of terms.

A linear map `A` from leaf `a` to leaf `b` commutes with the group when
`A[g i_b, g i_a] = rho_b(g)[i_b] A[i_b, i_a] / rho_a(g)[i_a]` for the indices of both
leaves. Independent scales per unit leave `A` non-zero only where, at every unit that
occurs among the indices, the powers of the scales balance; permutations make `A`
constant on patterns of equal indices. So a basis is: set partitions of the moved axes
of `a` and `b` together, axes of one block in one unit space, and for every block the
total `sum(powers in b) - sum(powers in a)` balanced in the group of that space. The
term of a partition is 1 where the indices of every block agree. Blocks may also agree
with each other: unions of balanced blocks are balanced, so this changes the basis and
not its span.

A block that holds axes of `a` and of `b` is a *shared index*, one of `a` alone is
summed, one of `b` alone is broadcast. A term therefore factors into a `Pattern` of `a`
and one of `b` with equal keys, and *every* such pair is a term. That is what makes the
engine small: one matrix product per key, whatever the number of terms.

A matrix group couples axes in pairs: an axis of `a` with one of `b` of the same power,
whose index is then shared and whose matrices cancel; nothing else about them commutes
with all invertible matrices. Where the space is per another one (a matrix for each
head), the units of that space have to be shared as well. So these are patterns in
which axes that matrices move are shared one by one, each with its host.

Axes that never move are mixed freely: they are channels. A constant leaf (no axes,
value 1) gives the biases.

Sources: the basis of Zhou et al. 2023, arXiv:2302.14040 (permutations), of Tran et al.
2024, arXiv:2409.11697 (scales and signs), and the partition rule of Zhou et al. 2024,
arXiv:2402.05232, in one rule that reads the group's `balanced`.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qejax.groups import GROUPS
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec

Key = tuple[tuple[str, int], ...]
"""Shared indices of a term: unit space and power class of each, in a fixed order."""

CONSTANT = Leaf("constant", ())
"""The leaf without axes whose value is 1; its terms are the biases."""


@dataclass(frozen=True)
class Pattern:
    """How one leaf meets the shared indices of a term.

    Attributes:
        leaf: the leaf, or `CONSTANT`.
        labels: the block of each moved axis. Labels below `len(key)` are shared
            indices in the order of the key, the others belong to this leaf alone.
            Axes with equal labels are on a diagonal.
        key: the shared indices.
    """

    leaf: Leaf
    labels: tuple[int, ...]
    key: Key

    @property
    def fixed(self) -> tuple[int, ...]:
        """Sizes of the axes that never move."""
        return tuple(self.leaf.axes[i].size for i in self.leaf.fixed())

    @property
    def multiplicity(self) -> int:
        """Channels per feature channel: entries along the axes that never move."""
        return math.prod(self.fixed)


@dataclass(frozen=True)
class Term:
    """One basis family of equivariant maps, with parameters `[F_a, F_b, C, C']`.

    Attributes:
        source: how the input leaf is reduced.
        target: how the output leaf is filled.
        fan_in: entries that one output sums over, for one input channel.
    """

    source: Pattern
    target: Pattern
    fan_in: int


@dataclass(frozen=True)
class Mixer:
    """All terms of one key: every source with every target, one matrix product.

    Attributes:
        key: the shared indices.
        sources: reductions of input leaves, columns of the input in this order.
        targets: fillings of output leaves, columns of the output in this order.
    """

    key: Key
    sources: tuple[Pattern, ...]
    targets: tuple[Pattern, ...]

    @property
    def name(self) -> str:
        """Name of the parameters of this key.

        Example:
            >>> Mixer((("hidden_0", 1),), (), ()).name
            'hidden_0^1'
        """
        return "*".join(f"{space}^{power}" for space, power in self.key) or "global"


@functools.lru_cache(maxsize=256)
def mixers(spec: WeightSpec) -> tuple[Mixer, ...]:
    """Returns the table of terms of `spec`, grouped by key.

    Args:
        spec: the weight space; any groups in `qejax.groups.GROUPS`.

    Returns:
        One `Mixer` per key, the global one first.

    Example:
        >>> from qejax import nets
        >>> [m.name for m in mixers(nets.mlp_spec((4, 3, 2), activation="relu"))]
        ['global', 'hidden_0^1', 'hidden_0^-1']
    """
    sources: dict[Key, list[Pattern]] = {(): [Pattern(CONSTANT, (), ())]}
    targets: dict[Key, list[Pattern]] = {}
    for leaf in spec.leaves:
        for pattern, canonical in _patterns(spec, leaf):
            sources.setdefault(pattern.key, []).append(pattern)
            if canonical:
                targets.setdefault(pattern.key, []).append(pattern)
    ordered = sorted(targets, key=len)
    return tuple(Mixer(k, tuple(sources[k]), tuple(targets[k])) for k in ordered)


def term_table(spec: WeightSpec) -> tuple[Term, ...]:
    """Returns every term of `spec`, one by one.

    The span of their maps is the space of all affine maps that commute with the group;
    at widths below the number of blocks of a term, terms are linearly dependent.

    Args:
        spec: the weight space.

    Returns:
        Terms in the order of `mixers`, sources slowest.
    """
    return tuple(
        Term(source, target, source.multiplicity)
        for mixer in mixers(spec)
        for source in mixer.sources
        for target in mixer.targets
    )


def tie_fixed(spec: WeightSpec, max_fixed: int | None) -> WeightSpec:
    """Returns `spec` with long fixed axes moved by permutations of their own.

    Equivariance under more is equivariance under less: maps for the result are maps
    for `spec`, with far fewer parameters (an axis of 784 pixels mixed freely costs
    784^2 `C C'`). What tells the positions apart is then up to encodings in the
    features.

    Args:
        spec: the weight space.
        max_fixed: longest fixed axis that stays free; `None` ties nothing.

    Returns:
        A spec with the same leaves and views.
    """
    if max_fixed is None:
        return spec
    spaces, leaves = list(spec.spaces), []
    for leaf in spec.leaves:
        axes = []
        for position, axis in enumerate(leaf.axes):
            if axis.space is None and axis.size > max_fixed:
                name = f"{leaf.path}[{position}]".replace("/", ".")
                spaces.append(UnitSpace(name, axis.size, "permutation"))
                axis = Axis(axis.size, name, 0)
            axes.append(axis)
        leaves.append(Leaf(leaf.path, tuple(axes), leaf.shape))
    return WeightSpec(tuple(spaces), tuple(leaves))


def _patterns(spec: WeightSpec, leaf: Leaf) -> Iterator[tuple[Pattern, bool]]:
    """Patterns of one leaf; the flag is False for a reordering of another one."""
    axes = [leaf.axes[i] for i in leaf.moved()]
    for blocks in _set_partitions(range(len(axes))):
        if any(len({axes[i].space for i in block}) > 1 for block in blocks):
            continue
        kinds = [_kind(spec, [axes[i] for i in block]) for block in blocks]
        for mask in itertools.product((True, False), repeat=len(blocks)):
            own = [b for b, shared in enumerate(mask) if not shared]
            if any(kinds[b][2] != 0 for b in own):
                continue
            if not _hosted(spec, leaf, blocks, mask):
                continue
            shared = sorted(
                (b for b, shared in enumerate(mask) if shared), key=kinds.__getitem__
            )
            key = tuple(kinds[b][1:] for b in shared)
            for count, order in enumerate(_orders(shared, kinds)):
                yield Pattern(leaf, _labels(blocks, [*order, *own]), key), count == 0


def _hosted(
    spec: WeightSpec,
    leaf: Leaf,
    blocks: Sequence[Sequence[int]],
    mask: Sequence[bool],
) -> bool:
    """Whether matrices meet one by one, and shared axes share their hosts."""
    moved = leaf.moved()
    shared = {i for block, one in zip(blocks, mask, strict=True) if one for i in block}
    for block, is_shared in zip(blocks, mask, strict=True):
        for i in block:
            axis = leaf.axes[moved[i]]
            space = spec.space_by_name[str(axis.space)]
            matrix = GROUPS[space.group].monomial is None
            if matrix and not (is_shared and len(block) == 1):
                return False
            host = spec.per_axis(leaf, moved[i])
            if is_shared and host is not None and moved.index(host) not in shared:
                return False
    return True


def _kind(spec: WeightSpec, axes: Sequence[Axis]) -> tuple[int, str, int]:
    """Position and name of the unit space of a block, and its power class."""
    name = axes[0].space
    assert name is not None
    position = [space.name for space in spec.spaces].index(name)
    balanced = GROUPS[spec.space_by_name[name].group].balanced
    total = sum(axis.power for axis in axes)
    # The first representative: balanced totals form a subgroup of the integers.
    ordered = itertools.chain([0], *((k, -k) for k in range(1, abs(total) + 1)))
    return position, name, next(k for k in ordered if balanced(total - k))


def _orders(
    shared: Sequence[int], kinds: Sequence[tuple[int, str, int]]
) -> Iterator[list[int]]:
    """Orders of the shared blocks with the same key: blocks of one kind swap."""
    runs = [list(run) for _, run in itertools.groupby(shared, kinds.__getitem__)]
    for parts in itertools.product(*(itertools.permutations(run) for run in runs)):
        yield [block for part in parts for block in part]


def _labels(blocks: Sequence[Sequence[int]], order: Sequence[int]) -> tuple[int, ...]:
    label_of = {axis: label for label, b in enumerate(order) for axis in blocks[b]}
    return tuple(label_of[axis] for axis in range(len(label_of)))


def _set_partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for partition in _set_partitions(rest):
        yield [[first], *partition]
        for i, block in enumerate(partition):
            yield [*partition[:i], [first, *block], *partition[i + 1 :]]
