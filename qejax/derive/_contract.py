"""Linear operations: products with kernels, convolutions, sums and windows."""

from collections.abc import Sequence
from fractions import Fraction

from qejax.derive._arrays import Params, fix_axis
from qejax.derive._forms import Form
from qejax.derive._ledger import Ledger
from qejax.derive._regroup import regrouped
from qejax.derive._units import (
    MONOMIAL,
    Atom,
    Axis,
    atoms_of,
    fixed,
    is_constant,
    is_still,
    length,
    merged,
)
from qejax.derive._value import Value


def contract(ledger: Ledger, first: Axis, second: Axis) -> Axis:
    """Sums products over two axes; returns the first as it was aligned.

    `sum_i (A x)_i (B w)_i` is what it was if `B = A^-T`.
    """
    if is_constant(first) and is_constant(second):
        return first
    segments = []
    for columns in ledger.align([first, second]):
        atoms = []
        for a, b in columns:
            if a.units is not None and b.units is not None:
                ledger.unite(a, b)
                ledger.same(a.form, -b.form, a.units)
            elif a.units is not None or b.units is not None:
                moved, still = (a, b) if a.units is not None else (b, a)
                (ledger.keep_ones if still.constant else ledger.fix)(moved)
            atoms.append(a if a.units is not None else b)
        segments.append(tuple(atoms))
    return tuple(segments)


def beside(ledger: Ledger, first: Axis, second: Axis) -> Axis:
    """Multiplies along two axes, index by index."""
    if is_constant(first):
        return second
    if is_constant(second):
        return first
    segments = []
    for columns in ledger.align([first, second]):
        atoms = []
        for a, b in columns:
            if a.units is None or b.units is None:
                moved, still = (a, b) if a.units is not None else (b, a)
                if moved.units is not None and not still.constant:
                    ledger.fix(moved)
                    moved = Atom(moved.size)
                elif moved.units is None:
                    moved = Atom(a.size, constant=a.constant and b.constant)
                atoms.append(moved._replace(tag=0))
                continue
            ledger.unite(a, b)
            ledger.lower(a, MONOMIAL)
            atoms.append(Atom(a.size, a.units, a.form + b.form))
        segments.append(tuple(atoms))
    return merged(segments)


def _read(ledger: Ledger, first: Value, second: Value, pairs: list[tuple[Axis, Axis]]):
    """Notes which leaf axes units are read along."""
    reader = 1 if second.leaf is not None else 0
    if (first, second)[reader].leaf is None:
        return
    for pair in pairs:
        for atom in atoms_of([ledger.normal(pair[reader])]):
            ledger.roles.setdefault(atom.tag, -1)


def dot_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`dot_general`."""
    left, right = values
    (lc, rc), (lb, rb) = params["dimension_numbers"]
    pairs = [(left.axes[i], right.axes[j]) for i, j in zip(lc, rc, strict=True)]
    _read(ledger, left, right, pairs)
    batch = [
        beside(ledger, left.axes[i], right.axes[j]) for i, j in zip(lb, rb, strict=True)
    ]
    summed = [contract(ledger, a, b) for a, b in pairs]
    ledger.note((*batch, *summed))
    free = [
        value.axes[n]
        for value, gone in ((left, (*lc, *lb)), (right, (*rc, *rb)))
        for n in range(len(value.axes))
        if n not in gone
    ]
    axes = tuple(_untagged(axis) for axis in (*batch, *free))
    return Value(axes, left.factor + right.factor, left.weights or right.weights)


def _untagged(axis: Axis) -> Axis:
    return tuple(tuple(atom._replace(tag=0) for atom in segment) for segment in axis)


def conv_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`conv_general_dilated`: positions are fixed, features contract in groups."""
    image, kernel = values
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    left, right, out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    for value, spec in ((image, left), (kernel, right)):
        for position in spec[2:]:
            fix_axis(ledger, value.axes[position])
    batch, features = image.axes[left[0]], image.axes[left[1]]
    written, read = kernel.axes[right[0]], kernel.axes[right[1]]
    if params["batch_group_count"] > 1:
        for axis in (batch, features, written, read):
            fix_axis(ledger, axis)
        made = fixed(length(written))
        batch = fixed(length(batch) // params["batch_group_count"])
    elif groups == 1:
        _read(ledger, image, kernel, [(features, read)])
        ledger.note([contract(ledger, features, read)])
        made = written
    else:
        sizes = [length(features) // groups, length(written) // groups]
        own, each = regrouped(ledger, [features], (groups, sizes[0]))
        group, made = regrouped(ledger, [written], (groups, sizes[1]))
        _read(ledger, image, kernel, [(each, read)])
        group = beside(ledger, own, group)
        ledger.note((group, contract(ledger, each, read)))
        (made,) = regrouped(ledger, [group, made], (groups * sizes[1],))
    sides = params["sides"]
    axes: list[Axis] = [fixed(1)] * len(out)
    axes[out[0]], axes[out[1]] = _untagged(batch), _untagged(made)
    for position, side in zip(out[2:], sides, strict=True):
        axes[position] = fixed(side)
    weights = image.weights or kernel.weights
    return Value(tuple(axes), image.factor + kernel.factor, weights)


def sum_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`reduce_sum`: over units, the vector of ones stays; of squares, their length."""
    value, gone = values[0], params["axes"]
    if value.root is not None:
        return _energy(ledger, value.root, gone)
    for position in gone:
        for atom in atoms_of([value.axes[position]]):
            ledger.keep_ones(atom)
    kept = tuple(axis for n, axis in enumerate(value.axes) if n not in gone)
    return Value(kept, value.factor, value.weights)


def _energy(ledger: Ledger, value: Value, gone: Sequence[int]) -> Value:
    """The sum of the squares of a value over some of its axes."""
    summed = [contract(ledger, value.axes[n], value.axes[n]) for n in gone]
    kept = [axis for n, axis in enumerate(value.axes) if n not in gone]
    axes = [squared(ledger, axis) for axis in kept]
    ledger.note((*axes, *summed))
    return Value(tuple(axes), _twice(value.factor), value.weights)


def squared(ledger: Ledger, axis: Axis) -> Axis:
    """An axis of the square of an array, entry by entry."""
    segments = []
    for segment in ledger.normal(axis):
        atoms = []
        for atom in segment:
            ledger.lower(atom, MONOMIAL)
            atoms.append(atom._replace(form=_twice(atom.form), tag=0))
        segments.append(tuple(atoms))
    return tuple(segments)


def _twice(form: Form) -> Form:
    return form.power(Fraction(2), False)


def extreme_rule(ledger: Ledger, values: list[Value], params: Params) -> Value:
    """`reduce_max` and the like: what permutations and a positive factor commute with.

    Factors along the axes that are reduced have to be one.
    """
    value, gone = values[0], params["axes"]
    for position, axis in enumerate(value.axes):
        for atom in atoms_of([axis]):
            ledger.lower(atom, MONOMIAL)
            ledger.one(atom.form, atom.units, size=position in gone)
    ledger.one(value.factor, None, size=False)
    kept = tuple(axis for n, axis in enumerate(value.axes) if n not in gone)
    return Value(kept, value.factor, value.weights)


def along_rule(ledger: Ledger, value: Value, position: int, *, linear: bool) -> Value:
    """Something along one axis that knows the order of it: `cumsum`, `sort`.

    Args:
        ledger: of what is known.
        value: the array.
        position: of the axis.
        linear: whether the rest of the array is only added up.
    """
    axes = list(value.axes)
    for n, axis in enumerate(axes):
        for atom in atoms_of([axis]):
            if n == position:
                ledger.fix(atom)
            elif not linear:
                ledger.lower(atom, MONOMIAL)
                ledger.one(atom.form, atom.units)
    if not linear:
        ledger.one(value.factor, None)
    axes[position] = fixed(length(axes[position]))
    return Value(tuple(axes), value.factor, value.weights)


def window_rule(
    ledger: Ledger,
    value: Value,
    shape: Sequence[int],
    moving: Sequence[bool],
    *,
    linear: bool,
) -> Value:
    """A window that moves over some axes: those are fixed; the rest stays."""
    axes = list(value.axes)
    rows = zip(list(axes), shape, moving, strict=True)
    for n, (axis, size, moves) in enumerate(rows):
        for atom in atoms_of([axis]):
            if moves:
                ledger.fix(atom)
            elif not linear:
                ledger.lower(atom, MONOMIAL)
                ledger.one(atom.form, atom.units, size=False)
        if moves:
            axes[n] = fixed(size)
    if not linear:
        ledger.one(value.factor, None, size=False)
    return Value(tuple(axes), value.factor, value.weights)


def ordered_rule(ledger: Ledger, value: Value, position: int) -> Value:
    """Numbers in order of size along one axis: no permutation of it is seen."""
    axes = list(value.axes)
    for n, axis in enumerate(axes):
        for atom in atoms_of([axis]):
            ledger.lower(atom, MONOMIAL)
            ledger.one(atom.form, atom.units, size=n == position)
    ledger.one(value.factor, None, size=False)
    if not is_still(axes[position]) or not is_constant(axes[position]):
        axes[position] = fixed(length(axes[position]))
    return Value(tuple(axes), value.factor, value.weights)
