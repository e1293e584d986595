"""Each activation has the symmetry that its row says, and a wrong name is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets

NAMES = [*nets.ACTIVATIONS, "relu^2", "relu^3"]
SCALES = {"positive_scale": 3.7, "sign": -1.0, "permutation": 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_homogeneous_of_its_degree(name: str) -> None:
    row = nets.activation(name)
    x = jax.random.normal(jax.random.key(0), (100,))
    scale = SCALES[row.group]
    np.testing.assert_allclose(
        row.function(scale * x), scale**row.degree * row.function(x), rtol=1e-12
    )


@pytest.mark.parametrize("name", NAMES)
def test_has_no_larger_group(name: str) -> None:
    row = nets.activation(name)
    x = jax.random.normal(jax.random.key(0), (100,))
    larger = [s for g, s in SCALES.items() if g not in (row.group, "permutation")]
    for scale in larger:
        gap = row.function(scale * x) - scale**row.degree * row.function(x)
        assert float(jnp.max(jnp.abs(gap))) > 1e-2


@pytest.mark.parametrize("name", ["swish", "relu^1", "relu^x", "Tanh"])
def test_unknown_names_list_the_known(name: str) -> None:
    with pytest.raises(ValueError, match=r"is unknown: expected one of .*'relu'"):
        nets.activation(name)
