import jax.numpy as jnp
import pytest


def test_laws_run_in_float64():
    assert jnp.ones(2).dtype == jnp.float64


def test_rank_promotion_raises():
    with pytest.raises(ValueError, match="rank_promotion"):
        _ = jnp.ones((2, 3)) + jnp.ones(3)


def test_promotion_is_not_strict_outside_the_strict_rooms():
    mixed = jnp.ones(2, jnp.float32) + jnp.ones(2, jnp.float64)
    assert mixed.dtype == jnp.float64
