"""A map under test: its input, an element, and its outputs on unrelated inputs."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import numpy as np

from qejax._typing import PRNGKeyArray
from qejax.spaces import Elements, WeightSpec
from qejax.testing._draws import draw_elements, movable, move, only, unrelated
from qejax.testing._report import (
    Control,
    Report,
    check_finite,
    relative,
    tolerance_for,
)

_UNRELATED = 4


class Probe:
    """A map, its input, an element, and the map's outputs on unrelated inputs."""

    def __init__(
        self,
        law: str,
        fn: Callable[[Any], Any],
        spec: WeightSpec,
        source: Any,
        key: PRNGKeyArray,
        spread: float,
        tolerance: float | None,
    ) -> None:
        key_element, *keys = jax.random.split(key, 1 + _UNRELATED)
        dtype = jax.tree.leaves(source)[0].dtype
        self.law, self.spec, self.source, self._fn = law, spec, source, fn
        self.tolerance = tolerance_for(source, tolerance)
        self.g = draw_elements(key_element, spec, spread, dtype)
        self.out = check_finite(f"output of the map given to {law}", fn(source))
        self.others = [self.run(unrelated(one, source)) for one in keys]

    def run(self, source: Any) -> Any:
        out = self._fn(source)
        chex.assert_trees_all_equal_shapes_and_dtypes(out, self.out)
        return check_finite(f"output of the map given to {self.law}", out)

    def elements(self) -> dict[str, Elements]:
        """By unit space and shift, the part of the element there alone."""
        names = movable(self.spec, self.g)
        return {name: only(self.spec, self.g, name) for name in names}

    def moved(self, g: Elements) -> Any:
        return move(self.spec, g, self.source, f"input of {self.law}")

    def spread(self) -> Any:
        """By output entry, the standard deviation over unrelated inputs."""
        return jax.tree.map(
            lambda *outs: np.std(np.stack(outs), axis=0), self.out, *self.others
        )

    def varies(self) -> Control:
        spread = max(map(_rms, jax.tree.leaves(self.spread())), default=0.0)
        size = max((_rms(x) for x in jax.tree.leaves(self.others)), default=0.0)
        return Control(
            "the spread of the outputs over unrelated inputs",
            spread / size if size > 0 else 0.0,
            10 * self.tolerance,
            "A constant map obeys every such law. Check that the map reads its input "
            "and that its parameters are not zero.",
        )

    def moves(self) -> Control:
        return Control(
            "the change of the input under g",
            relative(self.moved(self.g), self.source),
            10 * self.tolerance,
            "The element moves nothing. Use an input that is not zero.",
        )

    def turns(self) -> Control:
        """Whether an element moves the output: else the law is invariance."""
        turned = move(self.spec, self.g, self.out, f"output of {self.law}")
        return Control(
            "the change of the output under g",
            relative(turned, self.out),
            10 * self.tolerance,
            "No element moves the output, so any invariant map would pass. Use "
            "assert_invariant, or parameters that are not zero.",
        )


def _rms(x: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(x)))))


def report(
    probe: Probe,
    statement: str,
    gap: Callable[[Elements], float],
    controls: tuple[Control, ...],
    advice: str,
) -> Report:
    parts = {name: gap(g) for name, g in probe.elements().items()}
    worst = max(parts, key=lambda name: parts[name])
    what = "unit space" if worst in probe.spec.space_by_name else "shift"
    return Report(
        probe.law,
        statement,
        gap(probe.g),
        probe.tolerance,
        parts,
        controls,
        f"{advice} The largest part is {what} {worst!r}.",
    )
