"""What the tests of points on an orbit share: the function is kept, units are told."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from qejax.spaces import Elements, WeightSpec
from tests.registry import NETS, compiled, inputs_of


def function_gap(name: str, theta: Any, other: Any) -> float:
    """How far outputs of a network of the registry change.

    Relative to each output over the data: its constant part would hide a gap.
    """
    x, run = inputs_of(NETS[name]), compiled(name)
    before, after = np.asarray(run.apply(theta, x)), np.asarray(run.apply(other, x))
    size = np.max(np.abs(before - before.mean(0, keepdims=True)), axis=0)
    assert np.all(np.isfinite(after))
    return float(np.max(np.abs(after - before) / size))


def weight_gap(theta: Any, other: Any) -> float:
    """Largest difference of any weight."""
    pairs = zip(jax.tree.leaves(theta), jax.tree.leaves(other), strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in pairs)


def square(theta: Any) -> float:
    """Squared norm of all weights."""
    return float(sum(jnp.sum(x * x) for x in jax.tree.leaves(theta)))


def finite(tree: Any) -> bool:
    """Whether every entry is."""
    return all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(tree))


def alone(spec: WeightSpec, g: Elements, fields: tuple[str, ...]) -> Elements:
    """Of an element, some fields of the groups that permute; all else stays put."""
    one = spaces.identity(spec, jnp.float64)
    for name, own in g.items():
        own_fields = getattr(own, "_fields", ())
        kept = {field: getattr(own, field) for field in fields if field in own_fields}
        one[name] = one[name]._replace(**kept) if kept else one[name]
    return one


def slow_unless(name: str, quick: tuple[str, ...]) -> Any:
    """A parameter that is slow unless it is one of the quick ones."""
    return pytest.param(name, marks=[] if name in quick else [pytest.mark.slow])
