"""Each activation has the symmetry that its row says, and a wrong name is named."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets

NAMES = [*nets.ACTIVATIONS, "relu^2", "relu^3", "relu^10", "relu^12"]
NAMES += ["gaussian(1)", "gaussian(2.5)"]
SCALES = {"positive_scale": 3.7, "sign": -1.0, "permutation": 1.0}


LINEAR = ("identity", "linear")


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
    if name in LINEAR:  # Its larger group is no group of the library.
        return
    larger = [s for g, s in SCALES.items() if g not in (row.group, "permutation")]
    for scale in larger:
        gap = row.function(scale * x) - scale**row.degree * row.function(x)
        assert float(jnp.max(jnp.abs(gap))) > 1e-2


def test_what_abs_and_identity_allow_beyond_their_group() -> None:
    x = jax.random.normal(jax.random.key(0), (100,))
    even, linear = (nets.activation(name) for name in ("abs", "identity"))
    np.testing.assert_array_equal(even.function(-x), even.function(x))
    np.testing.assert_array_equal(linear.function(-x), -linear.function(x))


@pytest.mark.parametrize(
    "name", ["swish", "relu^1", "relu^0", "relu^02", "relu^-2", "relu^2.0", "Tanh"]
)
def test_unknown_names_list_the_known(name: str) -> None:
    with pytest.raises(ValueError, match=r"is unknown: expected one of .*'relu'"):
        nets.activation(name)


def test_no_name_is_named() -> None:
    number: Any = 5
    with pytest.raises(ValueError, match=r"expected a name such as 'relu', got 5"):
        nets.mlp((2, 3, 2), number)


@pytest.mark.parametrize("frequency", [30, 2.5, 0.5])
def test_sine_turns_by_half_a_period(frequency: float) -> None:
    row = nets.activation(f"sine({frequency})")
    x = jnp.linspace(-1, 1, 9)
    np.testing.assert_allclose(row.function(x), jnp.sin(frequency * x), atol=1e-6)
    np.testing.assert_allclose(row.function(x + row.turn), -row.function(x), atol=1e-5)
    assert (row.group, row.still) == ("dihedral", "sign")


@pytest.mark.parametrize("name", ["sine", "sine(0)", "sine(-1)", "sine(1e3)"])
def test_sine_needs_a_frequency(name: str) -> None:
    with pytest.raises(ValueError, match="with w0 above 0"):
        nets.activation(name)
