"""What `derive_spec` returns: a weight space, and why it is what it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from qejax._typing import Theta
from qejax.derive._draw import generic
from qejax.derive._explain import Row, table
from qejax.derive._picture import draw
from qejax.derive._readable import readable
from qejax.derive._trace import in_double
from qejax.spaces import Leaf, WeightSpec
from qejax.testing import Deficit


@dataclass(frozen=True)
class Derived:
    """A weight space that was derived, with its explanation.

    Attributes:
        spec: the weight space.
        rows: one for each unit space and shift: size, group, what it moves, and the
            operation that limits it.
        free: paths of leaves that the function never reads: whatever they are, it is
            the same. The spec leaves them alone.
        unsupported: operations without a rule, as `"fft at model.py:12"`, and how often
            they read something that depends on weights; nothing acts on that.
        inputs: how inputs move whose axes were declared free, by number.
        outputs: how outputs move whose axes were declared free, by number.
        theta: the weights that were derived from; of a Flax module its variables.
        apply: the function of them, `(theta, *inputs)`.
        deficit: directions that keep the function and are not in the group, where they
            were counted.
        checked: whether elements of the group were seen to keep the function. Not if
            none were drawn, or if it amplifies rounding of its weights so much that
            nothing can be seen. To 1e-10 of a function in float64, to what
            `qejax.testing.tolerance_of` says of one with fewer digits.
        uncounted: why directions could not be counted; random inputs like those given
            may be none that the function takes.
        factors: names of spaces of one factor, beside units or of whole leaves.
    """

    spec: WeightSpec
    rows: tuple[Row, ...]
    free: tuple[str, ...]
    unsupported: Mapping[str, int]
    inputs: Mapping[int, Leaf]
    outputs: Mapping[int, Leaf]
    theta: Theta = field(repr=False)
    apply: Callable[..., Any] = field(repr=False)
    deficit: Deficit | None = None
    factors: frozenset[str] = frozenset()
    checked: bool = False
    uncounted: str = ""

    def with_deficit(self, deficit: Deficit) -> "Derived":
        """Returns the same with directions counted."""
        return replace(self, deficit=deficit)

    @cached_property
    def for_models(self) -> WeightSpec:
        """The part of the group that normal forms, layers and models can read.

        They take scales and signs of sets of units, told by leaves that feel no other
        sign. Of units in blocks, second factors of units, signs of a whole stream and
        what else no normal form of these weights is told by, nothing is claimed: what
        reads the weights may tell it. Found by trying, once.
        """
        with jax.enable_x64(True):
            return readable(self.spec, generic(in_double(self.theta)), self.factors)

    def table(self, width: int = 120) -> str:
        """Returns the explanation as text; repeated blocks are one line.

        Args:
            width: characters that a line has at most.
        """
        lines = [table(self.rows, width)] if self.rows else ["no symmetry was found"]
        if self.free:
            lines.append(f"never read, free: {_list(self.free)}")
        if self.unsupported:
            lines.append(f"no rule, taken as fixed: {_list([*self.unsupported])}")
        if not self.checked:
            lines.append("not checked on numbers: none drawn, or rounding hides it")
        if self.uncounted:
            lines.append(f"directions not counted: {self.uncounted}")
        if self.deficit is not None:
            lines.append(self.deficit.counts())
            lines += self._hints() if self.deficit.missing else []
        return "\n".join(lines)

    def _hints(self) -> list[str]:
        """What may be behind directions that are missing."""
        hints = ["weights that no output feels (units that never fire) are among them"]
        if any(space.group == "absorbed" for space in self.spec.spaces):
            hints.append(
                "behind a norm with a scale streams may be rotated as well, if the "
                "scale is multiplied into what reads it first: that is not claimed"
            )
        return hints

    def __str__(self) -> str:
        return self.table()

    def draw(self, path: str | Path) -> None:
        """Draws which leaves each unit space moves.

        Args:
            path: of the file; its ending says the format.

        Raises:
            ImportError: without matplotlib.
        """
        draw(self.rows, path)


def _list(names: Any, most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)})"
