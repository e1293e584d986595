"""Statistics of a chain in normal form, the same whatever it is padded to.

Invariant to permutations and signs: of entries that flip with a unit only sizes are
read, of others their mean as well. Per layer, then summed up for the network: means
over its layers, the first and the last layer, and the outputs. Nothing trained.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qejax._exact import exact
from qejax._finite import TINY, log, root
from qejax._typing import Array, Bool, Float
from qejax.spaces._chain import Chain, ChainForm

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class ChainStatistics(NamedTuple):
    """Statistics of one network.

    Attributes:
        layers: `[L, S]`, of each layer; zero where there is none.
        network: `[F]`, of all of it.
    """

    layers: Float[Array, "L S"]
    network: Float[Array, " F"]


@exact
def chain_statistics(form: ChainForm) -> ChainStatistics:
    """Returns the statistics of one chain in normal form.

    Of every layer: moments and quantiles of its kernel and biases, of what writes and
    reads its units, and path sums from the inputs up to it. Of the network: mean and
    deviation over layers, the first and the last layer, the outputs, path sums through
    all of it, the norm that was divided by, and the depth. The same whatever the chain
    is padded to; invariant to permutations and signs, so that with `chain_form` to the
    whole group. One network, no batch axis; float32 or float64, as the chain.

    Example:
        >>> import jax
        >>> from qejax import nets, spaces
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> theta = net.init(jax.random.key(0))
        >>> small, large = (nets.padded(net, theta, nets.PadSize(n, n + 2, 1, 4, 2))
        ...                 for n in (1, 5))
        >>> statistics = jax.jit(lambda c: chain_statistics(spaces.chain_form(c)))
        >>> one, other = (statistics(c).network for c in (small, large))
        >>> bool(jnp.allclose(one, other, atol=1e-5))
        True
    """
    chain = form.chain
    there = jnp.any(chain.live, 1)
    paths, through = _paths(chain)
    rows = [_kernels(chain), _biases(chain), _units(chain), paths]
    layers = jnp.where(there[:, None], jnp.concatenate(rows, 1), 0)
    count = chain.depth.astype(layers.dtype)
    over = jnp.sum(layers, 0) / count
    spread = jnp.sum(jnp.where(there[:, None], (layers - over[None]) ** 2, 0), 0)
    network = [over, jnp.sqrt(spread / count + TINY), layers[0], chain.ends @ layers]
    network += [
        _outputs(chain),
        through + form.log_norm,
        form.log_norm[None],
        count[None],
    ]
    return ChainStatistics(layers, jnp.concatenate(network))


def moments(
    x: Array,
    there: Bool[Array, " n"],
    plain: Bool[Array, " n"],
    square: Array,
    many: Any,
) -> Array:
    """Returns logarithms of sizes of entries, and where signs mean something, means.

    The root mean square; over it the mean of `|x|`, and for entries that flip with
    nothing the mean, and how many are above zero; then quantiles of root mean squares.

    Args:
        x: `[m, n]`, `m` entries of each of `n` pairs of units, zero where padded.
        there: which pairs there are; the others count nowhere.
        plain: which of them have signs that mean something.
        square: `[n]`, sums of squares over the entries.
        many: number of entries of a pair that are not padded.
    """
    many = jnp.maximum(jnp.asarray(many, x.dtype), 1)
    number = many * jnp.maximum(jnp.sum(there.astype(x.dtype)), 1)
    total = jnp.sum(jnp.where(there, square, 0)) / number
    scale = jnp.sqrt(jnp.where(total > 0, total, 1))
    sign = (there & plain).astype(x.dtype)
    few = many * jnp.maximum(jnp.sum(sign), 1)
    size = jnp.sum(jnp.abs(x), 0)
    above = jnp.sum((x > 0).astype(x.dtype), 0)
    rows = [
        0.5 * log(total, TINY**2),
        jnp.sum(jnp.where(there, size, 0)) / number / scale,
        sign @ jnp.sum(x, 0) / few / scale,
        sign @ above / few,
    ]
    each = root(square / many) / scale
    return jnp.concatenate([jnp.stack(rows), masked_quantiles(each, there, QUANTILES)])


def _of_kernel(
    kernel: Array,
    own: Array,
    reads: tuple[Array, Any],
    writes: tuple[Array, Array],
) -> Array:
    """Moments of a kernel `[W, W, n, m]`, of units that are live, and have signs."""
    x = kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)
    there = (reads[0][:, None] & writes[0][None]).reshape(-1)
    plain = ~(reads[1][:, None] | writes[1][None]).reshape(-1)
    return moments(x, there, plain, jnp.sum(x**2, 0), own[0] * own[1])


def masked_quantiles(
    x: Array, there: Bool[Array, " n"], levels: tuple[float, ...]
) -> Array:
    """Returns quantiles of the entries that there are, 0 where there is none.

    Linear between neighbours, as `jnp.quantile` of them alone.

    Example:
        >>> x, there = jnp.array([3.0, 9.0, 1.0]), jnp.array([True, False, True])
        >>> print(masked_quantiles(x, there, (0.0, 0.5, 1.0)))
        [1. 2. 3.]
    """
    most = jnp.asarray(jnp.finfo(x.dtype).max, x.dtype)
    ordered = jnp.sort(jnp.where(there, x, most))
    last = jnp.maximum(jnp.sum(there.astype(jnp.int32)) - 1, 0)
    place = jnp.asarray(levels, x.dtype) * last.astype(x.dtype)
    low = jnp.floor(place).astype(jnp.int32)
    high = jnp.minimum(low + 1, last)
    share = place - low.astype(x.dtype)
    found = ordered[low] * (1 - share) + ordered[high] * share
    return jnp.where(jnp.any(there), found, 0)


def _kernels(chain: Chain) -> Float[Array, "L S"]:
    inputs = chain.first.shape[2]
    given = jnp.arange(inputs) < chain.inputs
    first = _of_kernel(
        chain.first,
        chain.sides[0],
        (given, jnp.zeros(inputs, bool)),
        (chain.live[0], chain.signed[0]),
    )
    middle = jax.vmap(_of_kernel)(
        chain.middle,
        chain.sides[1:-1],
        (chain.live[:-1], chain.reads_odd[:-1]),
        (chain.live[1:], chain.signed[1:]),
    )
    return jnp.concatenate([first[None], middle])


def _of_vector(x: Array, there: Array, plain: Array) -> Array:
    return moments(x[None], there, plain, x**2, 1)


def _biases(chain: Chain) -> Float[Array, "L S"]:
    return jax.vmap(_of_vector)(chain.bias, chain.live, ~chain.signed)


def _units(chain: Chain) -> Float[Array, "L S"]:
    """Quantiles of the norms of what writes and of what reads a unit."""
    square = chain.middle**2
    into = jnp.sum(chain.first**2, (0, 1, 2))[None]
    into = jnp.concatenate([into, jnp.sum(square, (1, 2, 3))])
    out = jnp.concatenate([jnp.sum(square, (1, 2, 4)), jnp.zeros_like(into[:1])])
    end = jnp.sum(chain.last**2, (0, 1, 3))
    out = out + chain.ends[:, None] * end[None]

    def of_layer(x: Array, there: Array) -> Array:
        return masked_quantiles(0.5 * log(x, TINY**2), there, (0.0, 0.25, 0.5, 0.75, 1))

    each = jax.vmap(of_layer)
    return jnp.concatenate([each(into, chain.live), each(out, chain.live)], 1)


def _paths(chain: Chain) -> tuple[Float[Array, "L 2"], Float[Array, " 2"]]:
    """Path sums of absolute values and of squares, by layer, and of the outputs."""
    rows, ends = [], []
    for power in (1, 2):
        kernels = jnp.sum(jnp.abs(chain.middle) ** power, (1, 2))
        units = jnp.sum(jnp.abs(chain.first) ** power, (0, 1, 2))

        def step(
            carry: tuple[Array, Array], layer: Any
        ) -> tuple[tuple[Array, Array], None]:
            written, units = carry
            kernel, skip, live, number = layer
            # A skip from a wider layer ends where this one does.
            units = jnp.where(live, units @ kernel + skip @ written, 0)
            return (written.at[number].set(units), units), None

        written = jnp.zeros_like(chain.bias).at[0].set(units)
        numbers = jnp.arange(1, chain.bias.shape[0])
        layers = (kernels, chain.skip[1:], chain.live[1:], numbers)
        (written, _), _ = jax.lax.scan(step, (written, units), layers)
        number = jnp.maximum(jnp.sum(chain.live.astype(units.dtype), 1), 1)
        rows.append(log(jnp.sum(written, 1) / number, LEAST))
        last = jnp.sum(jnp.abs(chain.last) ** power, (0, 1))
        total = jnp.sum((chain.ends @ written) @ last)
        total = total / chain.outputs.astype(total.dtype)
        ends.append(log(total, LEAST) / power)
    return jnp.stack(rows, 1), jnp.stack(ends)


LEAST = 1e-30
"""Least path sum: what a network with decayed weights passes on is small."""


def _outputs(chain: Chain) -> Array:
    given = jnp.arange(chain.last.shape[3]) < chain.outputs
    end = chain.depth - 1
    live, odd = (jnp.take(x, end, axis=0) for x in (chain.live, chain.reads_odd))
    nobody = jnp.zeros_like(given)
    of_kernel = _of_kernel(chain.last, chain.sides[-1], (live, odd), (given, nobody))
    rows = jnp.sum(chain.last**2, (0, 1, 2))
    of_rows = masked_quantiles(0.5 * log(rows, TINY**2), given, (0.0, 0.5, 1.0))
    return jnp.concatenate(
        [of_kernel, of_rows, _of_vector(chain.last_bias, given, given)]
    )
