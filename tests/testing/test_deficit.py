"""What a spec lacks is counted and named; what cannot be told is said."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, spaces, testing
from qejax.groups import GROUPS
from qejax.testing._tangents import ALGEBRAS, flat, tangents
from tests.registry import NETS, inputs_of, theta_of

LEAKY = nets.mlp((3, 4, 2), "leaky_relu")
THETA = theta_of(LEAKY.spec, 0)
X = np.random.default_rng(1).normal(size=(40, 3))


def test_every_group_has_its_algebra() -> None:
    assert set(ALGEBRAS) == set(GROUPS)


DIMENSIONS = {
    "permutation": 0,
    "sign": 0,
    "dihedral": 0,
    "positive_scale": 4,
    "general_linear": 16,
    "absorbed": 16,
    "linear_stream": 16,
    "orthogonal": 6,
    "orthogonal_ones": 3,
    "rotary": 4,
}


@pytest.mark.parametrize("name", GROUPS)
def test_steps_along_an_algebra_stay_in_the_group(name: str) -> None:
    """To first order: what is off is quadratic in the step."""
    basis, step = ALGEBRAS[name](4), 1e-8
    assert len(basis) == DIMENSIONS[name]
    flat_basis = basis.reshape(len(basis), math.prod(basis.shape[1:]))
    assert np.all(np.linalg.svd(flat_basis, compute_uv=False) > 0.5)
    e = GROUPS[name].identity(4, jnp.float64)
    for one in basis:
        if hasattr(e, "scale"):
            g = e._replace(scale=e.scale + step * one)
        else:
            g = e + step * one
        GROUPS[name].check(g, 4)


NAMES = (
    "mixed",
    "relu squared",
    "sine, then gaussian and relu",
    "vit, class token",
    "post-norm, no residual, gated",
    "no norm",
    "rms without scale, rotary, grouped",
    "language, rotary, grouped, gated",
    "adapters of an unknown network",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.one_in(3)
def test_orbits_lie_in_null_spaces(name: str) -> None:
    """Or `deficit` raises. What is missing is what its leaves say."""
    row = NETS[name]
    theta, x = theta_of(row.net.spec, 1), inputs_of(row, number=150)
    found = testing.deficit(row.net.apply, row.net.spec, theta, x)
    assert found.null == found.orbit + found.missing
    assert found.orbit > 0
    assert found.gap > 1e4
    assert (found.missing > 0) == any(found.leaves.values())
    assert max(found.leaves.values()) <= found.missing <= sum(found.leaves.values())


def test_what_is_missing_is_named() -> None:
    spec = LEAKY.spec.permutations_only()
    found = testing.deficit(LEAKY.apply, spec, THETA, X)
    assert (found.parameters, found.null, found.orbit, found.missing) == (26, 4, 0, 4)
    assert found.leaves["layer_01/bias"] == 0
    assert found.message().startswith(
        "4 of 4 directions that change no output are not in the group: layer_00/bias "
        "4, layer_00/kernel 4, layer_01/kernel 4; 0 are, of 26 parameters"
    )
    whole = testing.deficit(LEAKY.apply, LEAKY.spec, THETA, X)
    assert whole.message().startswith("all 4 directions that change no output are in")


def test_inputs_and_outputs_of_any_tree() -> None:
    def apply(theta: Any, both: dict[str, Any], more: Any) -> Any:
        y = LEAKY.apply(theta, both["x"])
        return {"y": y, "count": jnp.arange(3), "z": (LEAKY.apply(theta, more),)}

    found = testing.deficit(apply, LEAKY.spec, THETA, {"x": X[:9]}, X[9:])
    assert (found.null, found.missing) == (4, 0)


def test_functions_with_one_kind_of_derivative() -> None:
    @jax.custom_vjp
    def backward(x: Any) -> Any:
        return jnp.where(x > 0, x, 0.1 * x)

    backward.defvjp(
        lambda x: (backward(x), x), lambda x, y: (jnp.where(x > 0, y, 0.1 * y),)
    )

    def forward(x: Any) -> Any:
        start = (jnp.zeros_like(x), 0)
        halves = jax.lax.while_loop(
            lambda s: s[1] < 2, lambda s: (s[0] + backward_free(x) / 2, s[1] + 1), start
        )
        return halves[0]

    def backward_free(x: Any) -> Any:
        return jnp.where(x > 0, x, 0.1 * x)

    for f in (backward, forward):

        def apply(theta: Any, x: Any, f: Any = f) -> Any:
            layers = [theta["layer_00"], theta["layer_01"]]
            hidden = f(jnp.dot(x, layers[0]["kernel"]) + layers[0]["bias"][None])
            return jnp.dot(hidden, layers[1]["kernel"]) + layers[1]["bias"][None]

        found = testing.deficit(apply, LEAKY.spec, THETA, X)
        assert (found.null, found.missing) == (4, 0)


def test_dead_weights_are_missing_directions() -> None:
    layer = THETA["layer_00"]
    dead = {**THETA, "layer_00": {**layer, "bias": layer["bias"].at[0].set(-50.0)}}
    net = nets.mlp((3, 4, 2), "relu")
    found = testing.deficit(net.apply, net.spec, dead, X)
    # All that reads or writes the unit but the one direction of its scale.
    assert found.missing == 3 + 1 + 2 - 1
    assert "dead units" in found.message()


def test_a_constant_function_is_kept_by_all() -> None:
    found = testing.deficit(lambda theta, x: 0 * x, LEAKY.spec, THETA, X)
    assert (found.null, found.missing) == (26, 22)


def test_a_group_that_changes_the_function_is_named() -> None:
    tanh = nets.mlp((3, 4, 2), "tanh")
    with pytest.raises(
        ValueError, match=r"group of 'hidden_0' does not keep .* change of .*e-\d+"
    ):
        testing.deficit(tanh.apply, LEAKY.spec, THETA, X)


def test_weights_of_float32() -> None:
    theta = theta_of(LEAKY.spec, 0, jnp.float32)
    with pytest.raises(ValueError, match=r"takes weights of float64, got \['float32'"):
        testing.deficit(LEAKY.apply, LEAKY.spec, theta, X)


def test_too_many_weights() -> None:
    net = nets.mlp((3, 1500, 1), "relu")
    with pytest.raises(ValueError, match="at most 6000 parameters, got 7501"):
        testing.deficit(net.apply, net.spec, theta_of(net.spec, 0), X)


def test_too_few_outputs() -> None:
    with pytest.raises(ValueError, match="too few to see 26 parameters of which 4 are"):
        testing.deficit(LEAKY.apply, LEAKY.spec, THETA, X[:10])


def test_no_gap() -> None:
    """Ever smaller outputs, from real ones to what may be rounding."""
    net = nets.mlp((3, 8))
    fading = 10.0 ** -np.arange(0, 16, 2)

    def apply(theta: Any, x: Any) -> Any:
        return net.apply(theta, x) * fading[None]

    with pytest.raises(ValueError, match="no gap between singular values and round"):
        testing.deficit(apply, net.spec, theta_of(net.spec, 0), X)


def test_outputs_and_derivatives_that_are_not_finite() -> None:
    def root(theta: Any, x: Any) -> Any:
        return LEAKY.apply(theta, x) + jnp.sqrt(0 * theta["layer_01"]["bias"])[None]

    with pytest.raises(ValueError, match="derivatives of the outputs should be finite"):
        testing.deficit(root, LEAKY.spec, THETA, X)
    with pytest.raises(AssertionError, match=r"outputs of .* should be finite"):
        testing.deficit(
            LEAKY.apply,
            LEAKY.spec,
            THETA,
            X.at[0, 0].set(np.nan)
            if isinstance(X, jax.Array)
            else np.where(X > 2, np.nan, X),
        )


def test_directions_are_those_of_small_elements() -> None:
    """Columns of a shift against a difference of `act`, exact as it is affine."""
    spec = NETS["vit, class token"].net.spec
    theta = theta_of(spec, 0)
    columns = tangents(spec, theta)
    assert set(columns) == {row.name for row in (*spec.spaces, *spec.shifts)}
    e = spaces.identity(spec, jnp.float64)
    for shift in spec.shifts:
        moved = spaces.act(spec, {**e, shift.name: e[shift.name] + 1.0}, theta)
        difference = np.asarray(flat(moved) - flat(theta))
        np.testing.assert_allclose(columns[shift.name].sum(1), difference, atol=1e-12)
