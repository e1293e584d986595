"""Factorisations of stacks: those of each matrix, in one loop, for any number."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from qejax import groups

NAMES = ("qr", "svd", "eigh")


def stack(*lead: int) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(*lead, 3, 3))
    return x + np.swapaxes(x, -1, -2)


def factors_of(name: str) -> Callable[[Any], Any]:
    return getattr(groups, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_has_the_factors_of_its_matrices(name: str) -> None:
    x = stack(2, 3)
    found = jax.vmap(jax.vmap(factors_of(name)))(x)
    for got, same in zip(found, factors_of(name)(x), strict=True):
        np.testing.assert_array_equal(got, same)
    for i in range(2):
        for got, one in zip(found, factors_of(name)(x[i, 1]), strict=True):
            np.testing.assert_allclose(got[i, 1], one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_there_is_one_loop_for_all_axes(name: str) -> None:
    many = jax.jit(jax.vmap(jax.vmap(factors_of(name))))
    assert many.lower(stack(2, 3, 2)).as_text().count("stablehlo.while") == 1
    assert many.lower(stack(1, 1)).as_text().count("stablehlo.while") == 0


def test_a_number_of_matrices_may_be_a_symbol() -> None:
    (b,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((b, 2, 3, 3), np.float64)
    run = jax.export.export(jax.jit(jax.vmap(groups.singular_values)))(shape).call
    for number in (1, 4):
        x = stack(number, 2)
        want = np.linalg.svd(x, compute_uv=False)
        np.testing.assert_allclose(run(x), want, rtol=1e-12)
