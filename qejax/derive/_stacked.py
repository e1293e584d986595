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
    lengths = {}
    for path, var in zip(paths, jaxpr.invars, strict=False):
        found = _lengths(jaxpr, var)
        if len(found) == 1 and 0 < min(found) <= LONGEST:
            lengths[path] = min(found)
    return lengths


def _lengths(jaxpr: Any, var: Any) -> set[int]:
    """Lengths of the loops that a variable is an input of; 0 for any other use."""
    found: set[int] = {0} if any(v is var for v in jaxpr.outvars) else set()
    for eqn in jaxpr.eqns:
        for place, source in enumerate(eqn.invars):
            if isinstance(source, jax.extend.core.Literal) or source is not var:
                continue
            name = eqn.primitive.name
            if name == "scan":
                first = eqn.params["num_consts"] + eqn.params["num_carry"]
                found.add(eqn.params["length"] if place >= first else 0)
            elif name in _PASSED:
                found |= _lengths(jaxpr, eqn.outvars[0])
            elif name in CALLS:
                inner = eqn.params[CALLS[name]]
                inner = getattr(inner, "jaxpr", inner)
                found |= _lengths(inner, inner.invars[place])
            else:
                found.add(0)
    return found
