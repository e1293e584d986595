"""Every architecture runs in float64, is small, and depends on all of its weights."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, traverse_util
from jax.extend import core

from tests.derive.architectures import ARCHITECTURES, apply_of, variables_of

MOST_WEIGHTS = 2000
# Of a leaf's gradient, relative to the largest of the network: rounding is 1e-16.
NOTHING, SOMETHING = 1e-12, 1e-7


def paths_of(theta: dict[str, Any]) -> dict[str, jax.Array]:
    flat: dict[Any, Any] = traverse_util.flatten_dict(theta)
    return {"/".join(path): leaf for path, leaf in flat.items()}


@functools.cache
def outputs_and_gradients(name: str) -> tuple[list[jax.Array], dict[str, float]]:
    """Returns the outputs, and how much a random part of them depends on each leaf."""
    row = ARCHITECTURES[name]
    theta, inputs, apply = variables_of(row, 0), row.inputs(1), apply_of(row)

    def projected(theta: dict[str, Any]) -> tuple[jax.Array, list[jax.Array]]:
        outputs = jax.tree.leaves(apply(theta, *inputs))
        rng = np.random.default_rng(2)
        sums = [jnp.sum(y * rng.normal(size=y.shape)) for y in outputs]
        return sum(sums, jnp.zeros(())), outputs

    gradients, outputs = jax.jit(jax.grad(projected, has_aux=True))(theta)
    largest = {path: float(abs(g).max()) for path, g in paths_of(gradients).items()}
    top = max(largest.values())
    return outputs, {path: size / top for path, size in largest.items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_runs_in_float64(name: str) -> None:
    outputs, _ = outputs_and_gradients(name)
    assert outputs
    for y in outputs:
        assert y.dtype == jnp.float64
        assert bool(jnp.isfinite(y).all())
        assert float(y.std()) > 1e-3


def dtypes(atoms: Sequence[Any]) -> set[str]:
    return {str(atom.aval.dtype) for atom in atoms}


def narrowed(jaxpr: core.Jaxpr) -> list[str]:
    """Returns the steps of a program, and inside its steps, that lose precision."""
    found = []
    for step in jaxpr.eqns:
        if "float64" in dtypes(step.invars) and "float32" in dtypes(step.outvars):
            found.append(str(step))
        for inner in core.jaxprs_in_params(step.params):
            found += narrowed(inner)
    return found


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_keeps_its_precision(name: str) -> None:
    row = ARCHITECTURES[name]
    program = jax.make_jaxpr(apply_of(row))(variables_of(row, 0), *row.inputs(0))
    assert narrowed(program.jaxpr) == []


def test_a_step_in_float32_is_seen() -> None:
    """A control: the attention of NNX takes the softmax in float32 by default."""
    q = jnp.ones((1, 2, 1, 3), jnp.float64)
    program = jax.make_jaxpr(nnx.dot_product_attention)(q, q, q)
    assert program.out_avals[0].dtype == jnp.float64
    assert narrowed(program.jaxpr)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_depends_on_every_weight(name: str) -> None:
    _, gradients = outputs_and_gradients(name)
    unread = set(ARCHITECTURES[name].unread)
    assert {path for path, size in gradients.items() if size < NOTHING} == unread
    assert {path for path, size in gradients.items() if size < SOMETHING} == unread


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_is_small(name: str) -> None:
    leaves = paths_of(variables_of(ARCHITECTURES[name], 0)).values()
    assert sum(math.prod(leaf.shape) for leaf in leaves) <= MOST_WEIGHTS


def test_styles() -> None:
    styles = [row.style for row in ARCHITECTURES.values()]
    assert styles.count("nnx") >= 1
    assert styles.count("linen") >= 5
