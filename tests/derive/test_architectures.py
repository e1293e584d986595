"""Every architecture runs in float64, is small, and depends on all of its weights."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

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
