"""The checks on an attention layer: matrices for each head, and shifts of biases."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces, testing
from qejax.nets._attention import attend
from qejax.spaces import Wire
from qejax.testing._draws import act_one_sided, draw_elements, movable, only
from tests.layer_specs import fast_jit
from tests.registry import theta_of

KEY = jax.random.key(5)
SPEC = spaces.attention("", Wire(3), Wire(2), heads=2, head_dim=2).spec()
NAMES = ["heads", "vo", "qk", "key_shift", "value_shift"]
THETA = theta_of(SPEC, 0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 3)))
run = fast_jit(attend)


def outputs(theta: Any) -> Any:
    return run(theta, X)


def silenced(layer: str) -> Any:
    return {**THETA, layer: jax.tree.map(jnp.zeros_like, THETA[layer])}


def test_every_space_and_shift_is_checked():
    report = testing.function_kept(run, SPEC, THETA, X, KEY, spread=100.0)
    report.check()
    assert sorted(report.parts) == sorted(NAMES)
    # Nothing reads a key bias: there is no other side to leave out.
    assert len(report.controls) == 2 + len(NAMES) - 1
    assert not any("key_shift" in control.name for control in report.controls)


def test_a_key_shift_is_no_evidence_where_keys_are_squared():
    def apply(theta: Any, x: Any) -> Any:
        return run(theta, x) + jnp.sum(theta["key"]["bias"] ** 2)

    with pytest.raises(AssertionError, match=r"Look at shift 'key_shift': whether all"):
        testing.assert_function_kept(apply, SPEC, THETA, X, KEY)


def test_dead_readers_of_a_shift_are_no_evidence():
    theta = silenced("out")
    theta["out"]["bias"] = jnp.ones(2)

    def apply(theta: Any, x: Any) -> Any:
        return run(theta, x) + x[..., :2]

    with pytest.raises(
        AssertionError, match=r"shift 'value_shift' is added without its routes is 0"
    ):
        testing.assert_function_kept(apply, SPEC, theta, X, KEY)


def test_invariant_maps():
    testing.assert_invariant(outputs, SPEC, THETA, KEY)


def test_a_raw_bias_is_not_invariant():
    with pytest.raises(AssertionError, match="The largest part is shift 'value_shift'"):
        testing.assert_invariant(
            lambda theta: outputs(theta) + theta["out"]["bias"].sum(), SPEC, THETA, KEY
        )


def test_sensitive_maps_need_not_see_what_nothing_reads():
    report = testing.sensitive(outputs, SPEC, THETA, KEY)
    report.check()
    names = [control.name for control in report.controls]
    assert len(names) == 1 + (len(SPEC.leaves) - 1) + (len(NAMES) - 1)
    assert not any("'key/bias'" in name or "key_shift" in name for name in names)


def test_a_map_without_values_is_not_sensitive():
    fixed = THETA["value"]
    with pytest.raises(
        AssertionError,
        match=r"(?s)'value/bias' is redrawn.*shift 'value_shift' is added without its",
    ):
        testing.assert_sensitive(
            lambda theta: outputs({**theta, "value": fixed}), SPEC, THETA, KEY
        )


@fast_jit
def gauged(theta: Any) -> Any:
    """Another point of the orbit, by a shift that depends on the weights."""
    moved = jnp.tanh(theta["value"]["bias"].sum())
    key = {**theta["key"], "bias": theta["key"]["bias"] + moved}
    return {**theta, "key": key}


def test_a_map_along_a_shift_is_quasi_equivariant():
    testing.assert_quasi_equivariant(gauged, SPEC, THETA, KEY, apply=run, x=X)


def test_features_of_channels_are_not_shifted():
    feats = {leaf.path: jnp.ones((*leaf.view, 2)) for leaf in SPEC.leaves}
    with pytest.raises(ValueError, match="act_features: expected a spec without shif"):
        testing.assert_equivariant(lambda feats: feats, SPEC, feats, KEY)


def test_draws_move_all_that_can_be_moved():
    draws = [  # Two heads: every second draw would leave them.
        draw_elements(jax.random.key(seed), SPEC, 10.0, jnp.float64)
        for seed in range(4)
    ]
    for g in draws:
        spaces.check_elements(SPEC, g)
        assert movable(SPEC, g) == NAMES
    g = draws[0]
    for name in NAMES:
        assert movable(SPEC, only(SPEC, g, name)) == [name]
    assert movable(SPEC, spaces.identity(SPEC)) == []


MOVED = {
    # Who writes heads: all but what reads them, and the bias behind.
    "heads": {"query", "key", "value"},
    "qk": {"query"},
    "vo": {"value"},
    "key_shift": {"key"},
    "value_shift": {"value"},
}


@pytest.mark.parametrize("name", NAMES)
def test_one_side_moves_the_writers_alone(name):
    g = draw_elements(KEY, SPEC, 10.0, jnp.float64)
    moved = act_one_sided(SPEC, g, name, THETA)
    layers = {
        layer
        for layer in THETA
        if any(
            not np.array_equal(moved[layer][part], THETA[layer][part])
            for part in THETA[layer]
        )
    }
    assert layers == MOVED[name]
    if "shift" in name:
        layer = THETA[next(iter(layers))]
        changed = moved[next(iter(layers))]
        np.testing.assert_array_equal(changed["kernel"], layer["kernel"])
        np.testing.assert_array_equal(changed["bias"], layer["bias"] + g[name])
