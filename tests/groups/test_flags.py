import jax


def test_promotion_is_strict_here():
    assert jax.config.jax_numpy_dtype_promotion == "strict"
