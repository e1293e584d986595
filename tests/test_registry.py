from typing import Any

import numpy as np
import pytest

from qejax import spaces
from tests.registry import (
    DEAF,
    GROUPS,
    MLPS_AND_CNNS,
    MOVED,
    NETS,
    TRANSFORMERS,
    compiled,
    element_of,
    gap,
    inputs_of,
    theta_of,
)


def test_the_registry_is_large_enough():
    assert len(NETS) >= 14
    assert set(DEAF) | set(MOVED) == set(NETS)
    depths = {len(row.net.spec.spaces) for row in NETS.values()}
    assert {0, 1, 2, 3, 4, 5} <= depths
    assert {s.group for row in NETS.values() for s in row.net.spec.spaces} == set(
        GROUPS
    )
    degrees = {
        axis.power
        for row in NETS.values()
        for leaf in row.net.spec.leaves
        for axis in leaf.axes
    }
    assert {1, 0, -1, -2, -3} <= degrees


def test_transformers_are_of_every_kind():
    every: list[Any] = [row.net.config for row in TRANSFORMERS.values()]
    configs = [config for config in every if config.kind == "transformer"]
    assert {config.kind for config in every} == {"transformer", "lora"}

    def seen(field: str) -> set[object]:
        return {getattr(config, field) for config in configs}

    both = {True, False}
    for field in ("affine", "residual", "gated", "causal", "attention_bias"):
        assert seen(field) == both, field
    assert seen("norm") == {"layer", "rms", "none"}
    assert seen("placement") == {"pre", "post"}
    assert seen("position") == {"learned", "sine", "rotary", "none"}
    assert seen("pool") == {"mean", "class", "tokens"}
    assert seen("activation") >= {"relu", "gelu", "silu"}
    grouped = {c.attention_bias for c in configs if c.kv_heads != c.heads}
    assert grouped == both
    shifts = [s for row in TRANSFORMERS.values() for s in row.net.spec.shifts]
    assert {len(shift.routes) for shift in shifts} >= {0, 1, 2, 3}


@pytest.mark.parametrize("name", MLPS_AND_CNNS)
def test_rows_are_alive(name):
    """A dead network keeps its function under anything.

    Of transformers, `function_kept` says so by its controls.
    """
    row = NETS[name]
    theta = theta_of(row.net.spec, 0)
    spaces.check_theta(row.net.spec, theta)
    y = np.asarray(compiled(name).apply(theta, inputs_of(row)))
    assert np.all(np.ptp(y, axis=0) > 1e-4)


@pytest.mark.parametrize("name", MOVED)
def test_the_second_sampler_draws_elements_of_the_group(name):
    spec = NETS[name].net.spec
    spaces.check_elements(spec, element_of(spec, 3))


def test_gap_is_relative_and_strict():
    assert gap({"a": np.array([2.0, 4.0])}, {"a": np.array([2.0, 5.0])}) == 0.2
    with pytest.raises(AssertionError):
        gap({"a": np.array([np.nan])}, {"a": np.array([np.nan])})
