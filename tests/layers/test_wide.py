"""A 4096-wide stream never makes a 4096 x 4096 array: programs are traced, not run.

What a metanetwork applies to the leaves of one attention layer, its parameters and the
gradient included. Every control makes such an array, so the walk would see it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import layers
from qejax.spaces import Part, UnitSpace, WeightSpec, Wire, attention, settled_spec

WIDE = 4096
C = 2
MAX_FIXED = 16
"""Of the layers in `models.Predictor`, by default."""

Make = Callable[[WeightSpec], nnx.Module]


def spec_of(stream: str | None) -> WeightSpec:
    """One layer of attention on a stream that never moves, or whose units do."""
    units = () if stream is None else (UnitSpace(stream, WIDE),)
    wire = Wire(WIDE, stream)
    part = attention("", wire, wire, heads=2, head_dim=16, use_bias=False)
    return settled_spec((Part(units) + part).spec())


def shapes(jaxpr: Any) -> Iterator[tuple[int, ...]]:
    """Yields the shapes of all arrays that a program makes, its parts included."""
    for equation in jaxpr.eqns:
        yield from (out.aval.shape for out in equation.outvars)
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_part):
            if is_part(value):
                yield from shapes(getattr(value, "jaxpr", value))


def is_part(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")


def traced(make: Make, spec: WeightSpec, gradient: bool) -> list[tuple[int, ...]]:
    """Shapes of the parameters and of what a call makes; no array is allocated."""
    graph, params = nnx.split(nnx.eval_shape(lambda: make(spec)))

    def call(params: Any, feats: Any) -> Any:
        module: Any = nnx.merge(graph, params)
        out = module(feats)
        if isinstance(module, layers.Bonds):
            out = layers.invariants(module.spec, out)
        return out

    def total(params: Any, feats: Any) -> Any:
        return sum(jnp.sum(x * x) for x in jax.tree.leaves(call(params, feats)))

    program = jax.grad(total, argnums=(0, 1)) if gradient else call
    jaxpr = jax.make_jaxpr(program)(params, layers.feature_template(spec, C)).jaxpr
    found = list(shapes(jaxpr))
    # A program of nothing would pass: the features themselves are among its arrays.
    assert max(map(np.prod, found)) >= WIDE
    return [x.shape for x in jax.tree.leaves(params)] + found


def too_large(found: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Two axes of the width, or 8 times the features of a leaf under any shape."""
    return [
        shape
        for shape in found
        if sum(n >= WIDE for n in shape) > 1 or np.prod(shape) > 512 * WIDE
    ]


PIECES: dict[str, Make] = {
    "Bonds": lambda spec: layers.Bonds(spec, C, rngs=nnx.Rngs(0)),
    "InvariantPool": lambda spec: layers.InvariantPool(spec, C, 2, rngs=nnx.Rngs(0)),
    "RelativeAlpha": lambda spec: layers.RelativeAlpha(spec, C, C, rngs=nnx.Rngs(0)),
    "GaugeAlpha": lambda spec: layers.GaugeAlpha(spec, C, rngs=nnx.Rngs(0)),
    "CovariantStream": lambda spec: layers.CovariantStream(
        spec, C, C, max_fixed=MAX_FIXED, rngs=nnx.Rngs(0)
    ),
    "CovariantStream of low rank": lambda spec: layers.CovariantStream(
        spec, C, C, max_rank=8, rngs=nnx.Rngs(0)
    ),
}


@pytest.mark.parametrize("gradient", [False, True], ids=["value", "gradient"])
@pytest.mark.parametrize("stream", [None, "stream"])
@pytest.mark.parametrize("name", PIECES)
def test_no_array_has_width_times_width(
    name: str, stream: str | None, gradient: bool
) -> None:
    assert too_large(traced(PIECES[name], spec_of(stream), gradient)) == []


@pytest.mark.parametrize("stream", [None, "stream"])
def test_dense_products_would(stream: str | None) -> None:
    """A control; the limit is what keeps them away."""

    def dense(spec: WeightSpec) -> nnx.Module:
        return layers.Bonds(spec, C, max_dense=2 * WIDE * WIDE, rngs=nnx.Rngs(0))

    found = too_large(traced(dense, spec_of(stream), gradient=False))
    assert any(shape.count(WIDE) == 2 for shape in found)


def test_a_free_axis_that_never_moves_has_a_matrix_of_parameters() -> None:
    """A control, and what `max_fixed` and `max_rank` are for: it is a parameter."""

    def free(spec: WeightSpec) -> nnx.Module:
        return layers.CovariantStream(spec, C, C, rngs=nnx.Rngs(0))

    found = too_large(traced(free, spec_of(None), gradient=False))
    assert set(found) == {(C * WIDE, C * WIDE)}
