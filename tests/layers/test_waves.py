"""Weights at frequencies: leaves that the group moves as all others."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import layers, nets, spaces
from tests.layer_specs import SPECS, compiled_act, fast_jit, random_module
from tests.registry import NETS, RTOL

NAMES = ("mlp-permutation", "mlp-sign", "residual-sign", "conv-sign", "mixed")
MODULES = {"leaves": layers.InputWaves, "features": layers.WaveFeatures}


def module_of(kind: str, spec: spaces.WeightSpec, waves: int = 5) -> Any:
    sizes = {"leaves": (waves,), "features": (waves, 3)}[kind]
    return random_module(
        lambda: MODULES[kind](spec, *sizes, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    )


def leaves_of(spec: spaces.WeightSpec) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {leaf.path: jnp.asarray(rng.normal(size=leaf.view)) for leaf in spec.leaves}


def moved(kind: str, spec: spaces.WeightSpec, g: Any, found: Any) -> Any:
    """What the group makes of leaves, or of features channel by channel."""
    if kind == "leaves":
        return compiled_act(spec)(g, found)
    return spaces.act_features(spec, g, found)


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("name", NAMES)
def test_waves_move_with_their_weights(name: str, kind: str) -> None:
    spec = SPECS[name]
    module = module_of(kind, spec)
    run = fast_jit(module.__call__)
    leaves = leaves_of(spec)
    g = spaces.sample(jax.random.key(0), spec, dtype=jnp.float64)
    after = run(compiled_act(spec)(g, leaves))
    wanted = moved(kind, module.spec, g, run(leaves))
    assert set(after) == set(module.spec.leaf_by_path)
    for path, x in wanted.items():
        np.testing.assert_allclose(after[path], x, RTOL, 1e-13, err_msg=path)


def test_sines_taken_for_even_are_caught() -> None:
    """The control: sines in the place of the leaf that no sign flips."""
    spec = SPECS["mlp-sign"]
    module = module_of("leaves", spec)
    leaves = leaves_of(spec)
    g = spaces.sample(jax.random.key(0), spec, dtype=jnp.float64)
    found = module(leaves)
    found["layer_00/kernel@cos"] = found["layer_00/kernel@sin"]
    wrong = compiled_act(module.spec)(g, found)["layer_00/kernel@cos"]
    right = module(compiled_act(spec)(g, leaves))["layer_00/kernel@sin"]
    assert float(jnp.abs(wrong - right).max()) > 1e-2


def test_weights_that_read_inputs_and_no_others() -> None:
    spec = nets.mlp_spec((4, 3, 3, 2), activation="tanh")
    added = module_of("leaves", spec).spec.leaves[len(spec.leaves) :]
    assert [leaf.path for leaf in added] == [
        "layer_00/kernel@sin",
        "layer_00/kernel@cos",
    ]
    assert {leaf.view for leaf in added} == {(5, 3)}


def test_units_with_scales_have_none() -> None:
    """No frequency is the same for all scales of a weight."""
    spec = nets.mlp_spec((4, 3, 2), activation="relu")
    for kind in MODULES:
        assert module_of(kind, spec).spec == spec


@pytest.mark.parametrize("kind", MODULES)
def test_no_waves_change_nothing(kind: str) -> None:
    spec = SPECS["mlp-sign"]
    module, leaves = module_of(kind, spec, waves=0), leaves_of(spec)
    found = module(leaves)
    assert module.spec == spec
    for path, x in leaves.items():
        np.testing.assert_array_equal(found[path].reshape(x.shape), x)


def test_of_units_is_what_was_added() -> None:
    spec = SPECS["mlp-sign"]
    module, leaves = module_of("leaves", spec), leaves_of(spec)
    found, units = module(leaves), module.of_units(leaves)
    assert module.width == {"hidden_0": 10}
    assert list(units) == ["hidden_0"]
    both = [found[f"layer_00/kernel@{wave}"].T for wave in ("sin", "cos")]
    np.testing.assert_array_equal(units["hidden_0"], jnp.concatenate(both, -1))


@pytest.mark.parametrize("kind", MODULES)
def test_a_negative_number_is_named(kind: str) -> None:
    message = "WaveFeatures: expected waves of at least 0, got -1"
    with pytest.raises(ValueError, match=message):
        module_of(kind, SPECS["mlp-sign"], waves=-1)


@pytest.mark.parametrize("kind", MODULES)
def test_units_that_turn_are_named(kind: str) -> None:
    """Nothing would be added to them without a word; settled ones have waves."""
    spec = nets.mlp_spec((4, 3, 2), activation="sine(2)")
    with pytest.raises(ValueError, match="WaveFeatures: expected units without phases"):
        module_of(kind, spec)
    settled = spaces.settled_spec(spec)
    added = len(module_of(kind, settled).spec.leaves) - len(settled.leaves)
    assert added == 2


def test_what_is_read_of_a_transformer() -> None:
    """Tables that write the stream; in an order of units alone what reads none, too."""
    spec = spaces.settled_spec(NETS["vit, class token"].net.spec)
    tables = ["embed/kernel", "position/embedding"]
    biases = ["block_00/attention/query/bias"]
    for one, wanted in ((spec, tables), (spec.permutations_only(), tables + biases)):
        assert [leaf.path for leaf in module_of("leaves", one).read] == wanted
