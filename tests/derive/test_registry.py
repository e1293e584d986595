"""What is derived of every registry network is its hand-written group, or larger."""

import functools

import jax
import jax.numpy as jnp
import pytest

from qejax import testing
from qejax.derive import Derived, derive_spec
from tests.registry import NETS, inputs_of, theta_of

LARGER = {
    # Written by hand: positive factors. Derived: flips of what `abs` reads, and any
    # invertible map between two layers with nothing between.
    "abs, then identity",
    # Derived: the sign of a whole stream, which layer norms with a scale turn around.
    "vit, class token",
    "post-norm",
    "post-norm, no residual, gated",
    "small transformer zoo",
    "language, layer norm without scale",
    # Derived: the sign of every coordinate, which RMS norms with a scale turn around.
    "language, rotary, grouped, gated",
}
"""Networks of which more is derived than was written by hand."""


@functools.cache
def derived_of(name: str) -> Derived:
    row = NETS[name]
    theta = theta_of(row.net.spec, 0)
    return derive_spec(
        row.net.apply, theta, inputs_of(row), samples=1, count_missing=False
    )


@pytest.mark.parametrize("name", NETS)
@pytest.mark.one_in(5)
def test_derived_and_written_agree(name: str) -> None:
    written = NETS[name].net.spec
    derived = derived_of(name)
    found = testing.same_group(written, derived.spec, theta_of(written, 0))
    assert found.a_in_b, found.message()
    assert found.equal == (name not in LARGER), found.message()
    assert derived.free == ()
    assert derived.unsupported == {}


@pytest.mark.parametrize("name", sorted(LARGER))
@pytest.mark.one_in(3)
def test_what_is_larger_keeps_the_function(name: str) -> None:
    row = NETS[name]
    theta, x = theta_of(row.net.spec, 1), inputs_of(row, 1)
    spec = derived_of(name).spec
    report = testing.function_kept(row.net.apply, spec, theta, x, jax.random.key(0))
    assert report.gap <= 1e-10, report.message()


def test_control_a_smaller_group_is_told_apart() -> None:
    row = NETS["unequal widths"]
    theta = theta_of(row.net.spec, 0)
    fewer = row.net.spec.permutations_only()
    found = testing.same_group(fewer, derived_of("unequal widths").spec, theta)
    assert (found.a_in_b, found.equal) == (True, False)


def test_control_another_function_has_another_group() -> None:
    row = NETS["unequal widths"]
    theta, x = theta_of(row.net.spec, 0), inputs_of(row)

    def shifted(theta: dict, x: jax.Array) -> jax.Array:
        hidden = theta | {"layer_00": {**theta["layer_00"]}}
        y = row.net.apply(hidden, x)
        return y + jnp.sum(jnp.exp(theta["layer_00"]["bias"]))

    spec = derive_spec(shifted, theta, x, samples=1, count_missing=False).spec
    found = testing.same_group(row.net.spec, spec, theta)
    assert (found.a_in_b, found.b_in_a) == (False, True)
