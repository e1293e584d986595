"""Adapters of an unknown network: what they add, and errors of their configuration."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, testing
from tests.layer_specs import fast_jit
from tests.nets.drawing import drawn

NET = nets.lora([("h.0.q", 4, 6, 2), ("h.0.v", 4, 3, 1)], (3, 0.5))


def test_it_is_the_change_of_adapters_of_a_known_network() -> None:
    base = nets.mlp((4, 5, 3))
    weights = drawn(base.spec.template(jnp.float64), 1)
    known = nets.adapter(base, weights, 2, alpha=6)
    free = nets.lora([("layer_00", 4, 5, 2), ("layer_01", 5, 3, 2)], 3)
    assert free.spec == known.spec
    theta = drawn(free.spec.template(jnp.float64))
    merged = known.merge(theta)
    for layer, change in free.changes(theta).items():
        kernel = jnp.asarray(weights[layer]["kernel"], jnp.float32)
        np.testing.assert_allclose(
            merged[layer]["kernel"] - kernel.astype(jnp.float64), change, atol=1e-12
        )


def test_outputs_are_those_of_the_changes() -> None:
    theta = drawn(NET.spec.template(jnp.float64))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 8)))
    changes = NET.changes(theta)
    expected = [x[:, :4] @ changes["h.0.q"], x[:, 4:] @ changes["h.0.v"]]
    np.testing.assert_allclose(NET.apply(theta, x), jnp.concatenate(expected, 1))
    outputs, units = NET.units(theta, x)
    assert units == {}
    assert outputs.shape == (5, 9)
    q = theta["h.0.q"]
    np.testing.assert_allclose(changes["h.0.q"], 3 * q["lora_a"] @ q["lora_b"])


def test_the_group_is_seen_module_by_module() -> None:
    theta = drawn(NET.spec.template(jnp.float64))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 8)))
    report = testing.function_kept(
        fast_jit(NET.apply), NET.spec, theta, x, jax.random.key(0)
    )
    assert report.passed, report.message()
    assert sorted(report.parts) == ["h.0.q.lora_a", "h.0.v.lora_a"]


def test_adapters_add_nothing_at_the_start() -> None:
    net = nets.lora([("q", 400, 30, 20)])
    theta = net.init(jax.random.key(0))
    assert not net.changes(theta)["q"].any()
    assert float(jnp.std(theta["q"]["lora_a"])) == pytest.approx(0.05, rel=0.05)


def test_configurations_survive_json() -> None:
    again = nets.build(json.loads(json.dumps(NET.config.to_dict())))
    assert again == NET
    assert hash(again) == hash(NET)
    assert again.spec == NET.spec


@pytest.mark.parametrize(
    ("modules", "scale", "message"),
    [
        ((), 1, "lora modules: expected .* of at least one module, .* got"),
        ([("a/b", 1, 1, 1)], 1, "different names without a slash, got"),
        ([("a", 1, 1, 1)] * 2, 1, "different names without a slash, got"),
        ([(1, 1, 1, 1)], 1, "different names without a slash, got"),
        (["abc"], 1, "different names without a slash, got"),
        ([("a", 1, 1)], 1, "lora module 'a': expected inputs, outputs and a rank"),
        ([("a", 3, 2, 3)], 1, r"a rank that is at most both, got \(3, 2, 3\)"),
        ([("a", 0, 2, 3)], 1, "lora module 'a': sizes should be integers"),
        ([("a", 1, 1, 1)], 0, "lora scale: expected numbers that are not zero, got 0"),
        ([("a", 1, 1, 1)], float("nan"), "lora scale: expected numbers that are not"),
        ([("a", 1, 1, 1)], (1, 2), "lora scale: expected one entry for all or one"),
    ],
)
def test_bad_configurations_are_named(modules: Any, scale: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.lora(modules, scale)


def test_inputs_of_another_width_are_named() -> None:
    theta = NET.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"lora: expected the inputs of 2 modules"):
        NET.apply(theta, jnp.ones((5, 7), jnp.float32))
