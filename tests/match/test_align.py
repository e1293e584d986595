"""Alignment: orbits are found again, distances never grow, bad input is named."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import match, nets, spaces
from tests.layer_specs import fast_jit
from tests.registry import MOVED, NETS, theta_of


def distance(a: Any, b: Any) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(jnp.sum((x - y) ** 2) for x, y in pairs))


NAMES = (
    *("one hidden layer", "tanh", "sine", "relu cubed", "mixed", "residual"),
    *("cnn, strided, gap", "adapters of an unknown network", "linear, no hidden layer"),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.one_in(3)
def test_a_moved_network_is_brought_back(name: str) -> None:
    spec = NETS[name].net.spec
    theta, other = theta_of(spec, 0), theta_of(spec, 1)
    g = spaces.sample(jax.random.key(1), spec, 3.0, jnp.float64)
    moved = spaces.act(spec, g, theta)
    align = fast_jit(lambda a, b: match.align(spec, a, b))
    h = align(theta, moved)
    spaces.check_elements(spec, h)
    assert distance(theta, spaces.act(spec, h, moved)) <= 1e-20 * distance(theta, moved)
    # Another network is no nearer than it can be, and no farther than it was.
    nearer = spaces.act(spec, align(theta, other), other)
    assert 1e-3 < distance(theta, nearer) <= distance(theta, other)


FAR = ("small transformer zoo", "post-norm, no residual, gated")
"""Rows without a residual stream that are brought near, and not back."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MOVED)
def test_every_row_is_brought_back_or_near(name: str) -> None:
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0)
    align = fast_jit(lambda a, b: match.align(spec, a, b))
    for seed in range(4):
        g = spaces.sample(jax.random.key(seed), spec, 3.0, jnp.float64)
        moved = spaces.act(spec, g, theta)
        back = spaces.act(spec, align(theta, moved), moved)
        most = 0.1 if name in FAR else 1e-20
        assert distance(theta, back) < most * distance(theta, moved), seed


@pytest.mark.parametrize("name", ["equal widths", "relu squared"])
def test_never_farther_than_permutations_alone(name: str) -> None:
    spec = NETS[name].net.spec
    alone = match.permutations(spec)
    assert {space.group for space in alone.spaces} == {"permutation"}
    all_, only = (
        fast_jit(lambda a, b, own=own: match.align(own, a, b)) for own in (spec, alone)
    )
    for seed in range(4):
        theta, other = theta_of(spec, seed), theta_of(spec, 10 + seed)
        near = distance(theta, spaces.act(spec, all_(theta, other), other))
        plain = distance(theta, spaces.act(alone, only(theta, other), other))
        assert near < plain < distance(theta, other)


def test_dead_units_keep_their_factors() -> None:
    net = NETS["one hidden layer"].net
    spec, x = net.spec, jax.random.normal(jax.random.key(0), (20, 3))
    theta, other = theta_of(spec, 0), theta_of(spec, 1)
    for kernel, rows in (("layer_00", 1), ("layer_01", 0)):
        dead = (slice(None),) * rows + (slice(0, 2),)
        leaf = other[kernel]["kernel"]
        other[kernel]["kernel"] = leaf.at[dead].set(0)
    other["layer_00"]["bias"] = other["layer_00"]["bias"].at[:2].set(0)
    align = fast_jit(lambda a, b: match.align(spec, a, b))
    for a, b in ((theta, other), (other, theta), (other, other)):
        h = align(a, b)
        spaces.check_elements(spec, h)
        aligned = spaces.act(spec, h, b)
        assert distance(a, aligned) <= distance(a, b)
        np.testing.assert_allclose(net.apply(aligned, x), net.apply(b, x), atol=1e-10)
    perm, scale = align(theta, other)["hidden_0"]
    np.testing.assert_array_equal(scale[perm < 2], 1)
    nothing = jax.tree.map(jnp.zeros_like, theta)
    for a, b in ((theta, nothing), (nothing, theta), (nothing, nothing)):
        spaces.check_elements(spec, align(a, b))


def test_singular_heads_are_aligned_where_they_have_rank() -> None:
    net = NETS["adapters of an unknown network"].net
    spec, x = net.spec, jax.random.normal(jax.random.key(0), (20, 7))
    name = "layers.0.q"

    def singular(theta: Any) -> Any:
        for path, index in (("lora_a", 1), ("lora_b", 0)):
            first = jnp.moveaxis(theta[name][path], index, 0)[0]
            same = jnp.stack([first, 2 * first], index)
            theta = theta | {name: theta[name] | {path: same}}
        return theta

    theta, other = theta_of(spec, 0), singular(theta_of(spec, 1))
    g = spaces.sample(jax.random.key(1), spec, 3.0, jnp.float64)
    moved = spaces.act(spec, g, other)
    align = fast_jit(lambda a, b: match.align(spec, a, b))
    for a, b in ((theta, other), (other, theta), (other, moved), (moved, other)):
        h = align(a, b)
        spaces.check_elements(spec, h)
        aligned = spaces.act(spec, h, b)
        assert distance(a, aligned) < distance(a, b)
        np.testing.assert_allclose(net.apply(aligned, x), net.apply(b, x), atol=1e-8)
    back = spaces.act(spec, align(other, moved), moved)
    assert distance(other, back) < 1e-20


def test_what_is_not_finite_is_named_or_leads_to_an_element() -> None:
    spec = NETS["one hidden layer"].net.spec
    theta, other = theta_of(spec, 0), theta_of(spec, 1)
    other["layer_01"]["bias"] = other["layer_01"]["bias"].at[0].set(jnp.nan)
    with pytest.raises(ValueError, match="weights of theta_b should be finite, got"):
        match.align(spec, theta, other)
    align = fast_jit(lambda a, b: match.align(spec, a, b))
    everywhere = jax.tree.map(lambda x: x * jnp.nan, other)
    for a, b in ((theta, other), (other, theta), (everywhere, theta)):
        spaces.check_elements(spec, align(a, b))


def test_no_sweeps_and_other_inputs_are_refused() -> None:
    spec, theta = NETS["tanh"].net.spec, theta_of(NETS["tanh"].net.spec, 0)
    with pytest.raises(ValueError, match="expected at least 1 over all unit spaces"):
        match.align(spec, theta, theta, sweeps=0)
    units = ({"hidden_0": jnp.ones((3, 5))}, {"hidden_0": jnp.ones((4, 5))})
    with pytest.raises(ValueError, match="should be of the same inputs in both"):
        match.align(spec, theta, theta, units=units)
    other = {"hidden": jnp.ones((3, 5))}
    with pytest.raises(ValueError, match="should be of some of the unit spaces"):
        match.align(spec, theta, theta, units=(other, other))
    single = jax.tree.map(lambda x: x.astype(jnp.float32), theta)
    for a, b in ((theta, single), (single, theta)):
        with pytest.raises(ValueError, match="both networks should be of one dtype"):
            match.align(spec, a, b)


def test_activations_assign_units() -> None:
    net = nets.mlp((4, 6, 2), activation="relu")
    theta, x = theta_of(net.spec, 0), jax.random.normal(jax.random.key(0), (50, 4))
    g = spaces.sample(jax.random.key(1), net.spec, 3.0, jnp.float64)
    moved = spaces.act(net.spec, g, theta)
    a, b = (net.units(t, x)[1] for t in (theta, moved))
    h = match.align(net.spec, theta, moved, units=(a, b))
    back = h["hidden_0"].perm
    np.testing.assert_array_equal(g["hidden_0"].perm[back], np.arange(6))
    with pytest.raises(ValueError, match="first network should have 6 units along the"):
        match.align(net.spec, theta, moved, units=({"hidden_0": x}, b))


def test_pairs_are_aligned_together() -> None:
    spec = NETS["tanh"].net.spec
    many = [theta_of(spec, seed) for seed in range(4)]
    a, b = (jax.tree.map(lambda *x: jnp.stack(x), *own) for own in (many[:2], many[2:]))
    mesh = jax.make_mesh((1,), ("pairs",), axis_types=(jax.sharding.AxisType.Auto,))
    pairs = jax.P("pairs")
    align = jax.shard_map(
        jax.vmap(functools.partial(match.align, spec)),
        mesh=mesh,
        in_specs=pairs,
        out_specs=pairs,
        check_vma=False,
    )
    h = fast_jit(align)(a, b)
    one = match.align(spec, many[1], many[3])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[1], y, rtol=1e-12), h, one)


def test_networks_that_do_not_fit_are_named() -> None:
    spec, other = NETS["tanh"].net.spec, NETS["one hidden layer"].net.spec
    for a, b in ((spec, other), (other, spec)):
        with pytest.raises(ValueError, match="of two networks, theta_b is none"):
            match.align(a, theta_of(a, 0), theta_of(b, 0))
    wider = NETS["gelu"].net.spec
    wide = jax.tree.map(lambda x: jnp.concatenate([x, x]), theta_of(wider, 0))
    with pytest.raises(ValueError, match=r"theta_a is none: .* should have shape"):
        match.align(wider, wide, theta_of(wider, 0))


def test_barriers_are_above_the_line_between_losses() -> None:
    one = jnp.ones(2)
    found = match.barrier(lambda x: jnp.sum((x**2 - 1) ** 2), -one, one, points=5)
    np.testing.assert_allclose(found.losses, [0, 1.125, 2, 1.125, 0])
    assert found.height == 2
    np.testing.assert_allclose(match.between(-one, one, jnp.asarray(0.5)), 0 * one)
    with pytest.raises(ValueError, match="expected at least 3, both ends and one"):
        match.barrier(jnp.sum, one, one, points=2)
    with pytest.raises(ValueError, match="two networks of one architecture, got"):
        match.barrier(jnp.sum, one, jnp.ones(3))
    with pytest.raises(ValueError, match="two networks of one architecture, got"):
        match.between({"a": jnp.ones((4, 1))}, {"a": jnp.ones((4, 3))}, jnp.asarray(0))


def test_with_a_loss_no_way_has_a_lower_barrier() -> None:
    net = nets.mlp((4, 6, 2), activation="relu")
    spec, x = net.spec, jax.random.normal(jax.random.key(0), (50, 4))
    alone = match.permutations(spec)

    def run(theta: Any, other: Any) -> dict[str, jax.Array]:
        units = (net.units(theta, x)[1], net.units(other, x)[1])

        def loss(moved: Any) -> jax.Array:
            """Zero at both ends, and at neither of any other function."""
            y = net.apply(moved, x)
            off = [jnp.mean((y - net.apply(t, x)) ** 2) for t in (theta, other)]
            return off[0] * off[1]

        def height(own: Any, **given: Any) -> jax.Array:
            g = match.align(own, theta, other, **given)
            return match.barrier(loss, theta, spaces.act(own, g, other), 11).height

        return {
            "lowest": height(spec, units=units, loss=loss),
            "by weights": height(spec, loss=loss),
            "permutations": height(alone, loss=loss),
            "permutations, told": height(alone, units=units, loss=loss),
            "nearest": height(spec),
            "nearest, told": height(spec, units=units),
            "as it is": match.barrier(loss, theta, other, 11).height,
        }

    run = fast_jit(jax.vmap(run))
    pairs = [
        jax.tree.map(lambda *x: jnp.stack(x), *(theta_of(spec, n) for n in numbers))
        for numbers in (range(6), range(6, 12))
    ]
    found = run(*pairs)
    for name, heights in found.items():
        assert np.all(found["lowest"] <= heights + 1e-12), name
    assert np.all(found["by weights"] <= found["permutations"] + 1e-12)
    assert np.all(found["lowest"] > 0)
    # Each way alone is above it somewhere.
    for name in ("permutations", "permutations, told", "nearest", "nearest, told"):
        assert np.any(found["lowest"] < 0.99 * found[name]), name
