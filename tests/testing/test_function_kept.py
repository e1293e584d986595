"""The check passes on networks, and fails on wrong ones and on blind ones."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from qejax import testing
from tests.registry import MOVED, NETS, compiled, inputs_of, theta_of

KEY = jax.random.key(3)
ONE = NETS["one hidden layer"]
SPEC = ONE.net.spec
THETA, X = theta_of(SPEC, 0), inputs_of(ONE)


@pytest.mark.parametrize(
    "name",
    ["width one", "mixed", "cnn, uneven windows and strides, mixed", "residual cnn"],
)
def test_networks_of_the_registry_pass(name):
    spec = MOVED[name].net.spec
    args = compiled(name).apply, spec, theta_of(spec, 0), inputs_of(MOVED[name]), KEY
    report = testing.function_kept(*args, spread=1e4)
    report.check()
    assert report.gap <= report.tolerance == 1e-10
    assert set(report.parts) == {space.name for space in spec.spaces}
    assert report.control > 1
    assert "holds" in report.message()


def test_float32_has_its_own_tolerance():
    theta = theta_of(SPEC, 0, jnp.float32)
    x = inputs_of(ONE, dtype=jnp.float32)
    report = testing.function_kept(ONE.net.apply, SPEC, theta, x, KEY)
    assert report.tolerance == 1e-4
    report.check()
    assert (
        testing.function_kept(ONE.net.apply, SPEC, theta, x, KEY, tolerance=1e-12).gap
        > 1e-12
    )


def test_a_wrong_group_fails_and_names_the_space():
    wide = NETS["mixed"]
    spaces = tuple(
        replace(space, group="positive_scale")
        if space.group == "permutation"
        else space
        for space in wide.net.spec.spaces
    )
    (gelu,) = [s.name for s in wide.net.spec.spaces if s.group == "permutation"]
    spec = replace(wide.net.spec, spaces=spaces)
    with pytest.raises(
        AssertionError,
        match=rf"(?s)function_kept failed: apply\(act.*at most 1.0e-10, got .*"
        rf"unit space '{gelu}': their axes",
    ):
        testing.assert_function_kept(
            compiled("mixed").apply, spec, theta_of(spec, 0), inputs_of(wide), KEY
        )


def test_a_wrong_power_fails():
    leaves = tuple(
        replace(
            leaf,
            axes=tuple(
                replace(axis, power=-2) if axis.power == -1 else axis
                for axis in leaf.axes
            ),
        )
        for leaf in SPEC.leaves
    )
    with pytest.raises(AssertionError, match="function_kept failed"):
        testing.assert_function_kept(
            ONE.net.apply, replace(SPEC, leaves=leaves), THETA, X, KEY
        )


def test_a_constant_function_is_no_evidence():
    with pytest.raises(
        AssertionError,
        match=r"cannot tell: the variation of the outputs over x is 0.0e.00.*constant",
    ):
        testing.assert_function_kept(
            lambda theta, x: jnp.ones((x.shape[0], 2)), SPEC, THETA, X, KEY
        )


def test_dead_units_are_no_evidence():
    theta = {**THETA, "layer_00": jax.tree.map(jnp.abs, THETA["layer_00"])}
    theta["layer_00"] = {**theta["layer_00"], "bias": -100 * jnp.ones(5)}

    def apply(theta, x):
        skip = theta["layer_01"]["bias"][None] * x[:, :1]
        return ONE.net.apply(theta, x) + skip

    with pytest.raises(
        AssertionError, match=r"only the leaves that write 'hidden_0'.*are dead"
    ):
        testing.assert_function_kept(apply, SPEC, theta, X, KEY)


def test_zero_weights_are_no_evidence():
    zero = jax.tree.map(jnp.zeros_like, THETA)
    report = testing.function_kept(ONE.net.apply, SPEC, zero, X, KEY)
    assert not report.passed
    assert "the change of the weights under g is 0.0e+00" in report.message()


def test_a_network_without_hidden_units_has_nothing_to_check():
    row = NETS["linear, no hidden layer"]
    with pytest.raises(ValueError, match="nothing to check: expected a spec whose"):
        testing.function_kept(
            row.net.apply, row.net.spec, theta_of(row.net.spec, 0), inputs_of(row), KEY
        )


def test_outputs_need_a_row_for_each_input():
    with pytest.raises(AssertionError, match="shape"):
        testing.function_kept(
            lambda theta, x: ONE.net.apply(theta, x)[:2], SPEC, THETA, X, KEY
        )


def test_outputs_must_be_finite():
    with pytest.raises(AssertionError, match=r"outputs of apply.* should be finite"):
        testing.function_kept(
            lambda theta, x: ONE.net.apply(theta, x) / 0, SPEC, THETA, X, KEY
        )


def test_weights_must_fit():
    with pytest.raises(ValueError, match="theta does not fit its spec"):
        testing.function_kept(ONE.net.apply, SPEC, {}, X, KEY)
