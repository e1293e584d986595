"""Arrays that are taken apart along an axis: each slice has units of its own.

Keys and values in one array, the two sides of a gate, layers behind one another: what
acts on one slice need not act on the others. Such an array is followed slice by slice,
through linear maps of its other axes and maps of single entries, to where its slices
are taken.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from qejax.derive import _arrays
from qejax.derive._elementwise import LAWS, joined
from qejax.derive._ledger import Ledger, Node
from qejax.derive._units import fixed, length
from qejax.derive._value import Value

Shape = tuple[int, ...]

ENTRIES = frozenset(
    {
        *LAWS,
        *("add", "sub", "mul", "div", "neg", "integer_pow", "square"),
        *("convert_element_type", "copy", "copy_p", "stop_gradient"),
    }
)
"""Maps of single entries: what they read has the shape of what they write."""


def carried(
    name: str, params: dict[str, Any], number: int, along: int, shapes: Sequence[Shape]
) -> int | None:
    """Returns where an axis of an operand is in the result, if it comes through.

    Args:
        name: of the primitive.
        params: of the primitive.
        number: of the operand.
        along: the axis.
        shapes: of the operand and of the result.
    """
    before, after = shapes
    if name in ENTRIES:
        return along if before == after else None
    if name == "transpose":
        return tuple(params["permutation"]).index(along)
    if name == "squeeze":
        gone = params["dimensions"]
        return None if along in gone else along - sum(n < along for n in gone)
    if name == "broadcast_in_dim":
        target = params["broadcast_dimensions"][along]
        return target if after[target] == before[along] else None
    if name == "slice":
        return along if after[along] == before[along] else None
    if name == "reshape":
        lead, total = math.prod(before[:along]), 1
        for n, size in enumerate(after):
            if total == lead and size == before[along]:
                return n
            total *= size
        return None
    if name == "dot_general":
        contracted, batch = params["dimension_numbers"]
        if along in (*contracted[number], *batch[number]):
            return None
        gone = (*contracted[number], *batch[number])
        place = along - sum(n < along for n in gone)
        other = len(after) - (len(before) - len(gone)) - len(batch[0])
        return len(batch[0]) + place + (other if number else 0)
    return None


def taken(
    name: str, params: dict[str, Any], along: int, shapes: Sequence[Shape]
) -> list[int] | None:
    """Returns which slices results are, if an operation takes an array apart."""
    before, after = shapes
    if name == "slice" and after[along] == 1:
        return [params["start_indices"][along]]
    if name == "unstack" and params["axis"] == along:
        return [*range(before[along])]
    if name == "split" and params["axis"] == along:
        return [*range(before[along])] if {*params["sizes"]} == {1} else None
    return None


Ruled = Callable[[dict[str, Any], tuple[Shape, ...], list[Value]], list[Value]]
"""Results by parameters, shapes of the results, and operands."""


def slice_by_slice(
    ledger: Ledger,
    name: str,
    params: dict[str, Any],
    values: Sequence[Value],
    shapes: tuple[Shape, ...],
    ruled: Ruled,
) -> list[Value]:
    """Returns the results of an operation on arrays that are taken apart.

    Args:
        ledger: of what is known; added to.
        name: of the primitive.
        params: of the primitive.
        values: operands, one or more of them in slices.
        shapes: of the results.
        ruled: the rule of the primitive, as for any other arrays.
    """
    values = [_with_axis(ledger, value) for value in values]
    number = next(n for n, value in enumerate(values) if value.pieces is not None)
    along, pieces = values[number].along, values[number].pieces or ()
    before = tuple(map(length, values[number].axes))
    indices = taken(name, params, along, (before, shapes[0]))
    if indices is not None:
        return _slices(ledger, name, params, pieces, indices, along, ruled, shapes)
    place = carried(name, params, number, along, (before, shapes[0]))
    others = [n for n, value in enumerate(values) if n != number]
    if place is None or any(not _fits(name, values[n], along) for n in others):
        return ruled(params, shapes, [_together(ledger, value) for value in values])
    thin = (*shapes[0][:place], 1, *shapes[0][place + 1 :])
    made = []
    for n in range(len(pieces)):
        own = [_at(ledger, name, value, n, along) for value in values]
        made += ruled(_thin(name, params, along, place), (thin,), own)
    axes = (*made[0].axes[:place], fixed(len(pieces)), *made[0].axes[place + 1 :])
    weights = any(value.weights for value in made)
    return [Value(axes, weights=weights, pieces=tuple(made), along=place)]


def _fits(name: str, value: Value, along: int) -> bool:
    """Whether an operand beside one in slices can be read slice by slice."""
    if value.pieces is None:
        return True
    return name in ENTRIES and value.along == along


def slices_of(ledger: Ledger, value: Value) -> tuple[Value, ...]:
    """Returns the slices along the first axis, without that axis.

    For a loop over them; the array is taken apart along no other axis then.
    """
    pieces = value.pieces or ()
    if value.along < 0:
        return pieces
    assert value.along == 0, value.along
    return tuple(_squeezed(ledger, piece, 0) for piece in pieces)


def _squeezed(ledger: Ledger, piece: Value, along: int) -> Value:
    """The slice without the axis of one index."""
    thin = piece.viewed((*piece.axes[:along], *piece.axes[along + 1 :]))
    params = {"dimensions": (along,)}
    ledger.nodes.append(Node("squeeze", None, params, (piece,), (thin,), ()))
    return thin


def _with_axis(ledger: Ledger, value: Value) -> Value:
    """The value with slices that have the axis, of one index."""
    if value.pieces is None or value.along >= 0:
        return value
    made = []
    for piece in value.pieces:
        shape = (1, *map(length, piece.axes))
        thin = piece.viewed((fixed(1), *piece.axes))
        params = {"new_sizes": shape, "dimensions": None, "sharding": None}
        ledger.nodes.append(Node("reshape", None, params, (piece,), (thin,), ()))
        made.append(thin)
    return replace(value, pieces=tuple(made), along=0)


def _together(ledger: Ledger, value: Value) -> Value:
    """The array as one: what acts on all slices alike."""
    if value.pieces is None:
        return value
    one = joined(ledger, value.pieces, tuple(map(length, value.pieces[0].axes)))
    n = value.along
    axes = (*one.axes[:n], fixed(len(value.pieces)), *one.axes[n + 1 :])
    result = Value(axes, one.factor, one.weights)
    ledger.nodes.append(Node("loop", None, {}, value.pieces, (result,)))
    return result


def _at(ledger: Ledger, name: str, value: Value, n: int, along: int) -> Value:
    """One slice of an operand, or what is beside all slices."""
    if value.pieces is not None:
        return value.pieces[n]
    if name not in ENTRIES or not value.axes:
        return value
    axis, form = _arrays.sliced(ledger, value.axes[along], n, n + 1)
    axes = (*value.axes[:along], axis, *value.axes[along + 1 :])
    part = value.viewed(axes, value.factor + form)
    ledger.nodes.append(Node("loop", None, {}, (value,), (part,)))
    return replace(part, bias=None, leaf=None)


def _thin(name: str, params: dict[str, Any], along: int, place: int) -> dict[str, Any]:
    """Parameters for one slice, which has one index along the axis."""
    for key in ("shape", "new_sizes"):
        if key in params and name in ("broadcast_in_dim", "reshape"):
            size = params[key]
            params = {**params, key: (*size[:place], 1, *size[place + 1 :])}
    if name == "slice":
        stops = params["limit_indices"]
        stops = (*stops[:along], 1, *stops[along + 1 :])
        params = {**params, "limit_indices": stops}
    return params


def _slices(
    ledger: Ledger,
    name: str,
    params: dict[str, Any],
    pieces: Sequence[Value],
    indices: Sequence[int],
    along: int,
    ruled: Ruled,
    shapes: tuple[Shape, ...],
) -> list[Value]:
    """The slices that are taken, cut along other axes where they are."""
    if name == "split":
        return [pieces[n] for n in indices]
    if name == "unstack":
        return [_squeezed(ledger, pieces[n], along) for n in indices]
    starts = params["start_indices"]
    starts = (*starts[:along], 0, *starts[along + 1 :])
    cut = {**_thin(name, params, along, along), "start_indices": starts}
    return ruled(cut, shapes, [pieces[indices[0]]])
