"""Statistics of all paths from the inputs to the outputs of one network.

With its activations taken out, a network is one linear map: every entry sums the
products of the weights along all paths from an input to an output. Taken over the
weights of the normal form, over their absolute values and over their squares, it says
how much of the input reaches the output, from where, at which frequencies, and how
much cancels. No input is run through the network; the result is a function of the
weights alone, invariant to the whole group.

Source: path sums as in Neyshabur et al. 2015, arXiv:1503.00036 (path norms); the
composed filters and their spectra are our own choice.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qejax._finite import log, root
from qejax._typing import Array, Float, Theta
from qejax.models._statistics import LEAST, norm, spectrum, summary
from qejax.nets import Network
from qejax.spaces import canonical_form, log_norms

BANDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.8)
"""Edges of the spatial frequency bands, cycles a pixel."""

LOW = 0.15
"""A unit's filter is smooth as far as its power lies below this frequency."""


class Paths(NamedTuple):
    """Path sums of one network.

    Attributes:
        units: by unit space, `[n_s, *input]`: from the inputs to one position of each
            unit; of images, the part of them that reaches it.
        outputs: `[n_L, *input]`.
        bias: `[n_L]`, from all biases but the last.
        through: `[n_s, n_L]`, from all inputs through each unit of the space that the
            outputs read; no rows in a network without hidden units.
    """

    units: dict[str, Array]
    outputs: Array
    bias: Array
    through: Array


def path_sums(
    network: Network,
    theta: Theta,
    shape: tuple[int, ...],
    transform: Callable[[Array], Array] = lambda x: x,
) -> Paths:
    """Returns the sums over all paths of products of transformed weights.

    Args:
        network: the architecture; its activations are left out.
        theta: weights of one network.
        shape: of one input.
        transform: of every weight: identity, `jnp.abs` or `jnp.square`.
    """
    zero = jnp.zeros((1, *shape), jax.tree.leaves(theta)[0].dtype)

    def linear(x: Array, use_bias: bool) -> tuple[Array, dict[str, Array]]:
        units: dict[str, Array] = {}
        for layer in network.layers:
            weights = theta[layer.name]
            x = layer.linear(x, transform(weights["kernel"]))
            if layer.space is None:
                continue
            if use_bias:
                bias = transform(weights["bias"])
                x = x + bias.reshape([1] * (x.ndim - 1) + [-1])
            if layer.pool is not None:
                x = layer.pool.mean(x)
            if layer.space in units:
                x = x + units[layer.space]
            units[layer.space] = x
        return x[0], {name: _middle(u[0]) for name, u in units.items()}

    _, pull = jax.vjp(lambda x: linear(x, use_bias=False), zero)
    outputs, units = jax.eval_shape(lambda x: linear(x, use_bias=False), zero)
    silent = jax.tree.map(lambda u: jnp.zeros(u.shape, u.dtype), (outputs, units))

    def filters(name: str | None) -> Array:
        size = (outputs if name is None else units[name]).shape[0]

        def one(row: Array) -> Array:
            quiet, others = silent
            if name is None:
                return pull((row, others))[0][0]
            return pull((quiet, {**others, name: row}))[0][0]

        return jax.vmap(one)(jnp.eye(size, dtype=zero.dtype))

    found = _cropped(network, {name: filters(name) for name in units})
    return Paths(
        found,
        filters(None),
        linear(zero, use_bias=True)[0],
        _through(network, theta, found, transform),
    )


def all_path_sums(
    network: Network, theta: Theta, shape: tuple[int, ...]
) -> tuple[Paths, Paths, Paths]:
    """Returns signed, absolute and squared path sums; one program for all three."""
    kinds = jax.tree.map(lambda w: jnp.stack([w, jnp.abs(w), w * w]), theta)
    sums = jax.vmap(lambda one: path_sums(network, one, shape))(kinds)
    signed, absolute, squared = (
        jax.tree.map(lambda x, kind=kind: x[kind], sums) for kind in range(3)
    )
    return signed, absolute, squared


def path_statistics(
    network: Network, theta: Theta, shape: tuple[int, ...]
) -> Float[Array, " F"]:
    """Returns statistics of signed, absolute and squared path sums.

    Invariant to the whole group of the network's spec, and to the order of outputs.

    Args:
        network: the architecture.
        theta: weights of one network.
        shape: of one input. For a convolutional network that averages over positions
            its receptive field is enough (`receptive_field`).
    """
    normal = canonical_form(network.spec, theta)
    scale = jnp.sum(log_norms(normal))
    signed, absolute, squared = all_path_sums(network, normal.theta, shape)
    return summarise_paths(signed, absolute, squared, scale)


def summarise_paths(
    signed: Paths, absolute: Paths, squared: Paths, scale: Array
) -> Float[Array, " F"]:
    """Returns the statistics of path sums.

    Args:
        signed: of the weights.
        absolute: of their absolute values.
        squared: of their squares.
        scale: logarithm of the norms that the normal form was divided by.
    """
    parts = [
        *_signed(signed, scale),
        _both_positive(absolute, squared, scale),
        *_cancelled(signed, absolute),
    ]
    return jnp.concatenate([jnp.atleast_1d(part) for part in parts])


def receptive_field(network: Network, default: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the smallest input shape that covers one position of the last map.

    Args:
        network: the architecture.
        default: shape of one input, returned where it is smaller or where the network
            is no convolutional network with a head that averages.
    """
    config = network.config
    if getattr(config, "head", None) != "gap" or len(default) != 3:
        return default
    fields = _fields(network)
    height, width = (
        min(max(field[axis] for field, _ in fields.values()), default[axis])
        for axis in range(2)
    )
    return (height, width, default[2])


def _fields(network: Network) -> dict[str, tuple[list[int], list[int]]]:
    """Sides of the receptive field of a unit, and its stride, by unit space."""
    fields: dict[str, tuple[list[int], list[int]]] = {}
    sides, jump = [1, 1], [1, 1]
    for layer in network.layers:
        kernel = layer.leaves[0]
        if len(kernel.axes) != 4 or layer.space is None:
            continue
        strides = getattr(layer.linear, "keywords", {}).get("strides", (1, 1))
        sides = [
            side + (kernel.axes[axis].size - 1) * jump[axis]
            for axis, side in enumerate(sides)
        ]
        jump = [step * stride for step, stride in zip(jump, strides, strict=True)]
        if layer.pool is not None:
            beyond = layer.pool.side - 1
            sides = [s + beyond * step for s, step in zip(sides, jump, strict=True)]
            jump = [layer.pool.side * step for step in jump]
        fields[layer.space] = (sides, jump)
    return fields


def _cropped(network: Network, units: dict[str, Array]) -> dict[str, Array]:
    """Filters of units on their receptive fields, where no padding moves those."""
    padding = getattr(network.config, "padding", ())
    blocks = getattr(network.config, "blocks", 0)
    if any(way != "VALID" for way in padding) or np.any(blocks):
        return units
    cropped = dict(units)
    for name, (sides, jump) in _fields(network).items():
        x = units[name]
        for axis in range(2):
            length = x.shape[1 + axis]
            places = (length - sides[axis]) // jump[axis] + 1
            start = places // 2 * jump[axis]
            x = jax.lax.slice_in_dim(x, start, start + sides[axis], axis=1 + axis)
        cropped[name] = x
    return cropped


def _through(
    network: Network,
    theta: Theta,
    units: dict[str, Array],
    transform: Callable[[Array], Array],
) -> Array:
    """Totals of the last units times what the outputs read of them, `[n_s, n_L]`."""
    last = network.layers[-1]
    leaf = last.leaves[0]
    kernel = transform(theta[last.name]["kernel"]).reshape(leaf.view)
    if not leaf.moved():
        return jnp.zeros((0, leaf.view[-1]), kernel.dtype)
    (axis,) = leaf.moved()
    others = tuple(p for p in range(len(leaf.axes) - 1) if p != axis)
    read = jnp.sum(kernel, others)
    total = units[str(leaf.axes[axis].space)].reshape(read.shape[0], -1).sum(1)
    return total[:, None] * read


def _middle(x: Array) -> Array:
    """Returns `[n_s]`, the units at the position in the middle of their map."""
    for size in x.shape[:-1]:
        x = x[size // 2]
    return x


def _signed(paths: Paths, scale: Array) -> list[Array]:
    outputs = paths.outputs - paths.outputs.mean(0, keepdims=True)
    rows = outputs.reshape(outputs.shape[0], -1)
    classes = rows.shape[0]
    values, _, effective = spectrum(rows, max(classes - 1, 1))
    constant = rows.sum(1)
    total = (rows**2).sum()
    bias = paths.bias - paths.bias.mean()
    parts = [
        values + scale,
        effective,
        jnp.sort(log(norm(rows, 1))) + scale,
        jnp.sort(log(jnp.abs(constant))),
        log((constant**2).sum()) - log(total),
        log(root(bias.var())) + scale,
    ]
    if _is_spatial(outputs):
        power, bands = _power(outputs)
        parts += [
            log((power * band).sum() / jnp.maximum(power.sum(), LEAST))
            for band in bands
        ]
        for units in paths.units.values():
            power, _ = _power(units)
            low = (power * _band(units, 0, LOW)).sum((1, 2, 3))
            share = low / jnp.maximum(power.sum((1, 2, 3)), LEAST)
            parts.append(summary(share))
    return parts


def _both_positive(absolute: Paths, squared: Paths, scale: Array) -> Array:
    both = jax.tree.map(lambda *x: jnp.stack(x), absolute, squared)
    rows = jax.vmap(
        lambda paths, scale: jnp.concatenate(
            [jnp.atleast_1d(part) for part in _positive(paths, scale)]
        )
    )(both, jnp.stack([scale, 2 * scale]))
    return rows.reshape(-1)


def _positive(paths: Paths, scale: Array) -> list[Array]:
    total = paths.outputs.reshape(paths.outputs.shape[0], -1).sum(1)
    parts = [
        jnp.sort(log(total)) + scale,
        root(log(total).var()),
        jnp.sort(log(paths.bias))[_spaced(paths.bias.shape[0], 3)] + scale,
        log(paths.bias.sum()) - log(total.sum()),
    ]
    parts += [
        summary(log(units.reshape(units.shape[0], -1).sum(1)))
        for units in list(paths.units.values())[1:]
    ]
    if paths.through.shape[0]:
        rows = jnp.sort(paths.through, 0).sum(1)
        parts.append(log(rows)[_spaced(rows.shape[0], 4)])
    if _is_spatial(paths.outputs):
        where = paths.outputs.sum((0, 3))
        where = where / jnp.maximum(where.sum(), LEAST)
        for axis in range(2):
            position = np.arange(where.shape[axis]) - (where.shape[axis] - 1) / 2
            parts.append(
                (where.sum(1 - axis) * jnp.asarray(position**2, where.dtype)).sum()
            )
    return parts


def _cancelled(signed: Paths, absolute: Paths) -> list[Array]:
    centred = signed.outputs - signed.outputs.mean(0, keepdims=True)
    kept = jnp.abs(centred).reshape(centred.shape[0], -1).sum(1)
    total = absolute.outputs.reshape(centred.shape[0], -1).sum(1)
    parts = [
        log(kept.sum() / jnp.maximum(total.sum(), LEAST)),
        jnp.sort(log(kept / jnp.maximum(total, LEAST))),
    ]
    # To the units of the first space there is one path per input: nothing cancels.
    for name, units in list(signed.units.items())[1:]:
        size = units.shape[0]
        kept = jnp.abs(units).reshape(size, -1).sum(1)
        total = absolute.units[name].reshape(size, -1).sum(1)
        parts.append(summary(log(kept / jnp.maximum(total, LEAST))))
    return parts


def _spaced(size: int, number: int) -> np.ndarray:
    """Returns `number` evenly spaced positions, ends included."""
    return np.linspace(0, size - 1, number).round().astype(int)


def _is_spatial(x: Array) -> bool:
    return x.ndim == 4 and min(x.shape[1:3]) > 1


def _power(x: Float[Array, "n H W C"]) -> tuple[Array, list[Array]]:
    """Returns half the power spectrum of each filter, and a mask per band."""
    power = jnp.abs(jnp.fft.rfft2(x, axes=(1, 2))) ** 2
    return power, [_band(x, low, high) for low, high in itertools.pairwise(BANDS)]


def _band(x: Float[Array, "n H W C"], low: float, high: float) -> Array:
    """Returns the mask `[1, H, W, 1]` of the frequencies in `[low, high)`."""
    rows, columns = np.fft.fftfreq(x.shape[1]), np.fft.rfftfreq(x.shape[2])
    radius = np.hypot(rows[:, None], columns[None, :])[None, :, :, None]
    return jnp.asarray((low <= radius) & (radius < high), x.dtype)
