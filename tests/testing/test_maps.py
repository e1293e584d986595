"""Checks of maps: right maps pass, wrong, constant and blind ones fail and say why."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, spaces, testing
from qejax.groups import Monomial
from tests.registry import NETS, compiled, element_of, inputs_of, theta_of

KEY = jax.random.key(5)
NAME = "unequal widths"
ROW = NETS[NAME]
SPEC = ROW.net.spec
THETA, X = theta_of(SPEC, 0), inputs_of(ROW)
FEATS = {
    leaf.path: jnp.asarray(np.random.default_rng(i).normal(size=(*leaf.view, 3)))
    for i, leaf in enumerate(SPEC.leaves)
}
MIX = jnp.asarray(np.random.default_rng(9).normal(size=(3, 2)))


def outputs(theta: Any) -> Any:
    return compiled(NAME).apply(theta, X)


def mix(feats: Any) -> Any:
    return {path: x @ MIX for path, x in feats.items()}


def test_outputs_on_probes_are_invariant():
    report = testing.invariant(outputs, SPEC, THETA, KEY, spread=1e4)
    report.check()
    assert set(report.parts) == {"hidden_0", "hidden_1", "hidden_2"}
    testing.assert_invariant(outputs, SPEC, THETA, KEY)


def test_a_sum_of_weights_is_not_invariant():
    with pytest.raises(
        AssertionError, match=r"invariant failed: fn\(act\(spec, g, theta\)\) == fn"
    ):
        testing.assert_invariant(
            lambda theta: compiled(NAME).ravel(theta).sum(), SPEC, THETA, KEY
        )


@pytest.mark.parametrize("size", [1e-11, 1.0])
def test_a_wrong_entry_is_seen_at_any_size_that_is_promised(size):
    """Beside the outputs, a sum of weights far below their size."""

    def broken(theta: Any) -> Any:
        wrong = size * compiled(NAME).ravel(theta).sum()
        return jnp.append(outputs(theta).ravel(), wrong)

    def right(theta: Any) -> Any:
        return jnp.append(outputs(theta).ravel(), size * outputs(theta).sum())

    with pytest.raises(AssertionError, match="invariant failed"):
        testing.assert_invariant(broken, SPEC, THETA, KEY)
    testing.assert_invariant(right, SPEC, THETA, KEY, spread=1e4)


def test_an_equivariant_leaf_is_measured_by_its_largest_entry():
    """What the docstring states: below the tolerance times that, nothing is seen."""

    def broken(size: float) -> Any:
        return lambda feats: {
            path: jnp.concatenate([x @ MIX, size * jnp.cos(x[..., :1])], -1)
            for path, x in feats.items()
        }

    testing.assert_equivariant(broken(1e-16), SPEC, FEATS, KEY)
    with pytest.raises(AssertionError, match="equivariant failed"):
        testing.assert_equivariant(broken(1e-6), SPEC, FEATS, KEY)


def test_an_additive_epsilon_is_seen():
    def norms(theta: Any) -> Any:
        k, b = theta["layer_00"]["kernel"], theta["layer_00"]["bias"]
        size = jnp.sqrt((k**2).sum(0, keepdims=True) + b[None] ** 2) + 1e-6
        return jnp.sort((k / size).ravel())

    assert testing.invariant(norms, SPEC, THETA, KEY, spread=2.0).gap > 1e-8
    with pytest.raises(AssertionError, match="an additive epsilon"):
        testing.assert_invariant(norms, SPEC, THETA, KEY)


@pytest.mark.parametrize(
    ("check", "source", "constant"),
    [
        (testing.assert_invariant, THETA, lambda theta: jnp.ones(3)),
        (testing.assert_equivariant, FEATS, lambda feats: mix(FEATS)),
    ],
)
def test_constant_maps_are_no_evidence(check, source, constant):
    with pytest.raises(
        AssertionError,
        match=r"cannot tell: the spread of the outputs over unrelated inputs is .*"
        "A constant map obeys every such law",
    ):
        check(constant, SPEC, source, KEY)


def test_channel_mixing_is_equivariant():
    report = testing.equivariant(mix, SPEC, FEATS, KEY, spread=1e4)
    report.check()
    testing.assert_equivariant(mix, SPEC, FEATS, KEY)


def test_maps_of_weights_are_weights():
    double = lambda theta: jax.tree.map(lambda x: 2 * x, theta)  # noqa: E731
    testing.assert_equivariant(double, SPEC, THETA, KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda feats: {path: jax.nn.relu(x) + x * x for path, x in feats.items()},
        lambda feats: {path: x + 1 for path, x in feats.items()},
        lambda feats: {path: x[::-1] for path, x in feats.items()},
    ],
)
def test_wrong_layers_are_not_equivariant(wrong):
    with pytest.raises(
        AssertionError, match=r"equivariant failed: inv\(g\) fn\(g u\) == fn\(u\)"
    ):
        testing.assert_equivariant(wrong, SPEC, FEATS, KEY)


def test_zeros_are_not_equivariant():
    with pytest.raises(AssertionError, match="No element moves the output"):
        testing.assert_equivariant(
            lambda feats: {path: 0 * x for path, x in feats.items()}, SPEC, FEATS, KEY
        )


def test_an_output_that_nothing_moves_is_not_equivariant():
    def last_bias(feats: Any) -> Any:
        last = SPEC.leaves[-1].path
        return {path: x if path == last else 0 * x for path, x in feats.items()}

    with pytest.raises(AssertionError, match="Use assert_invariant"):
        testing.assert_equivariant(last_bias, SPEC, FEATS, KEY)


def test_outputs_must_fit_the_spec():
    with pytest.raises(
        ValueError, match="output of equivariant should be weights or features"
    ):
        testing.assert_equivariant(outputs, SPEC, THETA, KEY)


def test_outputs_must_keep_their_shape():
    seen = []

    def grows(theta: Any) -> Any:
        seen.append(0)
        return jnp.ones(len(seen))

    with pytest.raises(AssertionError, match="shape"):
        testing.assert_invariant(grows, SPEC, THETA, KEY)


def test_zero_input_is_no_evidence():
    zero = jax.tree.map(jnp.zeros_like, THETA)
    with pytest.raises(AssertionError, match="The element moves nothing"):
        testing.assert_invariant(outputs, SPEC, zero, KEY)


def alpha(theta: Any) -> Any:
    """Any group-valued map: from statistics that nothing keeps."""
    seed = jnp.tanh(spaces.ravel(SPEC, theta).mean())
    return {
        space.name: Monomial(
            jnp.arange(space.size), 1 + 0.5 * jnp.sin(seed + jnp.arange(space.size))
        )
        for space in SPEC.spaces
    }


@jax.jit
def gauged(theta: Any) -> Any:
    return spaces.act(SPEC, alpha(theta), jax.tree.map(lambda x: 2 * x, theta))


def test_a_gauged_map_is_quasi_but_not_strictly_equivariant():
    testing.assert_quasi_equivariant(gauged, SPEC, THETA, KEY, alpha=jax.jit(alpha))
    assert testing.equivariant(gauged, SPEC, THETA, KEY).gap > 1e-2


def test_in_function_space_no_alpha_is_needed():
    report = testing.quasi_equivariant(
        gauged, SPEC, THETA, KEY, apply=compiled(NAME).apply, x=X
    )
    report.check()
    assert report.gap < 1e-10


def test_another_alpha_fails():
    e = spaces.identity(SPEC, jnp.float64)
    with pytest.raises(AssertionError, match="quasi_equivariant failed: inv"):
        testing.assert_quasi_equivariant(gauged, SPEC, THETA, KEY, alpha=lambda t: e)


def test_a_shifted_map_is_not_quasi_equivariant():
    shifted = jax.jit(lambda theta: jax.tree.map(lambda x: x + 1, theta))
    with pytest.raises(AssertionError, match="quasi_equivariant failed: apply"):
        testing.assert_quasi_equivariant(
            shifted, SPEC, THETA, KEY, apply=compiled(NAME).apply, x=X
        )


def test_a_constant_map_is_no_evidence_of_quasi_equivariance():
    with pytest.raises(AssertionError, match="A constant map obeys every such law"):
        testing.assert_quasi_equivariant(
            lambda theta: THETA, SPEC, THETA, KEY, apply=compiled(NAME).apply, x=X
        )
    with pytest.raises(AssertionError, match="A constant map obeys every such law"):
        testing.assert_quasi_equivariant(
            lambda theta: THETA,
            SPEC,
            THETA,
            KEY,
            alpha=lambda theta: spaces.identity(SPEC, jnp.float64),
        )


def test_alpha_must_be_in_the_group():
    def negative(theta: Any) -> Any:
        return {
            name: g._replace(scale=-g.scale) for name, g in element_of(SPEC, 0).items()
        }

    with pytest.raises(ValueError, match=r"scale.* should be positive and finite"):
        testing.quasi_equivariant(gauged, SPEC, THETA, KEY, alpha=negative)


@pytest.mark.parametrize(
    "options", [{}, {"alpha": alpha, "apply": outputs, "x": X}, {"apply": outputs}]
)
def test_quasi_equivariance_needs_one_way_to_tell(options):
    with pytest.raises(ValueError, match="expected either `alpha`, or `apply` and `x`"):
        testing.quasi_equivariant(gauged, SPEC, THETA, KEY, **options)


def test_sensitive_maps_pass():
    testing.assert_sensitive(outputs, SPEC, THETA, KEY)
    report = testing.sensitive(outputs, SPEC, THETA, KEY)
    assert len(report.controls) == 1 + len(SPEC.leaves) + len(SPEC.spaces)


def test_even_units_flip_on_one_side():
    """One gaussian has no order, and its flips are no other function on either side."""
    net = nets.mlp((3, 1, 2), "gaussian(1)")
    theta, x = theta_of(net.spec, 0), inputs_of(ROW)
    report = testing.sensitive(lambda t: net.apply(t, x), net.spec, theta, KEY)
    report.check()
    assert len(report.controls) == 1 + len(net.spec.leaves)
    kept = testing.function_kept(net.apply, net.spec, theta, x, KEY)
    kept.check()
    assert list(kept.parts) == ["hidden_0"]


@pytest.mark.parametrize(
    ("blind", "says"),
    [
        (lambda theta: jnp.ones(3), "The map is constant"),
        (
            lambda theta: outputs({**theta, "layer_01": THETA["layer_01"]}),
            "leaf 'layer_01/kernel' is redrawn .*The map does not read it",
        ),
        (
            lambda theta: jnp.stack(
                [
                    jnp.abs(k / jnp.abs(k).max(0, keepdims=True)).sum()
                    for k in jax.tree.leaves(theta)
                    if k.ndim == 2
                ]
            ),
            "write 'hidden_0' are moved .*couples the leaves",
        ),
    ],
)
def test_blind_maps_are_not_sensitive(blind, says):
    with pytest.raises(AssertionError, match=f"(?s)sensitive cannot tell: .*{says}"):
        testing.assert_sensitive(blind, SPEC, THETA, KEY)
