"""Models of networks with cut arrays: the laws of those without."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import models, spaces, testing
from tests.cut_networks import CUT, cut_inputs, cut_theta
from tests.layer_specs import fast_jit, random_module, relative_gap
from tests.registry import RTOL, element_of, gap

KINDS = tuple(models.TRUNKS)
# Every kind and every network; all pairs are slow.
USUAL = {(kind, tuple(CUT)[i % len(CUT)]) for i, kind in enumerate(KINDS)}
CASES = [
    pytest.param(kind, name, marks=[] if (kind, name) in USUAL else [pytest.mark.slow])
    for kind in KINDS
    for name in CUT
]
SMALL: dict[str, Any] = {
    "embed": 8,
    "hidden": 8,
    "heads": 2,
    "rank": 2,
    "carried": 3,
    "depth": 1,
    "precision": "float64",
}


@functools.cache
def act(name: str) -> Any:
    return fast_jit(functools.partial(spaces.act, CUT[name].spec))


def predictor(kind: Any, name: str, **options: Any) -> Any:
    config = models.PredictorConfig(**{**SMALL, **options})
    spec = CUT[name].spec
    return random_module(
        lambda: models.Predictor(spec, 4, kind, config=config, rngs=nnx.Rngs(0))
    )


def along_and_across(name: str, model: Any) -> tuple[float, float]:
    """Largest change along the orbits over the spread of unrelated networks."""
    spec = CUT[name].spec
    plain = [cut_theta(spec, seed) for seed in range(4)]
    moved = [act(name)(element_of(spec, s, 100.0), t) for s, t in enumerate(plain)]
    run = fast_jit(jax.vmap(model))
    here, there = (np.asarray(run(_stack(each))) for each in (plain, moved))
    assert np.all(np.isfinite(here))
    spread = here.std()
    return float(np.abs(here - there).max() / spread), float(spread)


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


@pytest.mark.parametrize(("kind", "name"), CASES)
@pytest.mark.one_in(4)
def test_predictors_do_not_see_the_point_of_the_orbit(kind: str, name: str) -> None:
    change, spread = along_and_across(name, predictor(kind, name))
    assert spread > 1e-4
    assert change <= RTOL


@pytest.mark.parametrize("name", ["fused attention", "concatenation"])
@pytest.mark.one_in(2)
def test_every_reading_of_the_spec_alone(name: str) -> None:
    has_heads = spaces.has_matrices(CUT[name].spec)
    names = ["canonical", "log_norms", *(["spectra"] if has_heads else [])]
    options = {"statistics": tuple(names), "sketches": ("classes",)}
    model = predictor("canonical", name, **options)
    change, spread = along_and_across(name, model)
    assert spread > 1e-4
    assert change <= RTOL


def test_raw_weights_are_caught() -> None:
    """A control: what reads weights as they are."""
    name = "concatenation"
    flat = models.FlatMLP(CUT[name].spec, (8,), precision="float64", rngs=nnx.Rngs(0))
    change, spread = along_and_across(name, flat)
    assert spread > 1e-4
    assert change > 1e-3


@pytest.mark.parametrize("name", ["fused attention", "stacked layers"])
@pytest.mark.one_in(2)
def test_predictors_see_every_part(name: str) -> None:
    model = fast_jit(predictor("canonical", name))
    theta = cut_theta(CUT[name].spec, 0)
    testing.assert_sensitive(model, CUT[name].spec, theta, jax.random.key(0))
    with pytest.raises(AssertionError, match="is redrawn"):
        testing.assert_sensitive(
            lambda t: jnp.sum(jax.tree.leaves(t)[0]),
            CUT[name].spec,
            theta,
            jax.random.key(0),
        )


EDITS = [
    ("fused attention", "canonical"),
    ("concatenation", "strict"),
    ("concatenation", "gauge"),
    ("stacked layers", "relative"),
    ("stacked layers", "canonical"),
    ("stacked sines", "strict"),
    ("stacked sines", "signed"),
]


@pytest.mark.parametrize(("name", "kind"), EDITS)
@pytest.mark.one_in(3)
def test_one_function_has_one_edit(name: str, kind: Any) -> None:
    row = CUT[name]
    config = models.EditorConfig(depth=1, rank=2, hidden=6, precision="float64")
    edit = fast_jit(
        random_module(
            lambda: models.Editor(row.spec, 2, kind, config=config, rngs=nnx.Rngs(0))
        )
    )
    theta, g, x = (
        cut_theta(row.spec, 0),
        element_of(row.spec, 0, 100.0),
        cut_inputs(row),
    )
    edited, of_moved = edit(theta), edit(act(name)(g, theta))
    y = row.apply(edited, x)
    assert gap(row.apply(of_moved, x), y) <= RTOL
    assert gap(y, row.apply(theta, x)) > 1e-3
    if kind in ("strict", "relative", "signed"):
        assert relative_gap(act(name)(g, edited), of_moved) <= RTOL


def test_a_saved_predictor_reads_the_same(tmp_path: Any) -> None:
    name = "concatenation"
    model = predictor("canonical", name)
    again = models.load(models.save(model, tmp_path / "model"))
    assert again.spec == model.spec
    theta = cut_theta(CUT[name].spec, 0)
    assert float(fast_jit(again)(theta)) == float(fast_jit(model)(theta))


def test_the_last_kernel_is_all_that_writes_the_outputs() -> None:
    """Behind a concatenation it is cut by what its rows read."""
    spec = CUT["concatenation"].spec
    fixed = {"third": spaces.Axis(5)}
    leaves = tuple(
        dataclasses.replace(
            leaf, axes=tuple(fixed.get(str(a.space), a) for a in leaf.axes)
        )
        for leaf in spec.leaves
        if not leaf.path.startswith("out/")
    )
    spec = spaces.WeightSpec(spec.spaces[:2], leaves)
    theta = cut_theta(spec, 0)
    sketch = models.SKETCHES["classes"].read

    @fast_jit
    def classes(theta: Any) -> Any:
        return sketch(models.Subject(spec, theta))

    assert models.Subject(spec, theta).last_kernel.shape == (7, 5)
    for row in (0, 5):
        kernel = theta["mix"]["kernel"].at[row].add(jnp.arange(5.0))
        other = {**theta, "mix": {**theta["mix"], "kernel": kernel}}
        assert gap(classes(other), classes(theta)) > 1e-3
