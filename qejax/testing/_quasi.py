"""Is a map quasi-equivariant: does it take one function to one function?"""

from collections.abc import Callable
from typing import Any

from qejax import spaces
from qejax._typing import Array, PRNGKeyArray
from qejax.spaces import Elements, WeightSpec
from qejax.testing._draws import inv, move
from qejax.testing._probe import Probe, report
from qejax.testing._report import Report, relative


def quasi_equivariant(
    fn: Callable[[Any], Any],
    spec: WeightSpec,
    theta: Any,
    key: PRNGKeyArray,
    *,
    alpha: Callable[[Any], Elements] | None = None,
    apply: Callable[[Any, Array], Any] | None = None,
    x: Array | None = None,
    spread: float = 10.0,
    tolerance: float | None = None,
) -> Report:
    """Reports how far `fn(g u)` is from `g' fn(u)` for some `g'` of the group.

    Two ways to say which `g'`. With `alpha`, the group-valued factor of
    `fn(u) = alpha(u) beta(u)`: `g' = alpha(g u) g inv(alpha(u))`. With `apply` and `x`,
    for maps to weights, none is needed: `fn(g u)` and `fn(u)` are the same function.
    The strict map is the case `g' = g`, so it passes too.

    Args:
        fn: from weights or features to weights or features of the spec.
        spec: of both.
        theta: the input `u`.
        key: consumed.
        alpha: `u -> ` one element per unit space, as `fn` uses it.
        apply: `(weights, x) -> y [N, ...]`, the network that the spec describes.
        x: `[N, ...]`, data for it.
        spread: as `invariant`.
        tolerance: as `invariant`.

    Returns:
        The numbers.

    Raises:
        ValueError: unless exactly one of `alpha`, and `apply` with `x`, is given.
        AssertionError: as `invariant`.

    Source:
        Tran et al. 2026, arXiv:2604.23720 (quasi-equivariance).
    """
    if (alpha is None) == (apply is None) or (apply is None) != (x is None):
        raise ValueError(
            "quasi_equivariant needs to know which g' is meant: expected either "
            f"`alpha`, or `apply` and `x`; got alpha={alpha is not None}, "
            f"apply={apply is not None}, x={x is not None}."
        )
    law = "quasi_equivariant"
    if alpha is not None:
        probe = Probe(law, fn, spec, theta, key, spread, tolerance)
        return _with_alpha(probe, alpha)

    def function(u: Any) -> Any:
        assert apply is not None
        assert x is not None
        return apply(fn(u), x)

    probe = Probe(law, function, spec, theta, key, spread, tolerance)
    size = probe.spread()
    return report(
        probe,
        "apply(fn(g theta), x) == apply(fn(theta), x), relative to the spread over "
        "unrelated weights",
        lambda g: relative(probe.run(probe.moved(g)), probe.out, size),
        (probe.moves(), probe.varies()),
        "The factor between fn(g u) and g fn(u) is no element of the group: look at "
        "what multiplies units, and at terms added after it.",
    )


def _with_alpha(probe: Probe, alpha: Callable[[Any], Elements]) -> Report:
    spec, start = probe.spec, alpha(probe.source)
    spaces.check_elements(spec, start)

    def gap(g: Elements) -> float:
        source = probe.moved(g)
        other = spaces.mul(spec, g, inv(spec, start))
        other = spaces.mul(spec, alpha(source), other)
        back = inv(spec, other)
        out = move(spec, back, probe.run(source), f"output of {probe.law}")
        return relative(out, probe.out)

    return report(
        probe,
        "inv(g') fn(g u) == fn(u) with g' = alpha(g u) g inv(alpha(u)), leaf by leaf",
        gap,
        (
            probe.moves(),
            probe.varies(),
            probe.turns(),
        ),
        "Check that fn applies this alpha to a strictly equivariant map.",
    )


def assert_quasi_equivariant(
    fn: Callable[[Any], Any],
    spec: WeightSpec,
    theta: Any,
    key: PRNGKeyArray,
    **options: Any,
) -> None:
    """Raises unless `fn` is quasi-equivariant; arguments as `quasi_equivariant`.

    Raises:
        AssertionError: names the gap by unit space, or the control that saw nothing.
    """
    quasi_equivariant(fn, spec, theta, key, **options).check()
