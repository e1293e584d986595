"""What general linear maps cannot change: products across a bond.

Writers `W` of a head's queries and readers `K` change to `W M` and `K M^-T`; what the
network sees is `W K^T`. Put in the place of the leaves that a matrix moves, such
products make features on which permutations, scales and signs act and nothing else, and
every invariant of those is an invariant here.

A product of two kernels `[D, h, d]` is `[h, D, D]`. Where that is too large it is
probed: `W (K^T v)` and `K (W^T v)` with a few vectors `v`, `[h, D, p]` each, and no
array of `D * D` entries is ever made. Vectors are learned along axes that never move;
along axes of units they are ones and learned mixtures of features that those units
have.

Source: Tran et al. 2024, arXiv:2410.04209 (the dense products); probes are our own.
"""

import functools
import itertools
import math
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array
from qejax.layers._features import Features
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec

MAX_DENSE = 4096
"""Largest product that is made entry by entry, by default."""


@dataclass(frozen=True)
class Side:
    """One leaf of a product.

    Attributes:
        leaf: the leaf.
        position: its axis across the bond.
        host: its axis of the space that the bond is per, if there is one.
    """

    leaf: Leaf
    position: int
    host: int | None

    def rest(self) -> tuple[int, ...]:
        """Its other axes."""
        own = (self.position, self.host)
        return tuple(p for p in range(len(self.leaf.axes)) if p not in own)


@dataclass(frozen=True)
class Product:
    """One product across a bond.

    Attributes:
        left: the side whose rows are kept.
        right: the other side.
        leaf: the result.
        probed: axes of `right` that are probed away; empty for a dense product.
    """

    left: Side
    right: Side
    leaf: Leaf
    probed: tuple[int, ...] = ()


class Plan(NamedTuple):
    """All products of a weight space.

    Attributes:
        spec: of the results and of the leaves that no matrix moves.
        products: in the order in which they are taken.
    """

    spec: WeightSpec
    products: tuple[Product, ...]


@functools.lru_cache(maxsize=256)
def bond_plan(spec: WeightSpec, probes: int, max_dense: int) -> Plan:
    """Returns the products of a spec; none if no matrix moves anything.

    Args:
        spec: settled, so that its matrix groups are all general linear.
        probes: number of vectors for a product that is too large.
        max_dense: entries of the largest product that is made in full.

    Example:
        >>> from qejax import spaces
        >>> from qejax.spaces import Wire
        >>> spec = spaces.attention("", Wire(8), Wire(8), 2, 4, use_bias=False).spec()
        >>> [product.leaf.view for product in bond_plan(spec, 4, 4096).products]
        [(2, 8, 8), (2, 8, 8)]
        >>> [product.leaf.view for product in bond_plan(spec, 4, 100).products]
        [(2, 8, 4), (2, 8, 4), (2, 8, 4), (2, 8, 4)]
    """
    leaves = {leaf.path: leaf for leaf in spec.uncut().leaves}
    pending = {s.name: s for s in spec.spaces if s.group == "general_linear"}
    spaces = tuple(s for s in spec.spaces if s.name not in pending)
    products: list[Product] = []
    while pending:
        space = pending.pop(next(iter(pending)))
        sides = _sides(leaves.values(), space)
        for side in (*sides[0], *sides[1]):
            del leaves[side.leaf.path]
        for left, right in itertools.product(*sides):
            for product in _products(left, right, pending, spec, probes, max_dense):
                products.append(product)
                leaves[product.leaf.path] = product.leaf
    return Plan(WeightSpec(spaces, tuple(leaves.values())), tuple(products))


def sides_of(spec: WeightSpec, space: UnitSpace) -> tuple[list[Side], list[Side]]:
    """Returns the leaves that write a space and those that read it, in order."""
    return _sides(spec.leaves, space)


def _sides(leaves: Iterable[Leaf], space: UnitSpace) -> tuple[list[Side], list[Side]]:
    sides: tuple[list[Side], list[Side]] = ([], [])
    for leaf in leaves:
        for position, axis in enumerate(leaf.axes):
            if axis.space == space.name:
                host = None if space.per is None else leaf.before(position, space.per)
                sides[axis.power < 0].append(Side(leaf, position, host))
    return sides


def _products(
    left: Side,
    right: Side,
    pending: Container[str],
    spec: WeightSpec,
    probes: int,
    max_dense: int,
) -> tuple[Product, ...]:
    """One dense product, or two that are probed on either side."""
    dense = _product(left, right, (), 0)
    rest = [*left.rest(), *right.rest()]
    axes = [side.leaf.axes[p] for side, ps in _rests(left, right) for p in ps]
    names = {axis.space for axis in axes if axis.space is not None}
    free = all(spec.space_by_name[name].group == "permutation" for name in names)
    small = dense.leaf.size <= max_dense
    if small or not free or any(name in pending for name in names) or not rest:
        return (dense,)
    return (
        _product(left, right, right.rest(), probes),
        _product(right, left, left.rest(), probes),
    )


def _rests(left: Side, right: Side) -> tuple[tuple[Side, tuple[int, ...]], ...]:
    return (left, left.rest()), (right, right.rest())


def _product(left: Side, right: Side, probed: tuple[int, ...], probes: int) -> Product:
    """The leaf: the host's axis first, then what is left of both sides."""
    axes = [] if left.host is None else [replace(left.leaf.axes[left.host], power=0)]
    for side, positions in _rests(left, right):
        keep = [p for p in positions if side is left or p not in probed]
        axes += [side.leaf.axes[p] for p in keep]
    if probed:
        axes.append(Axis(probes))
    path = f"{left.leaf.path}*{right.leaf.path}"
    return Product(left, right, Leaf(path, tuple(axes)), probed)


class Bonds(nnx.Module):
    """Puts products across bonds in the place of the leaves that matrices move.

    `bonds(act_features(spec, g, U)) == act_features(bonds.spec, g', bonds(U))` with
    `g'` the permutations, scales and signs of `g`, in every channel. Without matrices
    it returns what it is given.

    Args:
        spec: settled (`qejax.spaces.settled_spec`).
        in_channels: `C`.
        probes: vectors for each product that is too large.
        max_dense: entries of the largest product that is made in full.
        mix: whether each side of a product mixes its channels first. A product of one
            channel is the same whatever matrix was applied to that channel alone; only
            between channels does a relative alpha show.
        param_dtype: of the parameters.
        rngs: `params` is used, for probes and mixing.

    Attributes:
        spec: of the results.

    Source: Tran et al. 2024, arXiv:2410.04209, section 4 (dense); the probes are ours.
    """

    def __init__(
        self,
        spec: WeightSpec,
        in_channels: int,
        *,
        probes: int = 8,
        max_dense: int = MAX_DENSE,
        mix: bool = False,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if probes < 1:
            raise ValueError(f"Bonds(probes=...) should be at least 1, got {probes}.")
        plan = bond_plan(spec, probes, max_dense)
        self.products = plan.products
        self.spec = plan.spec
        self.features_of = nnx.static(_single(spec))
        self.vectors, self.mix = nnx.Dict(), nnx.Dict()
        for product in plan.products if mix and in_channels > 1 else ():
            for name in ("left", "right"):
                shape = (in_channels, in_channels)
                draw = jax.random.normal(rngs.params(), shape, param_dtype)
                scale = 1 / math.sqrt(in_channels)
                self.mix[f"{_key(product)}.{name}"] = nnx.Param(scale * draw)
        for product in plan.products:
            for position in product.probed:
                axis = product.right.leaf.axes[position]
                size = axis.size
                if axis.space is not None:
                    size = sum(leaf.folded for leaf in self.features_of[axis.space])
                    size *= in_channels
                draw = jax.random.normal(rngs.params(), (size, probes), param_dtype)
                scale = 1 / math.sqrt(max(size, 1))
                self.vectors[f"{_key(product)}[{position}]"] = nnx.Param(scale * draw)

    def __call__(self, feats: Features) -> Features:
        """Returns features `[*leaf.view, C]` of the leaves of `self.spec`."""
        if not self.products:
            return feats
        found = dict(feats)
        for product in self.products:
            found[product.leaf.path] = self._take(product, found)
        return {leaf.path: found[leaf.path] for leaf in self.spec.leaves}

    def _take(self, product: Product, feats: Features) -> Array:
        left, right = product.left, product.right
        x = self._mixed(product, "left", feats[left.leaf.path])
        y = self._mixed(product, "right", feats[right.leaf.path])
        labels = itertools.count()
        bond, host, channel, probe = (next(labels) for _ in range(4))
        names: dict[int, list[int]] = {}
        for number, side in enumerate((left, right)):
            own = [next(labels) for _ in side.leaf.axes]
            own[side.position] = bond
            if side.host is not None:
                own[side.host] = host
            names[number] = own
        operands: list[Any] = [y, [*names[1], channel]]
        for position in product.probed:
            v = self._vector(product, position, feats).astype(y.dtype)
            operands += [v, [names[1][position], probe]]
        kept = [names[1][p] for p in right.rest() if p not in product.probed]
        hosts = [] if left.host is None else [host]
        tail = [probe] if product.probed else []
        if product.probed:
            out = [*hosts, bond, *kept, probe, channel]
            y, right_labels = jnp.einsum(*operands, out), out
        else:
            right_labels = operands[1]
        rest = [names[0][p] for p in left.rest()]
        return jnp.einsum(
            x,
            [*names[0], channel],
            y,
            right_labels,
            [*hosts, *rest, *kept, *tail, channel],
        )

    def _mixed(self, product: Product, side: str, x: Array) -> Array:
        name = f"{_key(product)}.{side}"
        return x @ self.mix[name][...].astype(x.dtype) if name in self.mix else x

    def _vector(self, product: Product, position: int, feats: Features) -> Array:
        """`[n, p]`: learned, or ones and a learned mixture of features of the units."""
        weights = self.vectors[f"{_key(product)}[{position}]"][...]
        axis = product.right.leaf.axes[position]
        if axis.space is None:
            return weights
        n = axis.size
        rows = [
            jnp.moveaxis(feats[leaf.path], leaf.moved()[0], 0).reshape(n, -1)
            for leaf in self.features_of[axis.space]
        ]
        if not rows:
            return jnp.full((n, weights.shape[1]), 1 / math.sqrt(n), weights.dtype)
        mixed = jnp.concatenate(rows, -1) @ weights.astype(rows[0].dtype)
        return (1 + mixed) / math.sqrt(n)


def _key(product: Product) -> str:
    return product.leaf.path.replace("/", ".")


def _single(spec: WeightSpec) -> dict[str, tuple[Leaf, ...]]:
    """By space of permutations, the leaves that it moves along one axis, alone."""
    return {
        s.name: tuple(
            leaf
            for leaf in spec.leaves
            if [leaf.axes[p].space for p in leaf.moved()] == [s.name]
        )
        for s in spec.spaces
        if s.group == "permutation"
    }
