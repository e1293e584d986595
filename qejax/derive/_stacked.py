"""Weights that are taken apart along their first axis: each slice has its own units.

Stacked for a loop over layers, or several kernels in one array of which the slices of
what they make are taken one by one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.extend.core

from qejax.derive._apart import carried, taken
from qejax.derive._interpret import CALLS

LONGEST = 1024
"""Layers of a loop that are read one by one."""

MOST_APART = 16
"""Slices of an array that is taken apart without a loop."""

_PASSED = ("convert_element_type", "copy", "copy_p")


def stacked_lengths(closed: Any, paths: Sequence[str]) -> dict[str, int]:
    """Returns the number of slices of leaves that are taken apart, and nothing else.

    Args:
        closed: the traced function, leaves of the weights first.
        paths: of the leaves.
    """
    jaxpr = closed.jaxpr
    uses: dict[Any, dict[Any, list[Use]]] = {}
    lengths = {}
    for path, var in zip(paths, jaxpr.invars, strict=False):
        found = _lengths(jaxpr, var, uses)
        if len(found) == 1 and 0 < min(found) <= LONGEST:
            lengths[path] = min(found)
            continue
        count = var.aval.shape[0] if var.aval.shape else 0
        if 1 < count <= MOST_APART:
            ends = _ends(jaxpr, var, 0, uses)
            if ends is not None and not ends.returned and len(ends.taken) == count:
                lengths[path] = count
    return lengths


Use = tuple[Any, int]
"""An equation, and the number of the operand."""


def _uses(jaxpr: Any) -> dict[Any, list[Use]]:
    found: dict[Any, list[Use]] = {}
    for eqn in jaxpr.eqns:
        for place, source in enumerate(eqn.invars):
            if not isinstance(source, jax.extend.core.Literal):
                found.setdefault(source, []).append((eqn, place))
    return found


def _lengths(jaxpr: Any, var: Any, uses: dict[Any, dict[Any, list[Use]]]) -> set[int]:
    """Lengths of the loops that a variable is an input of; 0 for any other use."""
    if jaxpr not in uses:
        uses[jaxpr] = _uses(jaxpr)
    found: set[int] = {0} if any(v is var for v in jaxpr.outvars) else set()
    for eqn, place in uses[jaxpr].get(var, []):
        name = eqn.primitive.name
        if name == "scan":
            first = eqn.params["num_consts"] + eqn.params["num_carry"]
            found.add(eqn.params["length"] if place >= first else 0)
        elif name in _PASSED:
            found |= _lengths(jaxpr, eqn.outvars[0], uses)
        elif name in CALLS:
            inner = eqn.params[CALLS[name]]
            inner = getattr(inner, "jaxpr", inner)
            found |= _lengths(inner, inner.invars[place], uses)
        else:
            found.add(0)
    return found


class Ends(NamedTuple):
    """Where an array that is taken apart ends.

    Attributes:
        taken: slices that are.
        returned: results of the function that it comes out of whole, and the axis.
    """

    taken: frozenset[int]
    returned: frozenset[tuple[int, int]]


def _ends(
    jaxpr: Any, var: Any, along: int, uses: dict[Any, dict[Any, list[Use]]]
) -> Ends | None:
    """Follows an array to where its slices are taken; `None` if it is read whole."""
    if jaxpr not in uses:
        uses[jaxpr] = _uses(jaxpr)
    found: set[int] = set()
    returned = {(n, along) for n, v in enumerate(jaxpr.outvars) if v is var}
    for eqn, number in uses[jaxpr].get(var, []):
        name, params = eqn.primitive.name, eqn.params
        shapes = (tuple(var.aval.shape), tuple(eqn.outvars[0].aval.shape))
        out: set[tuple[int, int]] = set()
        if name in CALLS:
            inner = params[CALLS[name]]
            inner = getattr(inner, "jaxpr", inner)
            ends = _ends(inner, inner.invars[number], along, uses)
            if ends is None:
                return None
            found |= ends.taken
            out |= ends.returned
        else:
            indices = taken(name, params, along, shapes)
            place = carried(name, params, number, along, shapes)
            if indices is None and place is None:
                return None
            found |= {*(indices or ())}
            out |= set() if place is None or indices is not None else {(0, place)}
        for position, place in out:
            ends = _ends(jaxpr, eqn.outvars[position], place, uses)
            if ends is None:
                return None
            found |= ends.taken
            returned |= ends.returned
    return Ends(frozenset(found), frozenset(returned))
