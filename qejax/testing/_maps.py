"""Is a map of weights or of features invariant, or strictly equivariant?

Maps take weights (a tree with the leaves of the spec) or features (leaves by path with
channels behind). Differences are measured after taking the output back by the inverse
element, so that scales neither hide an entry nor blow it up: relative to the largest
entry of a leaf for equivariance, entry by entry for invariance.
"""

from collections.abc import Callable
from typing import Any

from qejax._typing import PRNGKeyArray
from qejax.spaces import Elements, WeightSpec
from qejax.testing._draws import inv, move
from qejax.testing._probe import Probe, report
from qejax.testing._report import Report, relative, relative_entries


def invariant(
    fn: Callable[[Any], Any],
    spec: WeightSpec,
    theta: Any,
    key: PRNGKeyArray,
    *,
    spread: float = 10.0,
    tolerance: float | None = None,
) -> Report:
    """Reports how far `fn(act(spec, g, theta))` is from `fn(theta)`.

    The gap is relative to the spread of `fn` over unrelated weights of the same sizes,
    entry by entry; an entry that spreads less than 1e-3 (float32: 3e-2) of the most in
    its leaf counts as that much. Controls: that spread is not zero, and the element
    moves the weights.

    Args:
        fn: `theta -> y`, a tree of arrays.
        spec: of `theta`.
        theta: weights of one network, or features of it.
        key: consumed.
        spread: positive scales are drawn from `[1 / spread, spread]`.
        tolerance: of the gap; 1e-10 in float64 and 1e-4 in float32 by default.

    Returns:
        The numbers; `report.passed`, `report.message()`.

    Raises:
        ValueError: if `theta` does not fit `spec`, or nothing in it can be moved.
        AssertionError: if `fn` returns other shapes, dtypes or non-finite numbers.
    """
    probe = Probe("invariant", fn, spec, theta, key, spread, tolerance)
    size = probe.spread()
    return report(
        probe,
        "fn(act(spec, g, theta)) == fn(theta), relative to the spread of fn over "
        "unrelated weights",
        lambda g: relative_entries(probe.run(probe.moved(g)), probe.out, size),
        (probe.moves(), probe.varies()),
        "Look for raw entries, statistics that scales change, an additive epsilon, or "
        "the order of units.",
    )


def equivariant(
    fn: Callable[[Any], Any],
    spec: WeightSpec,
    feats: Any,
    key: PRNGKeyArray,
    *,
    spread: float = 10.0,
    tolerance: float | None = None,
) -> Report:
    """Reports how far `inv(g) fn(g u)` is from `fn(u)`: strict equivariance.

    The gap is relative to the largest entry of `fn(u)` in each leaf, so entries below
    the tolerance times that are not seen. Controls: `g` moves the input and the output,
    and the output differs over unrelated inputs. A map whose output no element moves is
    invariant, and fails here.

    Args:
        fn: from weights or features of the spec to weights or features of it.
        spec: of both.
        feats: the input, `u`: weights of one network, or features by leaf path.
        key: consumed.
        spread: as `invariant`.
        tolerance: as `invariant`.

    Returns:
        The numbers.

    Raises:
        ValueError: if the input or the output does not fit `spec`.
        AssertionError: as `invariant`.
    """
    probe = Probe("equivariant", fn, spec, feats, key, spread, tolerance)

    def gap(g: Elements) -> float:
        out = probe.run(probe.moved(g))
        back = move(spec, inv(spec, g), out, "output of equivariant")
        return relative(back, probe.out)

    return report(
        probe,
        "inv(g) fn(g u) == fn(u), leaf by leaf",
        gap,
        (
            probe.moves(),
            probe.varies(),
            probe.turns(),
        ),
        "Look for a bias or a nonlinearity on axes that scales or signs move, and for "
        "terms that mix entries of different powers.",
    )


def assert_invariant(
    fn: Callable[[Any], Any],
    spec: WeightSpec,
    theta: Any,
    key: PRNGKeyArray,
    **options: Any,
) -> None:
    """Raises unless `fn` is invariant and not constant; arguments as `invariant`.

    Raises:
        AssertionError: names the gap by unit space, or the control that saw nothing.
    """
    invariant(fn, spec, theta, key, **options).check()


def assert_equivariant(
    fn: Callable[[Any], Any],
    spec: WeightSpec,
    feats: Any,
    key: PRNGKeyArray,
    **options: Any,
) -> None:
    """Raises unless `fn` is strictly equivariant; arguments as `equivariant`.

    Raises:
        AssertionError: names the gap by unit space, or the control that saw nothing.
    """
    equivariant(fn, spec, feats, key, **options).check()
