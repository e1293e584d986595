"""Builders of attention, norms, gated layers and low-rank adapters.

Leaves are named and shaped as Flax does, in Linen and in NNX: `query/kernel [E, H, d]`,
`query/bias [H, d]`, the same for `key` and `value`, `out/kernel [H, d, E]`, `out/bias`;
`scale` and `bias` of a norm. What a head computes allows any invertible change of its
queries and keys together, and of its values and what reads them.

Sources: Tran et al. 2024, arXiv:2410.04209 (heads); Ainslie et al. 2023,
arXiv:2305.13245 (grouped queries); Hu et al. 2021, arXiv:2106.09685 (low rank). The
shifts of biases and the scales of norms are our own.
"""

import math
import string
from collections.abc import Sequence
from dataclasses import replace

from qejax.spaces._build import Part, Wire, bias, stored_as
from qejax.spaces._leaf import Axis, Leaf
from qejax.spaces._spec import Route, Shift, UnitSpace


def space_of(path: str, name: str) -> str:
    """Returns the name of a unit space of the piece at `path`; no `/` in it."""
    return f"{path}/{name}".strip("/").replace("/", ".")


def norm(
    path: str, source: Wire, *, use_bias: bool = True, read_only: bool = True
) -> tuple[Part, Wire]:
    """Returns a norm with a learned scale, and the wire behind it.

    Args:
        path: prefix of the leaf paths.
        source: the stream that it reads; it permutes, or never moves.
        use_bias: whether it has a bias.
        read_only: whether all that follows is linear readers, so that the scale of
            every coordinate is free: its sign and size can be moved into them. Not so
            where the result is added to something.

    Returns:
        The part and the wire. A stream that never moves keeps its scale: nothing is
        claimed there.
    """
    out, spaces = source, ()
    lead: tuple[Axis, ...] = (source.write(),)
    if read_only and source.space is not None:
        name = space_of(path, "scale")
        spaces = (UnitSpace(name, 1, "absorbed", source.space),)
        lead, out = (*lead, Axis(1, name, 1)), replace(source, scale=name)
    names = ("scale", "bias") if use_bias else ("scale",)
    leaves = tuple(stored_as(f"{path}/{name}", lead, (source.size,)) for name in names)
    return Part(spaces, leaves), out


def route(
    shifted: Leaf,
    kernel: Leaf,
    into: Leaf,
    contracted: Sequence[int],
    summed: Sequence[int] = (),
) -> Route:
    """Returns the route of a shift through a kernel.

    Args:
        shifted: the leaf that is shifted.
        kernel: what reads it.
        into: the bias behind the kernel.
        contracted: axes of the kernel's view, one for each axis of `shifted`.
        summed: further axes that are summed over (queries that share a value).
    """
    letters = string.ascii_letters[: len(kernel.axes)]
    left = "".join(letters[p] for p in contracted)
    gone = {*contracted, *summed}
    right = "".join(letter for p, letter in enumerate(letters) if p not in gone)
    assert (len(left), len(right)) == (len(shifted.axes), len(into.axes))
    return Route(kernel.path, into.path, f"{left},{letters}->{right}")


def shift_through(
    name: str,
    leaves: dict[str, Leaf],
    path: str,
    readers: Sequence[str],
    along: tuple[int, ...] = (),
) -> Shift:
    """Returns the shift of a bias whose readers are all linear maps with biases.

    Args:
        name: of the shift.
        leaves: by path.
        path: of the bias that is shifted.
        readers: prefixes of the layers that read it and nothing else does; their
            kernels' first axes are those of the bias.
        along: axes of the bias along which the shift is constant.
    """
    shifted = Shift(name, path, along=along).moves(leaves[path])
    width = range(len(shifted.axes))
    routes = tuple(
        route(shifted, leaves[f"{r}/kernel"], leaves[f"{r}/bias"], tuple(width))
        for r in readers
    )
    return Shift(name, path, routes, along)


def attention(
    path: str,
    source: Wire,
    out: Wire,
    heads: int,
    head_dim: int,
    *,
    kv_heads: int | None = None,
    use_bias: bool = True,
    use_out_bias: bool | None = None,
    qk: str | None = "general_linear",
) -> Part:
    """Returns multi-head or grouped-query attention.

    Args:
        path: prefix of the leaf paths; may be empty.
        source: what queries, keys and values read.
        out: what it writes.
        heads: number of query heads, `H`.
        head_dim: width of a head, `d`.
        kv_heads: number of key and value heads, `G`; `H` by default. Every group of
            `H / G` queries shares one, and permutes within itself.
        use_bias: whether queries, keys and values have biases.
        use_out_bias: whether the output has one; as `use_bias` by default.
        qk: group of queries and keys per head: "rotary" with rotary embedding, `None`
            if something nonlinear stands between (a norm of the queries).

    Returns:
        The part. Key biases are free where `qk` is general linear, value biases where
        the output has a bias.

    Raises:
        ValueError: if the key and value heads do not divide the heads.

    Example:
        >>> part = attention("", Wire(8), Wire(8), heads=2, head_dim=4)
        >>> [space.name for space in part.spaces], part.leaves[0].path
        (['heads', 'vo', 'qk'], 'query/kernel')
    """
    groups = heads if kv_heads is None else kv_heads
    if groups < 1 or heads % groups:
        raise ValueError(
            f"attention {path!r}: key and value heads should divide the heads, got "
            f"kv_heads={groups} and heads={heads}."
        )
    queries = heads // groups
    head = UnitSpace(space_of(path, "heads"), groups)
    vo = UnitSpace(space_of(path, "vo"), head_dim, "general_linear", head.name)
    spaces = [head, vo]
    inner = None
    if queries > 1:
        inner = UnitSpace(space_of(path, "queries"), queries, per=head.name)
        spaces.append(inner)
    name = None if qk is None else space_of(path, "qk")
    if name is not None:
        spaces.append(UnitSpace(name, head_dim, str(qk), head.name))

    def lead(power: int) -> tuple[Axis, ...]:
        axes = (Axis(groups, head.name, power),)
        return axes if inner is None else (*axes, Axis(queries, inner.name, power))

    unit = Axis(head_dim) if name is None else Axis(head_dim, name, 1)
    units = {
        "query": (*lead(1), unit),
        "key": (*lead(1)[:1], replace(unit, power=-unit.power)),
        "value": (*lead(1)[:1], Axis(head_dim, vo.name, 1)),
        "out": (*lead(-1), Axis(head_dim, vo.name, -1)),
    }
    biases = [part for part in units if use_bias and part != "out"]
    if use_bias if use_out_bias is None else use_out_bias:
        biases.append("out")
    leaves = _head_leaves(path, source, out, units, biases)
    shifts = _head_shifts(path, leaves, use_bias and qk == "general_linear")
    return Part(tuple(spaces), tuple(leaves.values()), shifts)


def _head_leaves(
    path: str,
    source: Wire,
    out: Wire,
    units: dict[str, tuple[Axis, ...]],
    biases: Sequence[str],
) -> dict[str, Leaf]:
    """Leaves of attention by what follows its path.

    Args:
        path: of the attention.
        source: what is read.
        out: what is written.
        units: axes of heads and their units by layer; several axes of heads (groups
            and the queries of each) are stored as one.
        biases: layers with a bias.
    """
    leaves: dict[str, Leaf] = {}
    for part, axes in units.items():
        where = f"{path}/{part}".strip("/")
        *counts, width = (axis.size for axis in axes)
        shape: tuple[int, ...] = (math.prod(counts), width)
        behind = axes
        if part == "out":
            kernel, stored = (*axes, out.write()), (*shape, out.size)
            behind, shape = (out.write(),), (out.size,)
        else:
            kernel, stored = (*source.reads(), *axes), (source.size, *shape)
        leaves[f"{part}/kernel"] = stored_as(f"{where}/kernel", kernel, stored)
        if part in biases:
            leaves[f"{part}/bias"] = stored_as(f"{where}/bias", behind, shape)
    return leaves


def _head_shifts(
    path: str, leaves: dict[str, Leaf], free_key: bool
) -> tuple[Shift, ...]:
    """Shifts of the key bias, and of the value bias where the output has one."""
    shifts = []
    if free_key:
        shifts.append(Shift(space_of(path, "key_shift"), leaves["key/bias"].path))
    if {"value/bias", "out/bias"} <= set(leaves):
        kernel = leaves["out/kernel"]
        last = len(kernel.axes) - 2
        contracted, summed = (0, last), tuple(range(1, last))
        value = leaves["value/bias"]
        through = route(value, kernel, leaves["out/bias"], contracted, summed)
        shifts.append(Shift(space_of(path, "value_shift"), value.path, (through,)))
    return tuple(shifts)


def gated(
    path: str,
    source: Wire,
    hidden: Wire,
    out: Wire,
    *,
    names: tuple[str, str, str] = ("gate", "up", "down"),
    use_bias: bool = False,
) -> Part:
    """Returns a gated layer, `(f(x gate) * (x up)) down`.

    Args:
        path: prefix of the leaf paths.
        source: what it reads.
        hidden: its units; the space and degree of the gate's activation `f`.
        out: what it writes.
        names: of the three dense layers.
        use_bias: whether they have biases.

    Returns:
        The part, with a space of one scale per unit: `up` times a number and `down`
        divided by it is the same function, whatever its sign.
    """
    assert hidden.space is not None
    scale = UnitSpace(space_of(path, "scale"), 1, "absorbed", hidden.space)
    gate, up, down = (f"{path}/{name}" for name in names)
    n, unit = hidden.size, hidden.write()
    scaled = (replace(unit, power=0), Axis(1, scale.name, 1))
    leaves = [stored_as(f"{gate}/kernel", (*source.reads(), unit), (source.size, n))]
    if use_bias:
        leaves.append(bias(gate, hidden))
    leaves.append(
        stored_as(f"{up}/kernel", (*source.reads(), *scaled), (source.size, n))
    )
    if use_bias:
        leaves.append(stored_as(f"{up}/bias", scaled, (n,)))
    reads = replace(hidden, scale=scale.name).reads()
    leaves.append(stored_as(f"{down}/kernel", (*reads, out.write()), (n, out.size)))
    if use_bias:
        leaves.append(bias(down, out))
    return Part((scale,), tuple(leaves))


def low_rank(
    kernel: Leaf,
    rank: int,
    reads: int,
    *,
    names: tuple[str, str] = ("lora_a", "lora_b"),
) -> Part:
    """Returns a low-rank adapter of a kernel, `kernel + a b`.

    Args:
        kernel: the leaf that it adapts.
        rank: `r`.
        reads: how many axes of the *stored* kernel are read, the rest is written: 1
            of a dense kernel or a query, 2 of `out/kernel: [H, d, E]`.
        names: of the two leaves, beside the kernel; `a` is stored as `[*read, r]`,
            `b` as `[r, *written]`.

    Returns:
        The part, with a general linear space of `r` units. Axes of the kernel's view
        go to the leaf that stores them; a scale between a norm and the kernel to `a`.

    Example:
        >>> kernel = Leaf("out/kernel", (Axis(2), Axis(4), Axis(8)))
        >>> [leaf.stored for leaf in low_rank(kernel, 3, 2).leaves]
        [(2, 4, 3), (3, 8)]
    """
    path = kernel.path.rsplit("/", 1)[0]
    space = UnitSpace(space_of(path, names[0]), rank, "general_linear")
    split = _view_axes(kernel, reads)
    a = stored_as(
        f"{path}/{names[0]}",
        (*kernel.axes[:split], Axis(rank, space.name, 1)),
        (*kernel.stored[:reads], rank),
    )
    b = stored_as(
        f"{path}/{names[1]}",
        (Axis(rank, space.name, -1), *kernel.axes[split:]),
        (rank, *kernel.stored[reads:]),
    )
    return Part((space,), (a, b))


def _view_axes(leaf: Leaf, stored: int) -> int:
    """How many axes of the view the first `stored` axes of the array stand for."""
    end = 0
    for number, size in enumerate(leaf.stored[:stored]):
        total, start = 1, end
        while end == start or total < size:
            total *= leaf.axes[end].size
            end += 1
        # Scales of what is read; every later axis keeps one of its own.
        while (
            len(leaf.axes) - end > len(leaf.stored) - number - 1
            and leaf.axes[end].size == 1
            and leaf.axes[end].power < 0
        ):
            end += 1
    return end
