"""A chain of layers padded to a fixed shape, its architecture and symmetry as data.

A `WeightSpec` is static: one compiled program each. Where nearly every network has an
architecture of its own, the same facts are arrays here, so that one program serves all
networks that fit a shape. Layer `l` reads the units of layer `l - 1` through kernels
`[W, W, n_in, n_out]` and may add the units of an earlier layer, channel by channel.

Padding is zeros: windows are centred, units come first. A unit of a skip has the scale
of the first layer that it is tied to, its `root`; ties never change the channel.

`chain_form` is the normal form of `canonical_form` under scales, with masks. Signs are
left as they are: what reads a chain should not see them.

Source: our own.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qejax._typing import Array, Bool, Float, Int
from qejax.spaces import _scaled
from qejax.spaces._scaled import Scaled


class Chain(NamedTuple):
    """The weights of one network, padded; `L` hidden layers, `K` units each, at most.

    Attributes:
        first: `[W, W, I, K]`, the kernel that reads the inputs.
        middle: `[L - 1, W, W, K, K]`; kernel `l` reads layer `l` and writes `l + 1`.
        last: `[H, H, K, O]`, what the outputs read of the last layer that is live.
        bias: `[L, K]`.
        last_bias: `[O]`.
        live: `[L, K]`, the units that there are.
        root: `[L, K]`, the first layer that a unit is tied to; its own without a tie.
        scaled: `[L, K]`, units with positive scales.
        signed: `[L, K]`, units with signs.
        degree: `[L]`, of the activations: readers move with the power `-degree`.
        turn: `[L]`, what a half period adds to biases of units that turn, 0 for none.
        skip: `[L, L]`, 1 where layer `i` adds layer `j`.
        sides: `[L + 1, 2]`, sides of the windows, those of the last kernel at the end.
        inputs: number of inputs (channels).
        outputs: number of outputs.
        facts: `[L, F]`, what else there is to say of a layer.
    """

    first: Float[Array, "W W I K"]
    middle: Float[Array, "M W W K K"]
    last: Float[Array, "H H K O"]
    bias: Float[Array, "L K"]
    last_bias: Float[Array, " O"]
    live: Bool[Array, "L K"]
    root: Int[Array, "L K"]
    scaled: Bool[Array, "L K"]
    signed: Bool[Array, "L K"]
    degree: Int[Array, " L"]
    turn: Float[Array, " L"]
    skip: Float[Array, "L L"]
    sides: Int[Array, "L+1 2"]
    inputs: Int[Array, ""]
    outputs: Int[Array, ""]
    facts: Float[Array, "L F"]

    @property
    def depth(self) -> Int[Array, ""]:
        """Number of hidden layers."""
        return jnp.sum(jnp.any(self.live, 1), dtype=jnp.int32)

    @property
    def ends(self) -> Float[Array, " L"]:
        """1 at the last layer that is live, 0 elsewhere."""
        at = jnp.arange(self.live.shape[0], dtype=jnp.int32) == self.depth - 1
        return at.astype(self.bias.dtype)

    @property
    def reads_odd(self) -> Bool[Array, "L K"]:
        """Units whose readers flip with them."""
        return self.signed & (self.degree % 2 == 1)[:, None]


class ChainForm(NamedTuple):
    """The normal form of a chain.

    Attributes:
        chain: with incoming weights of live, positively scaled units of norm one where
            their root writes them, and a last kernel of norm one.
        log_norm: natural logarithm of the norm that the last kernel had.
    """

    chain: Chain
    log_norm: Float[Array, ""]


class _Sizes(NamedTuple):
    """`[L, K]` each, at the roots; sizes by which units are divided."""

    size: Scaled
    known: Array


def chain_form(chain: Chain) -> ChainForm:
    """Returns the normal form of one chain under scales, phases in half a period.

    Invariant to scales; signs and the order of units are as they came, and padding
    stays zero. As `canonical_form`, with a sum over the last kernel: a dead unit, which
    nothing writes, is sized by what reads it and left out of the norms of later units.
    One network, no batch axis (batch with `jax.vmap`); differentiable, finite for
    finite weights.

    Example:
        >>> from qejax import nets
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> theta = net.init(jax.random.key(0))
        >>> form = chain_form(nets.padded(net, theta))
        >>> square = jnp.sum(form.chain.first**2, (0, 1, 2)) + form.chain.bias[0] ** 2
        >>> [round(float(s), 5) for s in square]
        [1.0, 1.0, 1.0]
    """
    bias, flips = _unturned(chain)
    pairs = _Pairs(
        _lifted(chain.first, (0, 1)),
        _lifted(chain.middle, (1, 2)),
        _lifted(chain.last, (0, 1)),
    )
    sizes = _backward(chain, pairs, _forward(chain, pairs, bias))
    size = _at_layers(sizes.size, chain.root)
    inverse = _power(size, jnp.full_like(chain.degree, -1)[:, None])
    read = _power(size, chain.degree[:, None])
    end = chain.depth - 1
    at_end = Scaled(*(_column(x[end]) for x in read))
    total = _scaled.mul(pairs.last.norm, at_end)
    total = _scaled.norm(_scaled.reshape(total, (-1,)), axis=0)
    one = Scaled(jnp.ones_like(total.mantissa), jnp.zeros_like(total.exponent))
    total = _scaled.where(total.mantissa > 0, total, one)
    # Signs belong to what reads units; they do not touch a norm.
    read = Scaled(read.mantissa * flips, read.exponent)
    at_end = Scaled(*(_column(x[end]) for x in read))
    below = Scaled(*(_column(x[:-1]) for x in read))
    above = Scaled(*(x[1:, None] for x in inverse))
    first = Scaled(*(x[:1] for x in inverse))
    normal = chain._replace(
        first=_lowered(pairs.first, first),
        middle=_lowered(pairs.middle, below, above),
        last=_lowered(pairs.last, at_end, _scaled.power(total, -1)),
        bias=_scaled.join(_scaled.mul(_scaled.split(bias), inverse)),
    )
    return ChainForm(normal, _scaled.log(total))


class _Lifted(NamedTuple):
    """A kernel as `unit * 2 ** exponent`, one exponent for a pair of units.

    Attributes:
        unit: as the kernel, the largest entry of each pair about one.
        norm: `[..., n_in, n_out]`, of the window of each pair.
        exponent: `[..., n_in, n_out]`.
        axes: of the window.
    """

    unit: Array
    norm: Scaled
    exponent: Array
    axes: tuple[int, int]


class _Pairs(NamedTuple):
    first: _Lifted
    middle: _Lifted
    last: _Lifted


def _lifted(kernel: Array, axes: tuple[int, int]) -> _Lifted:
    """Brings a kernel to unit size, so that nothing after it leaves the range."""
    top = jnp.max(jnp.abs(jax.lax.stop_gradient(kernel)), axes, keepdims=True)
    exponent = jnp.frexp(top)[1].astype(jnp.int32)
    unit = _scaled.times_power(kernel, -exponent)
    square = jnp.sum(unit**2, axes)
    live = square > 0
    norm = _scaled.split(jnp.where(live, jnp.sqrt(jnp.where(live, square, 1)), 0))
    exponent = exponent.squeeze(axes)
    return _Lifted(
        unit, Scaled(norm.mantissa, norm.exponent + exponent), exponent, axes
    )


def _lowered(kernel: _Lifted, *factors: Scaled) -> Array:
    """The kernel times factors that broadcast to its pairs of units."""
    mantissa, exponent = jnp.ones_like(kernel.unit, shape=()), kernel.exponent
    for factor in factors:
        mantissa, exponent = mantissa * factor.mantissa, exponent + factor.exponent
    # Beyond lie zeros and infinities only, and a zero times one is not a number.
    most = 2 * jnp.finfo(kernel.unit.dtype).maxexp - 4
    exponent = jnp.expand_dims(jnp.clip(exponent, -most, most), kernel.axes)
    if mantissa.ndim:
        mantissa = jnp.expand_dims(mantissa, kernel.axes)
    return _scaled.times_power(kernel.unit * mantissa, exponent)


def _unturned(chain: Chain) -> tuple[Array, Array]:
    """Biases of sines in half a period around zero, and the signs of their readers."""
    turns = chain.turn > 0
    step = jnp.where(turns, chain.turn, 1)[:, None]
    taken = jnp.where(turns[:, None], jnp.round(chain.bias / step), 0)
    taken = jax.lax.stop_gradient(taken)
    return chain.bias - step * taken, 1 - 2 * jnp.mod(taken, 2)


def _forward(chain: Chain, pairs: _Pairs, bias: Array) -> _Sizes:
    """Sizes by what writes units, layer after layer."""
    depth, width = chain.live.shape
    sizes = _Sizes(
        Scaled(jnp.ones_like(bias), jnp.zeros((depth, width), jnp.int32)),
        ~chain.scaled,
    )

    def written(kernel: Scaled, bias: Array) -> Scaled:
        return _scaled.norm(_joined(kernel, _scaled.split(bias[None])), axis=0)

    found = written(pairs.first.norm, bias[0])
    sizes = _settled(sizes, found, chain.root[0])

    def step(sizes: _Sizes, layer: Any) -> tuple[_Sizes, None]:
        kernel, bias, (before, own), degree = layer
        read = _open_as_zero(
            _power(_at_layer(sizes.size, before), degree), sizes, before
        )
        kernel = _scaled.mul(kernel, Scaled(*map(_column, read)))
        return _settled(sizes, written(kernel, bias), own), None

    layers = (
        pairs.middle.norm,
        bias[1:],
        (chain.root[:-1], chain.root[1:]),
        chain.degree[:-1],
    )
    return jax.lax.scan(step, sizes, layers)[0]


def _backward(chain: Chain, pairs: _Pairs, sizes: _Sizes) -> _Sizes:
    """Sizes of units that nothing writes, by what reads them, last layers first."""
    end = chain.depth - 1
    found = _read_size(_scaled.norm(pairs.last.norm, axis=1), chain.degree[end])
    sizes = _settled(sizes, found, chain.root[end])

    def step(sizes: _Sizes, layer: Any) -> tuple[_Sizes, None]:
        kernel, (own, behind), degree = layer
        write = _power(_at_layer(sizes.size, behind), jnp.full_like(degree, -1))
        write = _open_as_zero(write, sizes, behind)
        kernel = _scaled.mul(kernel, Scaled(*(x[None] for x in write)))
        found = _read_size(_scaled.norm(kernel, axis=1), degree)
        return _settled(sizes, found, own), None

    layers = (
        pairs.middle.norm,
        (chain.root[:-1], chain.root[1:]),
        chain.degree[:-1],
    )
    return jax.lax.scan(step, sizes, layers, reverse=True)[0]


def _open_as_zero(x: Scaled, sizes: _Sizes, root: Array) -> Scaled:
    """The row `[K]` of one layer, zero at units without a size so far."""
    known = _at_layer(sizes.known, root)
    return Scaled(jnp.where(known, x.mantissa, 0), x.exponent)


def _read_size(norm: Scaled, degree: Array) -> Scaled:
    """The size of units whose readers have this norm; zero where it is zero."""
    live = norm.mantissa > 0
    one = Scaled(jnp.ones_like(norm.mantissa), jnp.zeros_like(norm.exponent))
    safe = _scaled.where(live, norm, one)
    whole = safe.exponent // degree
    rest = _scaled.join(Scaled(safe.mantissa, safe.exponent - degree * whole))
    root = rest ** (1 / degree.astype(rest.dtype))
    size = _scaled.power(Scaled(root, whole), -1)
    return Scaled(jnp.where(live, size.mantissa, 0), size.exponent)


def _settled(sizes: _Sizes, found: Scaled, root: Array) -> _Sizes:
    """Sets sizes that are open, of units with the roots `[K]`."""
    at = jnp.arange(sizes.known.shape[0], dtype=jnp.int32)[:, None] == root[None]
    decided = at & (found.mantissa > 0)[None] & ~sizes.known
    row = Scaled(found.mantissa[None], found.exponent[None])
    return _Sizes(_scaled.where(decided, row, sizes.size), sizes.known | decided)


def _at_layer(x: Any, root: Array) -> Any:
    """Entries `[K]` of `[L, K]` at the roots of one layer."""
    return jax.tree.map(lambda leaf: _at_layers(leaf, root[None])[0], x)


def _at_layers(x: Any, root: Array) -> Any:
    """Entries `[n, K]` of `[L, K]` at the roots `[n, K]`."""
    return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, root, axis=0), x)


def _power(x: Scaled, k: Array) -> Scaled:
    """`x ** k` for positive `x` and integers `k`, broadcast."""
    raised = _scaled.split(x.mantissa ** k.astype(x.mantissa.dtype))
    return Scaled(raised.mantissa, raised.exponent + k * x.exponent)


def _column(x: Array) -> Array:
    return x[..., None]


def _joined(x: Scaled, y: Scaled) -> Scaled:
    return Scaled(*(jnp.concatenate(pair) for pair in zip(x, y, strict=True)))
