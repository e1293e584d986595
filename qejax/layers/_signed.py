"""Message passing between units that have signs: exact and continuous, nothing chosen.

A normal form fixes the sign of every unit, and jumps where the statistic that decides
it changes sign. Here units keep theirs. Every unit has odd features `o`, which flip
with it, and even ones `e`, which do not; an axis of a leaf is odd or even likewise, and
a message along a leaf takes what is odd or even at one end to what is odd or even at
the other. Units update through any function `F` of both, split into its two parts,

`e += F(o, e) + F(-o, e)`, `o += F(o, e) - F(-o, e)`.

Units without signs have even features only. With heads, attention weighs the units that
a message comes from, see `_unit_attention`.

Sources: our own; the sum over both signs as in Lim et al. 2022, arXiv:2202.13013
(sign-invariant networks), attention as in Zhou et al. 2023, arXiv:2305.13546.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array, Float, Leaves
from qejax.layers._linear import linear, matrix, times
from qejax.layers._message_passing import key_of
from qejax.layers._unit_attention import UnitAttention
from qejax.spaces import Leaf, WeightSpec


class Signed(NamedTuple):
    """Features of the units of one space.

    Attributes:
        odd: `[n_s, C]`, flip with the units; `[n_s, 0]` where units have no sign.
        even: `[n_s, C']`.
    """

    odd: Array
    even: Array


class Port(NamedTuple):
    """One end of a leaf.

    Attributes:
        path: of the leaf.
        space: of the units.
        position: of their axis.
        odd: whether entries flip with them.
    """

    path: str
    space: str
    position: int
    odd: bool


@functools.lru_cache(maxsize=4096)
def ports_of(spec: WeightSpec, leaf: Leaf) -> tuple[Port, ...]:
    """Returns the ends of a leaf in the order of its axes."""
    groups = {space.name: space.group for space in spec.spaces}
    return tuple(
        Port(
            leaf.path,
            str(axis.space),
            position,
            groups[str(axis.space)] == "sign" and axis.power % 2 == 1,
        )
        for position, axis in enumerate(leaf.axes)
        if axis.space is not None
    )


class SignedTransport(nnx.Module):
    """Features of units from weights; equivariant to permutations and signs.

    Along a leaf, a unit `i` gets `sum_jf w_ijf V_f u_j / sqrt(n)` from the `n` units at
    the other end; with `heads`, every head has its share of the channels and weights of
    its own, positive and of mean 1 over `j`, before the `w_ijf`.

    Args:
        spec: of signs and permutations; other groups are taken for permutations, so
            bring weights to their normal form first.
        channels: odd and even features of a unit, `C` each.
        hidden: width of `F`.
        depth: number of rounds.
        heads: of attention over units; 0 for plain sums.
        param_dtype: of the parameters.
        rngs: `params` is used.

    Raises:
        ValueError: if heads do not divide the channels.
    """

    def __init__(
        self,
        spec: WeightSpec,
        channels: int,
        *,
        hidden: int = 128,
        depth: int = 2,
        heads: int = 0,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if heads < 0 or (heads and channels % heads):
            raise ValueError(
                f"SignedTransport(heads={heads}): expected 0 for plain sums, or a "
                f"number that divides the {channels} channels."
            )
        self.spec, self.channels, self.rounds = spec, channels, depth
        self.heads = heads
        signed = {s.name: s.group == "sign" for s in spec.spaces}
        dense = functools.partial(linear, param_dtype=param_dtype, rngs=rngs)
        plain = functools.partial(matrix, param_dtype=param_dtype, rngs=rngs)
        shapes = jax.eval_shape(self._inputs, _template(spec))
        self.embed = nnx.Dict()
        for name, both in shapes.items():
            self.embed[name] = nnx.Dict(
                {
                    "odd": plain(both.odd.shape[-1], channels * signed[name]),
                    "even": plain(both.even.shape[-1], channels),
                }
            )
        self.blocks = nnx.Dict()
        for number in range(depth):
            parts = ("send", "attend", "first", "last")
            block = nnx.Dict({part: nnx.Dict() for part in parts})
            for space in spec.spaces:
                arrive = sum(len(far) for _, far in self._links(space.name))
                width = channels * (1 + signed[space.name] + arrive)
                block["first"][space.name] = dense(width, hidden)
                outs = channels * (1 + signed[space.name])
                block["last"][space.name] = plain(hidden, outs)
                for near, far in self._links(space.name):
                    folded = spec.leaf_by_path[near.path].folded
                    for end in far:
                        key = _link_key(near, end)
                        block["send"][key] = plain(channels, channels * folded)
                        if heads:
                            block["attend"][key] = UnitAttention(
                                channels,
                                folded,
                                heads,
                                param_dtype=param_dtype,
                                rngs=rngs,
                            )
            self.blocks[f"{number:02d}"] = block
        self.size = channels * len(spec.spaces)

    def __call__(self, leaves: Leaves) -> dict[str, Signed]:
        """Returns features of all units.

        Args:
            leaves: by path, `[*leaf.view]`, each of about unit size.
        """
        nodes = {}
        for name, both in self._inputs(leaves).items():
            embed = self.embed[name]
            nodes[name] = Signed(
                times(both.odd, embed["odd"]), times(both.even, embed["even"])
            )
        for number in sorted(self.blocks):
            nodes = {
                name: self._updated(self.blocks[number], name, nodes, leaves)
                for name in nodes
            }
        return nodes

    def _links(self, name: str) -> list[tuple[Port, list[Port]]]:
        """Ends at units of a space, each with the other ends of its leaf."""
        ends = [ports_of(self.spec, leaf) for leaf in self.spec.leaves]
        return [
            (near, [far for far in ports if far.position != near.position])
            for ports in ends
            if len(ports) > 1
            for near in ports
            if near.space == name
        ]

    def _inputs(self, leaves: Leaves) -> dict[str, Signed]:
        """What leaves of one space say of its units."""
        dtype = jnp.result_type(*leaves.values())
        parts: dict[str, tuple[list[Array], list[Array]]] = {
            s.name: ([jnp.zeros((s.size, 0), dtype)], [jnp.zeros((s.size, 0), dtype)])
            for s in self.spec.spaces
        }
        for leaf in self.spec.leaves:
            path, ports = leaf.path, ports_of(self.spec, leaf)
            if len(ports) != 1:
                continue
            (port,) = ports
            x = jnp.moveaxis(leaves[path], port.position, 0)
            x = x.reshape(x.shape[0], -1)
            odd, even = parts[port.space]
            (odd if port.odd else even).append(x)
        return {
            name: Signed(jnp.concatenate(odd, -1), jnp.concatenate(even, -1))
            for name, (odd, even) in parts.items()
        }

    def _updated(
        self, block: nnx.Dict, name: str, nodes: dict[str, Signed], leaves: Leaves
    ) -> Signed:
        own = nodes[name]
        odd, even = [own.odd], [own.even]
        for near, far in self._links(name):
            for end in far:
                sent = self._sent(block, near, end, nodes, leaves)
                (odd if near.odd else even).append(sent)
        o, e = jnp.concatenate(odd, -1), jnp.concatenate(even, -1)
        o, e = unit_size(o, e)
        first, last = block["first"][name], block["last"][name]
        if self.spec.space_by_name[name].group != "sign":
            return Signed(own.odd, own.even + times(jax.nn.silu(first(e)), last))
        # F is linear before and after its units: both signs share the products.
        kernel = first.kernel[...].astype(o.dtype)
        flips, stays = jnp.split(kernel, [o.shape[-1]])
        flips = o @ flips
        stays = e @ stays + first.bias[...].astype(o.dtype)[None]
        one, other = jax.nn.silu(stays + flips), jax.nn.silu(stays - flips)
        to_even, to_odd = jnp.split(last[...].astype(o.dtype), [self.channels], -1)
        return Signed(
            own.odd + (one - other) @ to_odd, own.even + (one + other) @ to_even
        )

    def _sent(
        self,
        block: nnx.Dict,
        near: Port,
        end: Port,
        nodes: dict[str, Signed],
        leaves: Leaves,
    ) -> Array:
        """What arrives along a leaf from its other end, `[n, C]`."""
        x, key = leaves[near.path], _link_key(near, end)
        order = (near.position, end.position)
        rest = tuple(p for p in range(x.ndim) if p not in order)
        x = x.transpose(*order, *rest)
        flat = x.reshape(*x.shape[:2], -1)
        n, m, folded = flat.shape
        own, far = nodes[near.space], nodes[end.space]
        seen = flat[None]
        if self.heads:
            own, other = Signed(*unit_size(*own)), Signed(*unit_size(*far))
            seen = block["attend"][key](
                flat,
                (own.even, other.even),
                (_alike(own, near), _alike(other, end)),
            )
        value = times(_alike(far, end), block["send"][key])
        value = value.reshape(m, folded, len(seen), -1)
        sent = jnp.einsum("hijf,jfhc->ihc", seen, value)
        return sent.reshape(n, self.channels) / math.sqrt(m)


def pool_signed(nodes: dict[str, Signed]) -> Float[Array, " F"]:
    """Returns the means of the even features of every space, in order."""
    return jnp.concatenate([jnp.mean(both.even, 0) for both in nodes.values()])


def _link_key(near: Port, far: Port) -> str:
    return key_of(f"{near.path}:{near.position}:{far.position}")


def _alike(both: Signed, port: Port) -> Array:
    """The features that flip with units where the entries of a leaf do."""
    return both.odd if port.odd else both.even


def _template(spec: WeightSpec) -> Leaves:
    return {
        leaf.path: jax.ShapeDtypeStruct(leaf.view, jnp.float32)  # type: ignore[misc]
        for leaf in spec.leaves
    }


def unit_size(o: Array, e: Array) -> tuple[Array, Array]:
    """Both over their common root mean square, which no sign changes."""
    count = o.shape[-1] + e.shape[-1]
    square = (jnp.sum(o * o, -1) + jnp.sum(e * e, -1)) / count
    factor = jax.lax.rsqrt(square + 1e-5)[..., None]
    return o * factor, e * factor
