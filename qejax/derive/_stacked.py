"""Weights that are stacked for a loop over layers: each layer has units of its own."""

from collections.abc import Sequence
from typing import Any

import jax.extend.core

from qejax.derive._interpret import CALLS

LONGEST = 1024
"""Layers of a loop that are read one by one."""

_PASSED = ("convert_element_type", "copy", "copy_p")


def stacked_lengths(closed: Any, paths: Sequence[str]) -> dict[str, int]:
    """Returns the number of layers of leaves that loops take apart, and nothing else.

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
