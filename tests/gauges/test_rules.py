"""Rules: the function stays, and the point is the one that the rule is named after."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import gauges, groups, spaces
from qejax.spaces import WeightSpec
from tests.layer_specs import fast_jit
from tests.orbits import alone, finite, function_gap, slow_unless, square, weight_gap
from tests.registry import NETS, RTOL, element_of, theta_of

RULES = tuple(gauges.RULES)

# Every group; heads, streams and norms of three transformers.
QUICK = (
    *("linear, no hidden layer", "one hidden layer", "tanh", "gelu", "sine"),
    *("relu cubed", "residual", "mixed", "cnn, strided, gap", "cnn, same, flatten"),
    *("cnn with skips, mixed", "adapters of an unknown network"),
    *("language, layer norm without scale", "rms without scale, rotary, grouped"),
    "language, rotary, grouped, gated",
)


def ruled(spec: WeightSpec, *rules: str, sweeps: int = 10) -> Callable[..., Any]:
    """From weights to the element, and to what it makes of them."""

    def run(theta: Any) -> Any:
        g = gauges.chosen(spec, theta, rules, sweeps=sweeps)
        return g, spaces.act(spec, g, theta)

    return fast_jit(run)


def moved(spec: WeightSpec, seed: int) -> Any:
    """One network of an orbit."""
    return spaces.act(spec, element_of(spec, seed, 10.0), theta_of(spec, 0))


@pytest.mark.parametrize("name", [slow_unless(name, QUICK) for name in NETS])
@pytest.mark.one_in(5)
def test_every_rule_keeps_the_function(name: str) -> None:
    spec, theta = NETS[name].net.spec, theta_of(NETS[name].net.spec, 0)

    def run(theta: Any) -> Any:
        every = {n: gauges.chosen(spec, theta, [n], sweeps=2) for n in RULES}
        return {n: (g, spaces.act(spec, g, theta)) for n, g in every.items()}

    for rule, (g, there) in fast_jit(run)(theta).items():
        spaces.check_elements(spec, g)
        assert function_gap(name, theta, there) < RTOL, rule


BALANCED = (
    *("one hidden layer", "five hidden layers", "sine", "relu cubed", "residual"),
    *("cnn, same, flatten", "adapters of an unknown network"),
    "rms without scale, rotary, grouped",
)
NOT_QUICK = ("small transformer zoo", "post-norm, no residual, gated")


@pytest.mark.parametrize(
    "name", [slow_unless(name, BALANCED) for name in (*BALANCED, *NOT_QUICK)]
)
@pytest.mark.one_in(3)
def test_balanced_weights_are_the_shortest_of_their_orbit(name: str) -> None:
    spec = NETS[name].net.spec
    run = ruled(spec, "cleared", "balanced", sweeps=60)
    (_, short), *others = (run(moved(spec, seed)) for seed in range(3))
    for _, other in others:
        np.testing.assert_allclose(square(other), square(short), rtol=1e-8)
    # Shifts are taken off, which is not what is shortest.
    still = {shift.name: jnp.zeros(spec.shift_size(shift)) for shift in spec.shifts}
    turned = [space.name for space in spec.spaces if space.group == "dihedral"]

    def near(seed: int, theta: Any) -> float:
        g: Any = spaces.sample(jax.random.key(seed), spec, 1.05, jnp.float64) | still
        for space in turned:
            g[space] = g[space]._replace(turns=jnp.zeros_like(g[space].turns))
        return square(act(g, theta)) / square(theta)

    act = fast_jit(lambda g, theta: spaces.act(spec, g, theta))
    assert min(near(seed, short) for seed in range(5)) > 1 - 1e-9
    # A control: elsewhere on the orbit some are shorter.
    if any(space.group != "dihedral" for space in spec.spaces):
        far = moved(spec, 1)
        assert min(near(seed, far) for seed in range(5)) < 1


def tops(spec: WeightSpec, name: str, theta: Any, writes: bool) -> Any:
    """Largest weight of every unit in the matrices that write it, or read it."""
    rows = spaces.rows_of(spec, name, spaces.views(spec, theta))
    own = [r for r in rows if r.multiplies and r.power and (r.power > 0) == writes]
    return jnp.max(jnp.stack([jnp.max(jnp.abs(r.values), -1) for r in own]), 0)


SCALED = ("unequal widths", "relu cubed", "cnn, same, flatten", "width one")


@pytest.mark.parametrize("name", [*SCALED, "adapters of an unknown network"])
@pytest.mark.one_in(2)
def test_equalised_units_write_and_read_one_range(name: str) -> None:
    spec = NETS[name].net.spec
    start = moved(spec, 1)
    _, there = ruled(spec, "equalised", sweeps=100)(start)
    for space in spec.spaces:
        both = [tops(spec, space.name, there, writes) for writes in (True, False)]
        np.testing.assert_allclose(*both, rtol=1e-6)
        # A control.
        before = [tops(spec, space.name, start, writes) for writes in (True, False)]
        assert np.max(np.abs(np.log(before[0] / before[1]))) > 0.1


@pytest.mark.parametrize("name", SCALED)
def test_absmax_units_have_the_range_of_their_layer(name: str) -> None:
    spec = NETS[name].net.spec
    _, there = ruled(spec, "absmax")(moved(spec, 1))
    for space in spec.spaces:
        found = tops(spec, space.name, there, True)
        np.testing.assert_allclose(found, np.max(found), rtol=1e-12)


def test_absorbed_scales_of_norms_are_one_or_minus_one() -> None:
    spec = NETS["language, rotary, grouped, gated"].net.spec
    g, there = ruled(spec, "absorbed")(theta_of(spec, 0) | {"norm": {"scale": -SCALES}})
    for norm in (*there["block_00"].values(), there["norm"]):
        if "scale" in norm:
            np.testing.assert_allclose(np.abs(norm["scale"]), 1, rtol=1e-12)
    np.testing.assert_allclose(there["norm"]["scale"], -np.sign(SCALES), rtol=1e-12)
    # What a gate is multiplied with is a matrix.
    np.testing.assert_array_equal(g["block_00.mlp.scale"], 1)


SCALES = jnp.asarray([0.5, -2.0, 1e3, 1e-3])


def test_cleared_networks_have_no_shifts_and_phases_within_half_a_period() -> None:
    spec = NETS["sine"].net.spec
    _, there = ruled(spec, "cleared", "cleared")(moved(spec, 1))
    for layer in ("layer_00", "layer_01"):
        assert np.max(np.abs(there[layer]["bias"])) <= np.pi / 2 / 2 + 1e-12
    spec = NETS["language, layer norm without scale"].net.spec
    _, there = ruled(spec, "cleared")(theta_of(spec, 0))
    leaves = spaces.views(spec, there)
    for shift in spec.shifts:
        x = leaves[shift.leaf]
        x = jnp.mean(x, shift.along) if shift.along else x
        np.testing.assert_allclose(x, jnp.zeros_like(x), atol=1e-12)


def test_principal_units_are_uncorrelated() -> None:
    spec = NETS["adapters of an unknown network"].net.spec
    _, there = ruled(spec, "principal")(theta_of(spec, 0))
    pair = there["layers.0.q"]
    gram = pair["lora_a"].T @ pair["lora_a"] + pair["lora_b"] @ pair["lora_b"].T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
    assert gram[0, 0] > gram[1, 1]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8])
def test_hadamard_matrices_are_orthogonal(size: int) -> None:
    found = gauges.hadamard(jax.random.key(0), size, jnp.float64)
    np.testing.assert_allclose(found @ found.T, np.eye(size), atol=1e-12)
    even = np.allclose(np.abs(found), size**-0.5)
    assert even == (size in (1, 2, 4, 8))
    again = gauges.hadamard(jax.random.key(0), size, jnp.float64)
    np.testing.assert_array_equal(found, again)
    if size > 1:
        keys = [jax.random.key(k) for k in range(8)]
        many = [gauges.hadamard(key, size, jnp.float64) for key in keys]
        assert any(np.max(np.abs(x - found)) > 0.1 for x in many)


@pytest.mark.parametrize("group", gauges.ROTATED)
def test_rotations_are_elements_of_their_group(group: str) -> None:
    side, build = gauges.ROTATED[group]
    own = build(gauges.hadamard(jax.random.key(0), side(5), jnp.float64))
    groups.GROUPS[group].check(own, 5)
    np.testing.assert_allclose(own @ own.T, np.eye(5), atol=1e-12)


@pytest.mark.parametrize("group", gauges.SIZES)
def test_sizes_are_elements_of_their_group(group: str) -> None:
    size = jnp.asarray([0.5, 3.0, 0.5, 3.0])
    own = gauges.SIZES[group](size)
    groups.GROUPS[group].check(own, 4)
    got = groups.GROUPS[group].move(own, jnp.ones(4), 0, 1)
    np.testing.assert_allclose(got, size, rtol=1e-12)


SIZED = ("balanced", "equalised", "absmax")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dead_units_keep_their_size(dtype: Any) -> None:
    spec = NETS["equal widths"].net.spec
    theta = theta_of(spec, 0, dtype)
    first, second = theta["layer_00"], theta["layer_01"]
    # Nothing writes unit 0, nothing reads unit 1, unit 2 has decayed.
    first["kernel"] = first["kernel"].at[:, 0].set(0).at[:, 2].multiply(1e-33)
    first["bias"] = first["bias"].at[0].set(0).at[2].multiply(1e-33)
    second["kernel"] = second["kernel"].at[1].set(0).at[2].multiply(1e-33)
    for rule in SIZED:
        g, there = ruled(spec, rule)(theta)
        assert finite((g, there)), rule
        assert np.all(g["hidden_0"].scale > 0), rule
        keeps = (0,) if rule == "absmax" else (0, 1)
        np.testing.assert_array_equal(g["hidden_0"].scale[jnp.asarray(keeps)], 1)
        assert abs(g["hidden_0"].scale[3] - 1) > 1e-3


DEAD = ("mixed", "sine", "cnn, same, flatten", "adapters of an unknown network")


@pytest.mark.parametrize(
    "name", [*DEAD, pytest.param(QUICK[-1], marks=pytest.mark.slow)]
)
@pytest.mark.one_in(2)
def test_networks_of_zeros_stay(name: str) -> None:
    spec = NETS[name].net.spec
    zeros = jax.tree.map(jnp.zeros_like, theta_of(spec, 0))
    for rule in RULES:
        g, there = ruled(spec, rule)(zeros)
        spaces.check_elements(spec, g)
        assert square(there) == 0, rule
        if rule in SIZED:
            for got, one in zip(
                jax.tree.leaves(g),
                jax.tree.leaves(spaces.identity(spec, jnp.float64)),
                strict=True,
            ):
                np.testing.assert_allclose(got, one, atol=1e-12, err_msg=rule)


def test_an_adapter_with_one_side_of_zeros_keeps_the_other() -> None:
    """As adapters begin."""
    spec = NETS["adapters of an unknown network"].net.spec
    theta = theta_of(spec, 0)
    theta["layers.0.q"]["lora_b"] = jnp.zeros_like(theta["layers.0.q"]["lora_b"])
    g, _ = ruled(spec, "balanced")(theta)
    np.testing.assert_array_equal(g["layers.0.q.lora_a"], np.eye(2))


def test_pairs_have_one_size_however_they_are_turned() -> None:
    spec = NETS["rms without scale, rotary, grouped"].net.spec
    theta, name = theta_of(spec, 0), "block_00.attention.qk"
    one = spaces.identity(spec, jnp.float64)
    turn = jnp.broadcast_to(jnp.asarray([0.6, 0.8]), one[name].shape)
    turned = spaces.act(spec, one | {name: turn}, theta)
    for rule in ("balanced", "equalised"):
        run = ruled(spec, rule, sweeps=1)
        first, second = run(theta)[0][name], run(turned)[0][name]
        if rule == "balanced":
            np.testing.assert_allclose(first, second, rtol=1e-10)
        np.testing.assert_array_equal(first[..., 1], 0)
        assert np.all(first[..., 0] > 0)


def test_weights_that_are_reached_are_those_of_the_element() -> None:
    """But for what is taken off, which is zero to the last bit."""
    spec = NETS["rms without scale, rotary, grouped"].net.spec
    run = fast_jit(lambda t: gauges.reached(spec, t, ["cleared", "absmax"]))
    theta = theta_of(spec, 0)
    g, there = run(theta)
    assert weight_gap(there, spaces.act(spec, g, theta)) < 1e-12
    assert not np.any(there["block_00"]["attention"]["value"]["bias"])
    spec = NETS["sine"].net.spec
    g, there = fast_jit(lambda t: gauges.reached(spec, t, ["cleared"]))(moved(spec, 1))
    assert weight_gap(there, spaces.act(spec, g, moved(spec, 1))) < 1e-12


def test_rules_follow_one_another() -> None:
    spec = NETS["mixed"].net.spec
    theta = theta_of(spec, 0)
    whole, _ = ruled(spec, "balanced", "absmax")(theta)
    first, there = ruled(spec, "balanced")(theta)
    second, _ = ruled(spec, "absmax")(there)
    product = spaces.mul(spec, second, first)
    for got, want in zip(jax.tree.leaves(whole), jax.tree.leaves(product), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_permuted_units_are_ruled_alike() -> None:
    spec = NETS["equal widths"].net.spec
    theta = theta_of(spec, 0)
    p = alone(spec, element_of(spec, 1), ("perm",))
    run = ruled(spec, "cleared", "balanced", "absmax")
    got, want = run(spaces.act(spec, p, theta))[1], spaces.act(spec, p, run(theta)[1])
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_unknown_rules_and_no_sweeps_are_refused() -> None:
    spec = NETS["one hidden layer"].net.spec
    theta = theta_of(spec, 0)
    with pytest.raises(ValueError, match=r"chosen\(rules=\.\.\.\): expected some of"):
        gauges.chosen(spec, theta, ["balanced", "evened"])
    with pytest.raises(ValueError, match=r"chosen\(sweeps=\.\.\.\): expected at least"):
        gauges.chosen(spec, theta, ["balanced"], sweeps=0)
    other = theta_of(NETS["tanh"].net.spec, 0)
    with pytest.raises(ValueError, match="layer_02"):
        gauges.chosen(spec, other, ["balanced"])


def test_units_are_assigned_at_the_least_cost() -> None:
    cost = np.random.default_rng(0).normal(size=(5, 5))
    best = min(
        itertools.permutations(range(5)),
        key=lambda perm: sum(cost[i, j] for i, j in enumerate(perm)),
    )
    assert gauges.assigned(jnp.asarray(cost)).tolist() == list(best)
    broken = cost.copy()
    broken[0, best[0]], broken[1] = np.nan, np.inf
    every = jnp.asarray([cost, broken, np.full((5, 5), np.nan)])
    for number, found in enumerate(fast_jit(jax.vmap(gauges.assigned))(every)):
        assert sorted(found.tolist()) == list(range(5))
        assert (found.tolist() == list(best)) == (number == 0)
