"""`derive_spec`: the weight space of any function of weights and inputs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from qejax import _trees
from qejax._typing import Theta
from qejax.derive._arrays import fix_axis
from qejax.derive._check import AMPLIFIED, PLAINLY, TOLERANCE, rounding, worst_gap
from qejax.derive._deficit import deficit_of
from qejax.derive._derived import Derived
from qejax.derive._draw import generic
from qejax.derive._emit import Found, emit
from qejax.derive._explain import Row, shift_row, space_row
from qejax.derive._graph import Graph
from qejax.derive._interpret import interpret
from qejax.derive._ledger import Ledger
from qejax.derive._modules import function_of, is_module
from qejax.derive._parts import Part, parts_of
from qejax.derive._routes import shifts_of
from qejax.derive._shifts import free_addends, own_marks
from qejax.derive._stacked import stacked_lengths
from qejax.derive._trace import (
    arrays_alone,
    as_arrays,
    check_weights,
    in_double,
    is_key,
    lowest_precision,
    traced,
    unread,
)
from qejax.derive._units import Axis, Reason, fixed
from qejax.derive._value import Value
from qejax.spaces import Leaf, WeightSpec
from qejax.testing import tolerance_of

Places = Sequence[tuple[int, int]]
"""Axes of inputs or outputs: number of the array, number of its axis."""


def derive_spec(
    apply: Any,
    *arguments: Any,
    free_inputs: Places = (),
    free_outputs: Places = (),
    samples: int = 2,
    count_missing: bool | None = None,
) -> Derived:
    """Derives the weight space of a function, with its group, from what it computes.

    The function is traced in float64 where it allows that, else in the dtypes of its
    weights, and read operation by operation, through `jit`,
    `custom_jvp`, `checkpoint`, `scan`, `while` and `cond`. For every axis of every
    array the derivation keeps which set of units it carries and what may still act on
    it: any matrix where only linear maps were, orthogonal matrices behind a norm of
    length, positive factors through homogeneous maps (with their degree), signs through
    odd maps, half periods through sines, permutations through maps of single entries,
    moves in blocks through reshapes, nothing otherwise. What is added or shared gets
    what both sides allow. Axes of inputs and outputs stay. Operations without a rule
    fix what they read, and are named in `Derived.unsupported`.

    Every element of the derived group keeps the function: samples of it are checked on
    numbers, in float64. That the group is all there is is not promised; for small
    networks the directions that it lacks are counted, see `Derived.deficit`.

    Args:
        apply: `(theta, *inputs) -> outputs`, trees of arrays; pure and deterministic.
            Or a Flax module, of Linen or NNX; then `arguments` are its inputs.
        *arguments: `theta`, weights of one network, a tree of floating arrays (shapes
            and values matter, the dtype does not); then the inputs, trees of arrays of
            any kind, random keys among them. Booleans of Python, strings and other
            leaves that are no arrays are passed on as they are: the spec is that of
            the function with these.
        free_inputs: axes of inputs that may move, as `(input, axis)`, inputs counted
            over the arrays in all of them. The function is then kept up to the motion
            that `Derived.inputs` tells.
        free_outputs: axes of outputs that may move, likewise.
        samples: random elements that the function is checked with; 0 for none.
        count_missing: whether to count the directions that keep the function and are
            not in the group; by default of networks of up to 600 parameters whose
            inputs and outputs stay.

    Returns:
        The spec with its explanation; `print(derived)` shows a table.

    Raises:
        ValueError: if the function has side effects, is not deterministic or returns
            no arrays, theta has leaves that are no floating arrays, or an input has
            no entries.
        AssertionError: if an element of the derived group changes the outputs: a fault
            of this module, please report it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def apply(theta, x):
        ...     return jax.nn.relu(x @ theta["a"]) @ theta["b"]
        >>> theta = {"a": jnp.ones((3, 8)), "b": jnp.ones((8, 2))}
        >>> derived = derive_spec(apply, theta, jnp.ones((5, 3)))
        >>> [(s.name, s.size, s.group) for s in derived.spec.spaces]
        [('a', 8, 'positive_scale')]
    """
    whole, theta, given = _function(apply, arguments)
    leaves = check_weights(theta)
    run, inputs = arrays_alone(whole, given)
    with jax.enable_x64(True):
        free = (free_inputs, free_outputs)
        try:
            reading = _Reading(run, in_double(theta), in_double(inputs), *free)
        except TypeError:
            # A loop carries what it starts with in a dtype of its own (Flax's RNNs).
            reading = _Reading(run, as_arrays(theta), as_arrays(inputs), *free)
        derived = replace(reading.derived(leaves), theta=theta, apply=whole)
        small = derived.spec.num_parameters <= SMALL
        small = small and not any(free) and reading.precision == jnp.float64
        if samples:
            derived = reading.checked(derived, samples)
        if small if count_missing is None else count_missing:
            derived = reading.counted(derived)
    return derived


def _function(apply: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """The function, its weights and its inputs."""
    if not is_module(apply):
        return apply, arguments[0], arguments[1:]
    with jax.enable_x64(True):
        function = function_of(apply, arguments)
    return function.apply, function.theta, arguments


SMALL = 600
"""Parameters of a network whose missing directions are counted without asking."""


ATTEMPTS = 3
"""Weights at which directions are counted until singular values are clear."""


DECLARED = (
    "elements of the group keep the function, but its derivatives say otherwise. They "
    "may be declared to be others: look for stop_gradient, custom_jvp and custom_vjp."
)
"""Why directions are not counted of a function whose derivatives are not its own."""


MOST_COMPILED = 400
"""Operations of a function that is compiled to be checked; others run one by one."""


class _Reading:
    """One function, traced and read."""

    def __init__(
        self,
        run: Callable[..., Any],
        theta: Theta,
        inputs: list[Any],
        free_inputs: Places,
        free_outputs: Places,
    ) -> None:
        self.run, self.theta, self.inputs = run, theta, inputs
        self.generic = generic(theta)
        self.closed = traced(run, theta, inputs)
        self.precision = lowest_precision(self.closed.jaxpr)
        self._compiled = jax.extend.core.jaxpr_as_fun(self.closed)
        if len(self.closed.jaxpr.eqns) <= MOST_COMPILED:
            self._compiled = jax.jit(self._compiled, compiler_options=PLAINLY)
        self.free_inputs, self.free_outputs = set(free_inputs), set(free_outputs)
        self.ledger = Ledger()
        self.leaves: dict[str, Value] = {}
        self.given: dict[int, Any] = {}
        self.read: list[Value] = []
        self.written: list[Value] = []

    def derived(self, shapes: dict[str, Any]) -> Derived:
        """Reads the function, and returns what was found."""
        free = unread(self.closed, shapes)
        lengths = stacked_lengths(self.closed, list(shapes))
        for path, leaf in _trees.flatten(self.generic).items():
            self.leaves[path] = self._leaf(path, np.asarray(leaf), lengths.get(path, 0))
        self.read = [self._input(number, x) for number, x in enumerate(self.inputs)]
        arguments = [*self.leaves.values(), *self.read]
        self.written = interpret(self.ledger, self.closed, arguments)
        self._end()
        inputs, outputs = (
            {n for n, _ in f} for f in (self.free_inputs, self.free_outputs)
        )
        ends = {f"input_{n}": v for n, v in enumerate(self.read) if n in inputs}
        ends |= {f"output_{n}": v for n, v in enumerate(self.written) if n in outputs}
        parts = self._settled({**self.leaves, **ends})
        found = emit(self.ledger, parts, set(free))
        return self._result(found, free, tuple(ends))

    def _leaf(self, path: str, numbers: np.ndarray, length: int) -> Value:
        """The value of a leaf; in slices of their own if loops take it apart."""
        ledger = self.ledger
        if length:
            pieces = tuple(
                self._leaf(f"{path}[{n}]", numbers[n], 0) for n in range(length)
            )
            axes = tuple(map(fixed, numbers.shape))
            return Value(axes, weights=True, leaf=path, pieces=pieces)
        axes = tuple(ledger.new_axis(n, tagged=True) for n in numbers.shape)
        value = Value(
            axes, ledger.equations.unknown(), True, leaf=path, bias=(path, 1.0)
        )
        self.given[id(value)] = numbers
        ledger.note(axes)
        return value

    def _input(self, number: int, x: Any) -> Value:
        axes: list[Axis] = []
        for axis, size in enumerate(x.shape):
            free = (number, axis) in self.free_inputs
            axes.append(self.ledger.new_axis(size) if free else fixed(size))
        value = Value(tuple(axes))
        if not is_key(x):
            self.given[id(value)] = np.asarray(x)
        self.ledger.note(axes)
        return value

    def _end(self) -> None:
        """Outputs stay, but for the axes that may move."""
        self.ledger.reason = Reason("output", "")
        for number, value in enumerate(self.written):
            for place, axis in enumerate(value.axes):
                if (number, place) not in self.free_outputs:
                    fix_axis(self.ledger, axis)
            self.ledger.one(value.factor, None)

    def _settled(self, values: dict[str, Value]) -> list[Part]:
        """The parts of all leaves once nothing changes any more."""
        parts = parts_of(self.ledger, values)
        while True:
            again = parts_of(self.ledger, values)
            if again == parts:
                return parts
            parts = again

    def _result(
        self, found: Found, free: tuple[str, ...], ends: tuple[str, ...]
    ) -> Derived:
        own = [leaf for leaf in found.leaves if leaf.array not in ends]
        shifts = self._shifts(found, own)
        spec = WeightSpec(found.spaces, tuple(own), shifts)
        rows: list[Row] = [
            space_row(space, found.choices.get(space.name), found.moves[space.name])
            for space in spec.spaces
        ]
        rows += [
            shift_row(shift, int(np.prod(spec.shift_size(shift), dtype=int)))
            for shift in spec.shifts
        ]
        moved = {leaf.array: leaf for leaf in found.leaves if leaf.array in ends}
        return Derived(
            spec,
            tuple(rows),
            free,
            {str(k): n for k, n in self.ledger.unsupported.items()},
            {n: moved[f"input_{n}"] for n, _ in sorted(self.free_inputs)},
            {n: moved[f"output_{n}"] for n, _ in sorted(self.free_outputs)},
            self.theta,
            self.run,
            factors=found.factors,
        )

    def _shifts(self, found: Found, own: Sequence[Leaf]) -> Any:
        graph = Graph(self.ledger.nodes, self.written, self.given)
        whole: dict[str, Value] = {}
        for value in self.leaves.values():
            pieces = value.pieces or (value,)
            whole.update({str(piece.leaf): piece for piece in pieces})
        marks = {}
        # In network order: what a shift adds to a bias downstream is taken off there.
        order = {path: number for number, path in enumerate(self.ledger.read)}
        for path in sorted(whole, key=lambda path: order.get(path, len(order))):
            value = whole[path]
            own_indices = own_marks(self.ledger, path, value)
            if own_indices is not None and path in found.keys:
                marks[path] = own_indices
        by_path = {leaf.path: leaf for leaf in own}
        keys = {key: path for key, path in found.keys.items() if path in by_path}
        return shifts_of(
            free_addends(graph, whole, marks),
            {key: by_path[path] for key, path in keys.items()},
            {key: found.labels[path] for key, path in keys.items()},
            {space.name: space.group for space in found.spaces},
        )

    def counted(self, derived: Derived) -> Derived:
        """Returns what was derived with its missing directions, or why they are not.

        At other weights where singular values are not clear of rounding, as how many
        directions there are is the same at almost all; at other inputs where those
        drawn are none that the function takes.
        """
        felt, why = [value.weights for value in self.written], ""
        for attempt in range(ATTEMPTS):
            theta = generic(self.theta, attempt)
            try:
                found = deficit_of(
                    *(self.run, derived.spec, theta, self.inputs, felt),
                    careful=attempt > 0,
                )
            except (ValueError, AssertionError) as error:
                kept = derived.checked and "does not keep the function" in str(error)
                why = why or (DECLARED if kept else str(error))
                if not any(words in str(error) for words in ("no gap", "be finite")):
                    break
            else:
                return derived.with_deficit(found)
        return replace(derived, uncounted=why)

    def checked(self, derived: Derived, samples: int) -> Derived:
        """Returns what was derived; raises if an element changes the outputs."""
        gap, name = worst_gap(
            self._numbers,
            derived.spec,
            self.generic,
            self.inputs,
            (dict(derived.inputs), dict(derived.outputs)),
            samples,
        )
        tolerance = max(TOLERANCE, tolerance_of(self.precision))
        if gap <= tolerance:
            return replace(derived, checked=True)
        if gap > AMPLIFIED * rounding(self._numbers, self.generic, self.inputs):
            raise AssertionError(
                f"derive_spec: an element of the derived group should keep the "
                f"function to {tolerance:g} in {self.precision}, got a change of "
                f"{gap:.1e}, of {name!r}. This is a fault of qejax.derive: please "
                f"report it with the function; until then write the spec by hand."
            )
        return derived

    def _numbers(self, theta: Theta, *inputs: Any) -> list[Any]:
        flat = [*jax.tree.leaves(theta), *inputs]
        return self._compiled(*flat)
