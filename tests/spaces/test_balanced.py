"""Balanced heads: the same function, and as well conditioned as it allows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from tests.registry import (
    NETS,
    RTOL,
    compiled,
    element_of,
    gap,
    inputs_of,
    theta_of,
)

NAME = "no norm"
SPEC = NETS[NAME].net.spec
FREE = spaces.settled_spec(SPEC)


def test_the_function_is_kept() -> None:
    theta, x = theta_of(SPEC, 0), inputs_of(NETS[NAME])
    heads = {space.name for space in SPEC.spaces if space.group == "general_linear"}
    alone = spaces.WeightSpec(
        tuple(s for s in SPEC.spaces if s.name in heads or s.name.endswith("heads")),
        tuple(
            spaces.Leaf(
                leaf.path,
                tuple(
                    axis
                    if axis.space in heads or str(axis.space).endswith("heads")
                    else spaces.Axis(axis.size)
                    for axis in leaf.axes
                ),
                leaf.shape,
            )
            for leaf in SPEC.leaves
        ),
    )
    balanced = spaces.balanced(alone, theta)
    assert gap(balanced, theta) > 1e-2
    run = compiled(NAME)
    assert gap(run.apply(balanced, x), run.apply(theta, x)) <= RTOL


def test_any_spec_will_do_and_its_network_runs_the_result() -> None:
    theta, x, run = theta_of(SPEC, 0), inputs_of(NETS[NAME]), compiled(NAME)
    balanced = spaces.balanced(SPEC, theta)
    assert gap(balanced, theta) > 1e-2
    assert gap(run.apply(balanced, x), run.apply(theta, x)) <= RTOL
    settled = spaces.settled(SPEC, theta)
    with pytest.raises(ValueError, match="first difference is at"):
        NETS[NAME].net.apply(spaces.balanced(FREE, settled), x)
    normal = spaces.restore(SPEC, spaces.canonical_form(SPEC, theta))
    assert gap(run.apply(normal, x), run.apply(theta, x)) <= RTOL


def test_both_sides_have_the_same_singular_values_on_the_whole_orbit() -> None:
    theta = theta_of(FREE, 0)
    moved = spaces.act(FREE, element_of(FREE, 0, 1.0), theta)
    found = [
        _squares(spaces.balanced(FREE, one)["block_00"]["attention"])
        for one in (theta, moved)
    ]
    query, key = found[0]
    np.testing.assert_allclose(query, key, rtol=1e-10)
    np.testing.assert_allclose(
        np.sort(found[1][0], None), np.sort(query, None), rtol=1e-10
    )
    raw = _squares(theta["block_00"]["attention"])
    assert gap(raw[0], raw[1]) > 1e-2


def _squares(attention: dict[str, dict[str, jax.Array]]) -> list[np.ndarray]:
    """Square norms of the columns of queries with their biases, and of keys."""
    found = []
    for part in ("query", "key"):
        square = jnp.sum(attention[part]["kernel"] ** 2, 0)
        found.append(np.asarray(square + attention[part].get("bias", 0.0) ** 2))
    return found


def test_nothing_to_balance() -> None:
    spec = NETS["mixed"].net.spec
    theta = theta_of(spec, 0)
    assert spaces.balanced(spec, theta) is theta
    with pytest.raises(ValueError, match="first difference is at"):
        spaces.balanced(FREE, {})
