"""Profiles: how large the weights of units are, beside the largest of their leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import layers, spaces
from tests.layer_specs import HEADS, fast_jit
from tests.orbits import alone, finite
from tests.registry import NETS, element_of, theta_of

SPECS = {name: NETS[name].net.spec for name in ("mixed", "cnn, same, flatten", "sine")}
SPECS |= {"grouped": HEADS["grouped"]}


@pytest.mark.parametrize("name", SPECS)
def test_profiles_move_with_units(name: str) -> None:
    spec = SPECS[name]
    p = alone(spec, element_of(spec, 0), ("perm",))
    run = fast_jit(lambda t: layers.profile(spec, spaces.views(spec, t)))
    theta = theta_of(spec, 0)
    before, after = run(theta), run(spaces.act(spec, p, theta))
    np.testing.assert_allclose(after.globe, before.globe, rtol=1e-12, atol=1e-12)
    assert before.globe.shape == (layers.PER_LEAF * len(spec.leaves),)
    for space in spec.spaces:
        own = np.asarray(before.units[space.name])
        assert own.shape[-1] == layers.profile_width(spec, space.name)
        assert own.shape[:-1] == (*spec.per_size(space), space.size)
        if space.per is not None:
            own = own[np.asarray(p[space.per].perm)]
        if hasattr(p[space.name], "perm"):
            perm = np.asarray(p[space.name].perm)
            own = np.take_along_axis(own, perm[..., None], -2)
        got = after.units[space.name]
        np.testing.assert_allclose(got, own, rtol=1e-12, atol=1e-12)


def test_the_size_of_a_leaf_is_one_number() -> None:
    spec = SPECS["mixed"]
    leaves = spaces.views(spec, theta_of(spec, 0))
    run = fast_jit(lambda leaves: layers.profile(spec, leaves))
    before = run(leaves)
    for number, path in enumerate(spec.leaf_by_path):
        after = run(leaves | {path: leaves[path] * 7})
        for got, want in zip(
            jax.tree.leaves(after.units), jax.tree.leaves(before.units), strict=True
        ):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)
        change = np.asarray(after.globe - before.globe)
        last = layers.PER_LEAF * number + layers.PER_LEAF - 1
        np.testing.assert_allclose(change[last], np.log(7), rtol=1e-10)
        np.testing.assert_allclose(np.delete(change, last), 0, atol=1e-10)


def test_a_profile_says_what_it_says() -> None:
    spec = NETS["one hidden layer"].net.spec
    leaves = spaces.views(spec, theta_of(spec, 0))
    kernel = np.asarray(leaves["layer_00/kernel"])
    found = np.asarray(layers.profile(spec, leaves).units["hidden_0"])
    top, size = np.max(np.abs(kernel), 0), np.sqrt(np.mean(kernel**2, 0))
    whole = np.sqrt(np.mean(kernel**2))
    np.testing.assert_allclose(found[:, 0], np.log(top / np.max(top)), atol=1e-12)
    np.testing.assert_allclose(found[:, 1], np.log(size / whole), rtol=1e-10)
    np.testing.assert_allclose(found[:, 2], np.log(top / size), rtol=1e-10)
    np.testing.assert_allclose(found[:, 3], np.mean(kernel, 0) / size, rtol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_leaves_of_zeros_are_finite_with_their_gradient(dtype: str) -> None:
    spec = SPECS["mixed"]
    leaves = spaces.views(spec, theta_of(spec, 0, dtype))
    zeros = {path: x * (0 if "bias" in path else 1) for path, x in leaves.items()}

    def total(leaves: dict[str, jax.Array]) -> jax.Array:
        found = layers.profile(spec, leaves)
        return sum((jnp.sum(x) for x in found.units.values()), jnp.sum(found.globe))

    run = fast_jit(jax.value_and_grad(total))
    dead = {path: x * 0 for path, x in leaves.items()}
    assert finite((run(zeros), run(dead)))
    assert run(leaves)[0].dtype == dtype
