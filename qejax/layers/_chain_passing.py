"""Message passing on chains: one set of parameters for all depths, widths and windows.

Units of all layers live in one array and update by the same map, told apart by what is
known of their layer. Messages go along kernels, forwards and backwards, and along
skips. As in `SignedTransport` units with signs have odd and even features, of which one
kind is zero where it does not apply: here the architecture is data, so that which it is
differs from unit to unit.

Source: our own; the sum over both signs as in Lim et al. 2022, arXiv:2202.13013.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array, Float
from qejax.layers._linear import linear, matrix, times
from qejax.layers._signed import Signed, unit_size
from qejax.spaces import Chain

KINDS = ("forward", "backward", "skip", "skipped")
"""Where messages come from: below, above, the far and the near end of a skip."""


class ChainPassing(nnx.Module):
    """Features of units of a chain; equivariant to permutations and signs.

    Padding changes nothing: units that are not live keep features of zero. No
    parameter has a size of the chain.

    Args:
        channels: odd and even features of a unit, `C` each.
        sizes: largest `(W, I, H, O)` that are read, see `Chain`.
        facts: numbers that a chain says of a layer.
        hidden: width of the map that updates units.
        depth: number of rounds.
        param_dtype: of the parameters.
        rngs: `params` is used.
    """

    def __init__(
        self,
        channels: int,
        sizes: tuple[int, int, int, int],
        facts: int,
        *,
        hidden: int = 64,
        depth: int = 2,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.channels, self.sizes, self.rounds = channels, sizes, depth
        window, inputs, head, outputs = sizes
        dense = functools.partial(linear, param_dtype=param_dtype, rngs=rngs)
        plain = functools.partial(matrix, param_dtype=param_dtype, rngs=rngs)

        def table(*shape: int) -> nnx.Param:
            draw = jax.random.normal(rngs.params(), (*shape, 2 * channels), param_dtype)
            return nnx.Param(draw)

        self.first = table(window, window, inputs)
        self.last = table(head, head, outputs)
        self.bias = table()
        self.facts = dense(facts, channels)
        self.sizes_of_units = plain(3, channels)
        self.blocks = nnx.Dict()
        area = window * window
        for number in range(depth):
            block = nnx.Dict()
            for kind in KINDS:
                wide = area if kind in KINDS[:2] else 1
                block[kind] = plain(2 * channels, wide * channels)
            block["first"] = dense((2 * len(KINDS) + 3) * channels, hidden)
            block["last"] = plain(hidden, 2 * channels)
            self.blocks[f"{number:02d}"] = block

    def __call__(self, chain: Chain) -> Signed:
        """Returns features of all units, `[L, K, C]` each.

        Args:
            chain: in normal form, one network.

        Raises:
            ValueError: if the chain is larger than what is read.
        """
        self._check(chain)
        facts = self.facts(chain.facts)[:, None]
        facts = jnp.broadcast_to(facts, (*chain.live.shape, self.channels))
        units = self._embedded(chain, facts)
        for number in sorted(self.blocks):
            units = self._updated(self.blocks[number], chain, units, facts)
        return units

    def _check(self, chain: Chain) -> None:
        window, _, inputs, _ = chain.first.shape
        head, _, _, outputs = chain.last.shape
        found = (window, inputs, head, outputs)
        if any(own > most for own, most in zip(found, self.sizes, strict=True)):
            raise ValueError(
                f"ChainPassing: expected windows, inputs, heads and outputs of at most "
                f"{self.sizes}, got {found}. Build the model for larger ones."
            )

    def _embedded(self, chain: Chain, facts: Array) -> Signed:
        """What leaves of one layer say of its units."""
        dtype, ends = chain.bias.dtype, chain.ends
        first = _cropped(self.first[...].astype(dtype), chain.first.shape[:3])
        last = self.last[...].astype(dtype)
        last = _cropped(last, (*chain.last.shape[:2], chain.last.shape[3]))
        bottom = jnp.einsum("abik,abic->kc", chain.first, first)
        bias = jnp.einsum("lk,c->lkc", chain.bias, self.bias[...].astype(dtype))
        written = bias.at[0].add(bottom)
        count = jnp.sqrt(ends @ jnp.sum(chain.live.astype(dtype), 1))
        top = count * jnp.einsum("abko,aboc->kc", chain.last, last)
        read = jnp.einsum("l,kc->lkc", ends, top)
        even = facts + times(_unit_sizes(chain), self.sizes_of_units)
        odd = jnp.zeros_like(even)
        for x, flips in ((written, chain.signed), (read, chain.reads_odd)):
            to_odd, to_even = jnp.split(x, 2, -1)
            odd = odd + jnp.where(flips[..., None], to_odd, 0)
            even = even + jnp.where(flips[..., None], 0, to_even)
        live = chain.live[..., None]
        return Signed(jnp.where(live, odd, 0), jnp.where(live, even, 0))

    def _updated(
        self, block: nnx.Dict, chain: Chain, units: Signed, facts: Array
    ) -> Signed:
        writes, reads = chain.signed[..., None], chain.reads_odd[..., None]
        sent = {
            "forward": (self._forward(block, chain, _chosen(units, reads)), writes),
            "backward": (self._backward(block, chain, _chosen(units, writes)), reads),
            "skip": (_along(chain.skip, block["skip"], units, writes), writes),
            "skipped": (_along(chain.skip.T, block["skipped"], units, writes), writes),
        }
        odd = [units.odd, *(jnp.where(flip, x, 0) for x, flip in sent.values())]
        even = [units.even, *(jnp.where(flip, 0, x) for x, flip in sent.values())]
        o, e = jnp.concatenate(odd, -1), jnp.concatenate([*even, facts], -1)
        o, e = unit_size(o, e)
        first, last = block["first"], block["last"]
        kernel = first.kernel[...].astype(o.dtype)
        flips, stays = jnp.split(kernel, [o.shape[-1]])
        flips = o @ flips
        stays = e @ stays + first.bias[...].astype(o.dtype)[None, None]
        one, other = jax.nn.silu(stays + flips), jax.nn.silu(stays - flips)
        to_even, to_odd = jnp.split(last[...].astype(o.dtype), 2, -1)
        # Zero where units have no sign: both terms are the same there.
        live = chain.live[..., None]
        return Signed(
            jnp.where(live, units.odd + (one - other) @ to_odd, 0),
            jnp.where(live, units.even + (one + other) @ to_even, 0),
        )

    def _forward(self, block: nnx.Dict, chain: Chain, units: Array) -> Array:
        """What layers get from those below, `[L, K, C]`."""
        value = self._values(block["forward"], chain, units[:-1])
        sent = jnp.einsum("labji,ljabc->lic", chain.middle, value)
        return jnp.concatenate([jnp.zeros_like(sent, shape=(1, *sent.shape[1:])), sent])

    def _backward(self, block: nnx.Dict, chain: Chain, units: Array) -> Array:
        """What layers get from those above: rows have norm one, columns do not."""
        value = self._values(block["backward"], chain, units[1:])
        sent = jnp.einsum("labji,liabc->ljc", chain.middle, value)
        number = jnp.sum(chain.live.astype(sent.dtype), 1)
        share = number[:-1] / jnp.maximum(number[1:], 1)
        sent = sent * jnp.sqrt(share)[:, None, None]
        return jnp.concatenate([sent, jnp.zeros_like(sent, shape=(1, *sent.shape[1:]))])

    def _values(self, weight: nnx.Param, chain: Chain, units: Array) -> Array:
        """What units send at every place of a window, `[L - 1, K, W, W, C]`."""
        window, most = chain.first.shape[0], self.sizes[0]
        full = weight[...].astype(units.dtype)
        full = full.reshape(full.shape[0], most, most, self.channels)
        own = _cropped(jnp.moveaxis(full, 0, 2), (window, window, full.shape[0]))
        return jnp.einsum("ljd,abdc->ljabc", units, own)


def _unit_sizes(chain: Chain) -> Float[Array, "L K 3"]:
    """Returns what has no sign of the size of units: biases, and norms of kernels.

    Logarithms of the norms of the kernels that write and read them, cut off below.
    """
    square = chain.middle**2
    into = jnp.concatenate(
        [jnp.sum(chain.first**2, (0, 1, 2))[None], jnp.sum(square, (1, 2, 3))]
    )
    out = jnp.sum(square, (1, 2, 4))
    out = jnp.concatenate([out, jnp.zeros_like(into[:1])])
    out = out + chain.ends[:, None] * jnp.sum(chain.last**2, (0, 1, 3))[None]
    logs = [jnp.log(jnp.maximum(x, 1e-12)) / 8 for x in (into, out)]
    rows = jnp.stack([jnp.abs(chain.bias), *logs], -1)
    return jnp.where(chain.live[..., None], rows, 0)


def _chosen(units: Signed, flips: Array) -> Array:
    """The features that a kernel carries: odd ones where its entries flip."""
    odd, even = jnp.where(flips, units.odd, 0), jnp.where(flips, 0, units.even)
    return jnp.concatenate([odd, even], -1)


def _along(skip: Array, weight: nnx.Param, units: Signed, signed: Array) -> Array:
    value = times(_chosen(units, signed), weight)
    return jnp.einsum("ij,jkc->ikc", skip, value)


def _cropped(table: Array, shape: tuple[int, ...]) -> Array:
    """The middle of a window, and the first of whatever comes after."""
    most, side, size = table.shape[0], shape[0], shape[2]
    start = most // 2 - side // 2
    return table[start : start + side, start : start + side, :size]
