"""Networks with an array whose parts different units move, each with its own apply.

Queries, keys and values in one kernel; a kernel that reads a concatenation; layers that
`jax.lax.scan` runs over; the same with sines, whose biases have phases.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qejax import spaces
from qejax._typing import Array, Theta
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec, Wire, part_of


class CutRow(NamedTuple):
    """A network of cut arrays."""

    spec: WeightSpec
    apply: Callable[[Theta, Array], Array]
    inputs: tuple[int, ...]


HEADS, WIDTH, EMBED, OUT = 2, 3, 5, 4


def _fused_spec(use_bias: bool) -> WeightSpec:
    """Attention with the leaves of queries, keys and values cut out of one kernel."""
    size = HEADS, WIDTH
    whole = spaces.attention("", Wire(EMBED), Wire(OUT), *size, use_bias=use_bias)
    whole = whole.spec()
    span = HEADS * WIDTH
    leaves, names = [], {}
    for leaf in whole.leaves:
        layer, kind = leaf.path.split("/")
        if layer != "out":
            start = ("query", "key", "value").index(layer) * span
            lead = (EMBED,) if kind == "kernel" else ()
            names[leaf.path] = part_of(
                f"qkv/{kind}",
                (*lead, 3 * span),
                (*(0 for _ in lead), start),
                (*lead, start + span),
                leaf.axes,
            )
        leaves.append(names.get(leaf.path, replace(leaf, shape=_flat(leaf))))
    shifts = tuple(replace(s, leaf=names[s.leaf].path) for s in whole.shifts)
    return WeightSpec(whole.spaces, tuple(leaves), shifts)


def _flat(leaf: Leaf) -> tuple[int, ...] | None:
    return (HEADS * WIDTH, OUT) if leaf.path == "out/kernel" else None


def _fused(theta: Theta, x: Array) -> Array:
    """`[N, T, E]` to `[N, T, O]`."""
    qkv = _layer(theta["qkv"], x)
    heads = qkv.reshape(*qkv.shape[:-1], 3, HEADS, WIDTH)
    q, k, v = (heads[..., n, :, :] for n in range(3))
    scores = jnp.einsum("nthd,nshd->nhts", q, k) / np.sqrt(WIDTH)
    mixed = jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(scores), v)
    mixed = mixed.reshape(*mixed.shape[:-2], HEADS * WIDTH)
    return _layer(theta["out"], mixed)


def _layer(weights: Theta, x: Array) -> Array:
    y = x @ weights["kernel"]
    return _add(y, weights["bias"]) if "bias" in weights else y


def _add(x: Array, bias: Array) -> Array:
    return x + jnp.broadcast_to(bias, x.shape)


def _dense_net_spec() -> WeightSpec:
    """The third layer reads the first two, side by side."""
    sizes = {"first": 4, "second": 3, "third": 5}
    first, second, third = (Wire(n, name) for name, n in sizes.items())
    kernels = [
        part_of("mix/kernel", (7, 5), (start, 0), (start + wire.size, 5), axes)
        for start, wire in ((0, first), (4, second))
        for axes in [(*wire.reads(), third.write())]
    ]
    return WeightSpec(
        tuple(UnitSpace(name, n, "positive_scale") for name, n in sizes.items()),
        (
            *spaces.dense("a", Wire(2), first),
            *spaces.dense("b", first, second),
            *kernels,
            spaces.bias("mix", third),
            *spaces.dense("out", third, Wire(3)),
        ),
    )


def _dense_net(theta: Theta, x: Array) -> Array:
    first = jax.nn.relu(_layer(theta["a"], x))
    second = jax.nn.relu(_layer(theta["b"], first))
    third = jax.nn.relu(_layer(theta["mix"], jnp.concatenate([first, second], -1)))
    return _layer(theta["out"], third)


LAYERS, STREAM, HIDDEN, RATE = 3, 4, 3, 2.0


def _stacked_spec(group: str, turn: float = 0.0) -> WeightSpec:
    """Residual layers stacked for a scan, hidden units of every layer on their own."""
    leaves = list(spaces.dense("embed", Wire(2), Wire(STREAM)))
    units = []
    for number in range(LAYERS):
        name = f"hidden_{number}"
        units.append(UnitSpace(name, HIDDEN, group))
        write, read = Axis(HIDDEN, name, 1), Axis(HIDDEN, name, -1)
        rows = {
            "up": (Axis(STREAM), write),
            "bias": (replace(write, turn=turn),),
            "down": (read, Axis(STREAM)),
        }
        for path, axes in rows.items():
            sides = tuple(axis.size for axis in axes)
            rest = tuple(0 for _ in sides)
            shape = (LAYERS, *sides)
            stops = (number + 1, *sides)
            leaves.append(part_of(path, shape, (number, *rest), stops, axes))
    leaves += spaces.dense("out", Wire(STREAM), Wire(3))
    return WeightSpec(tuple(units), tuple(leaves))


def _stacked(activation: Callable[[Array], Array], theta: Theta, x: Array) -> Array:
    def body(x: Array, layer: Theta) -> tuple[Array, None]:
        hidden = activation(_add(x @ layer["up"], layer["bias"]))
        return x + hidden @ layer["down"], None

    x = _layer(theta["embed"], x)
    x, _ = jax.lax.scan(body, x, {name: theta[name] for name in ("up", "bias", "down")})
    return _layer(theta["out"], x)


def _sine(x: Array) -> Array:
    return jnp.sin(RATE * x)


CUT: dict[str, CutRow] = {
    "fused attention": CutRow(_fused_spec(True), _fused, (3, EMBED)),
    # Nothing to settle: heads are read from the parts of the kernel.
    "fused attention, no biases": CutRow(_fused_spec(False), _fused, (3, EMBED)),
    "concatenation": CutRow(_dense_net_spec(), _dense_net, (2,)),
    "stacked layers": CutRow(
        _stacked_spec("positive_scale"), functools.partial(_stacked, jax.nn.relu), (2,)
    ),
    "stacked sines": CutRow(
        _stacked_spec("dihedral", np.pi / RATE),
        functools.partial(_stacked, _sine),
        (2,),
    ),
}
"""By name; every one has leaves that are parts of arrays."""


def cut_theta(spec: WeightSpec, seed: int, dtype: Any = jnp.float64) -> Theta:
    """Random weights, those of a vector positive, so that few units are dead."""
    draw = np.random.default_rng(seed)

    def one(shape: jax.ShapeDtypeStruct) -> Array:
        low = draw.uniform(0.1, 0.6, shape.shape)
        wide = draw.normal(size=shape.shape) / np.sqrt(shape.shape[-2:][0])
        return jnp.asarray(low if len(shape.shape) == 1 else wide, dtype)

    return jax.tree.map(one, spec.template(dtype))


def cut_inputs(row: CutRow, seed: int = 0, number: int = 8) -> Array:
    """Random inputs `[number, *row.inputs]`."""
    draw = np.random.default_rng(100 + seed)
    return jnp.asarray(draw.normal(size=(number, *row.inputs)))
