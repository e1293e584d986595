"""What a check found, as numbers, and what a failed check says.

A law alone can be passed by doing nothing: a constant map is invariant, an element that
moves nothing keeps every function. So each check carries *controls*, numbers that must
be large for the small gap to mean something. A check passes if its gap is small **and**
its controls are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax.testing._tolerance import tolerance_of

_FLOORS = {"float64": 1e-3, "float32": 3e-2}
"""Entries smaller than this share of the largest count as that large: what rounding of
the largest leaves in them is then a thousandth of the tolerance."""


@dataclass(frozen=True)
class Control:
    """A number that must exceed its floor for a check to be able to fail.

    Attributes:
        name: what was measured.
        value: relative, no unit.
        floor: what it must exceed.
        otherwise: what it means if it does not, and what to do.
    """

    name: str
    value: float
    floor: float
    otherwise: str

    @property
    def passed(self) -> bool:
        """Whether the control saw an effect; NaN is none."""
        return self.value > self.floor


@dataclass(frozen=True)
class Report:
    """The numbers of one check.

    Attributes:
        law: name of the check.
        statement: what should hold, in words.
        gap: how far it is from holding, relative, no unit.
        tolerance: the largest gap that passes.
        parts: the gap by part: with the element of one unit space alone, or by axiom.
        controls: see `Control`.
        advice: where to look if the gap is too large.
    """

    law: str
    statement: str
    gap: float
    tolerance: float
    parts: Mapping[str, float] = field(default_factory=dict)
    controls: tuple[Control, ...] = ()
    advice: str = ""

    @property
    def control(self) -> float:
        """The smallest control's value, in multiples of its floor (1 is too small)."""
        return min((c.value / c.floor for c in self.controls), default=float("inf"))

    @property
    def passed(self) -> bool:
        """Whether the law holds, and the check could have failed."""
        return self.gap <= self.tolerance and all(c.passed for c in self.controls)

    def message(self) -> str:
        """Where, expected, got and what to do, for all that is wrong."""
        lines = [
            f"{self.law} cannot tell: {control.name} is {control.value:.1e}, "
            f"expected more than {control.floor:.1e}. {control.otherwise}"
            for control in self.controls
            if not control.passed
        ]
        if not lines or not self.gap <= self.tolerance:
            parts = ", ".join(f"{name} {gap:.1e}" for name, gap in self.parts.items())
            holds = self.gap <= self.tolerance
            lines.append(
                f"{self.law} {'holds' if holds else 'failed'}: {self.statement}: "
                f"expected a gap of at most {self.tolerance:.1e}, got {self.gap:.1e}. "
                f"By part: {parts or 'none'}. {'' if holds else self.advice}".rstrip()
            )
        return "\n".join(lines)

    def check(self) -> None:
        """Raises unless the check passed.

        Raises:
            AssertionError: with `message()`.
        """
        if not self.passed:
            raise AssertionError(self.message())


def tolerance_for(tree: Any, tolerance: float | None) -> float:
    """The tolerance asked for, or that of the least exact dtype in a tree."""
    if tolerance is not None:
        return tolerance
    kinds = {leaf.dtype for leaf in jax.tree.leaves(tree)}
    floating = [kind for kind in kinds if jnp.issubdtype(kind, jnp.floating)]
    return max(map(tolerance_of, floating), default=0.0)


def relative(got: Any, expected: Any, size: Any = None) -> float:
    """The largest difference of two trees, leaf by leaf relative to that leaf.

    All entries of a leaf are measured by its largest, so that small entries count less;
    `relative_entries` measures each by its own size.

    Args:
        got: a tree of arrays.
        expected: another of the same shapes.
        size: leaves like `expected` by whose largest entry to divide; `expected` by
            default. Where that is zero, the difference counts as it is.

    Returns:
        The gap; NaN if an entry is.
    """
    leaves: list[tuple[Any, ...]] = list(
        zip(
            jax.tree.leaves(got),
            jax.tree.leaves(expected),
            jax.tree.leaves(expected if size is None else size),
            strict=True,
        )
    )
    return max((_relative(*map(np.asarray, three)) for three in leaves), default=0.0)


def relative_entries(got: Any, expected: Any, size: Any) -> float:
    """The largest difference of two trees, entry by entry relative to `size`.

    An entry whose size is below 1e-3 (float32: 3e-2) of the largest in its leaf is
    measured by that share of the largest. So a wrong entry is seen down to a size of
    `1e-3 * tolerance` of its neighbours, 1e-13 by default in float64.

    Args:
        got: a tree of arrays.
        expected: another of the same shapes.
        size: likewise; what differences are divided by, at least zero.

    Returns:
        The gap; NaN if an entry is.
    """

    def raised(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        largest = np.max(np.abs(leaf), initial=0.0)
        floor = _FLOORS.get(str(leaf.dtype), 1.0) * largest
        return np.maximum(leaf, floor) if largest > 0 else np.ones_like(leaf)

    gaps = jax.tree.map(
        lambda a, b, s: np.max(np.abs(np.asarray(a) - np.asarray(b)) / s, initial=0.0),
        got,
        expected,
        jax.tree.map(raised, size),
    )
    return max(map(float, jax.tree.leaves(gaps)), default=0.0)


def _relative(got: np.ndarray, expected: np.ndarray, size: np.ndarray) -> float:
    if not expected.size:
        return 0.0
    largest = float(np.max(np.abs(size)))
    difference = float(np.max(np.abs(got - expected)))
    return difference / largest if largest > 0 else difference


def check_finite(where: str, tree: Any) -> Any:
    """Returns `tree`, if all of it is finite.

    Raises:
        AssertionError: names the first leaf that is not.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        bad = int(np.sum(~np.isfinite(np.asarray(leaf))))
        if bad:
            name = jax.tree_util.keystr(path) or "the output"
            raise AssertionError(
                f"{where} should be finite: {name} of shape {tuple(leaf.shape)} has "
                f"{bad} entries that are not. Check the weights, or lower the spread."
            )
    return tree
