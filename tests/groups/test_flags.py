import jax.numpy as jnp
import pytest


def test_promotion_is_strict_here():
    with pytest.raises(ValueError, match="implicit dtype promotion"):
        _ = jnp.ones(2, jnp.float32) + jnp.ones(2, jnp.float64)
