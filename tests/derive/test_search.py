"""No derived group changes a function: random programs, and modules of others.

A part of what `python -m benchmarks.derived` runs over; its results are committed.
"""

from typing import Any

import jax
import numpy as np
import pytest

from qejax.derive import _rules, derive_spec
from qejax.derive._elementwise import Law, mapped
from tests.derive.architectures import ARCHITECTURES, apply_of, variables_of
from tests.derive.programs import program

PROGRAMS = 30

QUICK = (
    *("mlp_mixer", "resnet", "unet", "squeeze_excite", "densenet", "gpt2", "gemma"),
    *("llama", "scanned_transformer", "soft_experts", "lstm_tagger", "weight_norm_mlp"),
    "film",
)
"""Architectures of every run of the tests; the others are slow."""


@pytest.mark.parametrize("seed", range(PROGRAMS))
@pytest.mark.one_in(2)
def test_random_programs_keep_their_function(seed: int) -> None:
    one = program(seed)
    derived = derive_spec(one.apply, one.theta, *one.inputs, count_missing=False)
    assert derived.free == ()
    assert derived.spec.num_parameters == sum(
        leaf.size for leaf in jax.tree.leaves(one.theta)
    )


def test_control_a_wrong_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were `gelu` and `silu` thought to be odd, the search would say so."""

    def wrong(ledger: Any, site: Any, values: Any) -> Any:
        return [mapped(ledger, values[0], Law(None, "odd"))]

    for name in ("logistic", "exp", "erfc", "log1p"):
        monkeypatch.setitem(_rules.RULES, name, wrong)
    found = 0
    for seed in range(PROGRAMS):
        one = program(seed)
        try:
            derive_spec(one.apply, one.theta, *one.inputs, count_missing=False)
        except AssertionError:
            found += 1
    assert found >= 2


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in ARCHITECTURES
    ],
)
@pytest.mark.one_in(3)
def test_architectures_of_others_keep_their_function(name: str) -> None:
    row = ARCHITECTURES[name]
    theta = variables_of(row, 0)
    derived = derive_spec(apply_of(row), theta, *row.inputs(0), count_missing=False)
    assert derived.unsupported == {}
    moved = {
        leaf.path
        for leaf in derived.spec.leaves
        if any(axis.space is not None for axis in leaf.axes)
    }
    assert moved, "no unit space was found"


def test_quick_rows_exist() -> None:
    assert set(QUICK) <= set(ARCHITECTURES)


def test_experts_and_heads_have_elements_of_their_own() -> None:
    row = ARCHITECTURES["soft_experts"]
    spec = derive_spec(
        apply_of(row), variables_of(row, 0), *row.inputs(0), count_missing=False
    ).spec
    per = [space for space in spec.spaces if space.per is not None]
    assert any(space.size > 1 for space in per)
    assert np.all([spec.space_by_name[str(s.per)].group == "permutation" for s in per])
