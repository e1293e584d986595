"""The learned gauge: the function stays, and one point is chosen for a whole orbit."""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import gauges, models, spaces
from qejax.models import Gauge, GaugeConfig, _slopes
from qejax.models import _choices as choices
from qejax.spaces import Elements, WeightSpec
from tests.layer_specs import HEADS, fast_jit, random_module
from tests.orbits import alone, finite, function_gap, slow_unless, weight_gap
from tests.registry import NETS, RTOL, element_of, theta_of

EASY = ("cleared", "balanced")


def gauge_of(
    spec: WeightSpec, kind: Any = "gauge", seed: int = 0, **fields: Any
) -> Any:
    """A gauge with large random parameters."""
    small = {"rounds": 1, "hidden": 6, "rank": 2, "precision": "float64"}
    config = GaugeConfig(**{**small, **fields})
    return random_module(
        lambda: Gauge(spec, kind, config=config, rngs=nnx.Rngs(0)), seed
    )


# Every group; heads, streams and norms of three transformers.
QUICK = (
    *("linear, no hidden layer", "one hidden layer", "tanh", "gelu", "sine"),
    *("relu cubed", "residual", "mixed", "cnn, strided, gap", "cnn, same, flatten"),
    *("cnn with skips, mixed", "adapters of an unknown network"),
    *("language, layer norm without scale", "language, rotary, grouped, gated"),
)


@pytest.mark.parametrize("name", [slow_unless(name, QUICK) for name in NETS])
@pytest.mark.one_in(3)
def test_the_function_is_kept_whatever_the_parameters(name: str) -> None:
    spec = NETS[name].net.spec
    gauge = gauge_of(spec, sweeps=1, order=True)

    def run(theta: Any) -> Any:
        g = gauge.alpha(theta)
        return g, spaces.act(spec, g, theta)

    theta = theta_of(spec, 0)
    g, there = fast_jit(run)(theta)
    spaces.check_elements(spec, g)
    assert function_gap(name, theta, there) < RTOL
    if spec.spaces:
        assert weight_gap(theta, there) > 1e-2
        # A control: units that are scaled where they are written alone.
        first = spec.leaves[0]
        leaves = spaces.views(spec, theta)
        wrong = leaves | {first.path: leaves[first.path] * 1.1}
        assert function_gap(name, theta, spaces.from_views(spec, wrong, theta)) > 1e-4


ROTARY = "rms without scale, rotary, grouped"

PART: dict[str, Any] = {
    "permutation": lambda one, g: g,
    "positive_scale": lambda one, g: g,
    "sign": lambda one, g: one._replace(perm=g.perm),
    "dihedral": lambda one, g: one._replace(perm=g.perm, turns=g.turns),
    "absorbed": lambda one, g: jnp.abs(g),
    "rotary": lambda one, g: one * jnp.linalg.norm(g, axis=-1, keepdims=True),
    "general_linear": lambda one, g: one * jnp.abs(g[..., :1, :1]),
    "linear_stream": lambda one, g: one * jnp.abs(g[:1, :1]),
    "orthogonal": lambda one, g: one,
    "orthogonal_ones": lambda one, g: one,
}
"""By group, the part of an element that the rules of a start forget.

They leave signs of units, angles of pairs, and what a matrix is beside its size: a
rotation behind balancing, signs of the axes behind `principal`. Where sizes of norms
reach the weights of a head (as in gated language models), steps of balancing are not
those of the other weights, and that rotation is another one: no such network is below.
"""


def forgotten(spec: WeightSpec, seed: int) -> Elements:
    one, g = spaces.identity(spec, jnp.float64), element_of(spec, seed, 5.0)
    groups = {space.name: space.group for space in spec.spaces}
    return {n: PART[groups[n]](one[n], x) if n in groups else x for n, x in g.items()}


def laws(run: Any, spec: WeightSpec, theta: Any) -> tuple[float, float]:
    """Gaps in `F(g theta) = p F(theta)`, and in `F(g theta) = g F(theta)`."""
    g = forgotten(spec, 1)
    act = fast_jit(functools.partial(spaces.act, spec))
    got, want = run(act(g, theta)), run(theta)
    p = alone(spec, g, ("perm",))
    return weight_gap(got, act(p, want)), weight_gap(got, act(g, want))


CHOSEN = (
    *("one hidden layer", "five hidden layers", "tanh", "sine", "relu cubed"),
    *("cnn, same, flatten", "residual", "adapters of an unknown network"),
    ROTARY,
)


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.one_in(3)
def test_one_network_is_chosen_for_an_orbit(name: str) -> None:
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0)
    gauge = gauge_of(spec, start=EASY, sweeps=100, rounds=2)
    chosen, followed = laws(fast_jit(gauge), spec, theta)
    assert chosen < 1e-6
    assert followed > 1e-2 or name == "tanh"


@pytest.mark.parametrize("name", ["one hidden layer", "gelu", "relu cubed", "sine"])
@pytest.mark.one_in(2)
def test_with_an_order_one_network_is_chosen_for_an_orbit(name: str) -> None:
    spec = NETS[name].net.spec
    gauge = gauge_of(spec, start=EASY, sweeps=100, order=True)
    run, theta = fast_jit(gauge), theta_of(spec, 0)
    moved = spaces.act(spec, forgotten(spec, 1), theta)
    assert weight_gap(run(moved), run(theta)) < 1e-6
    assert weight_gap(run(theta_of(spec, 1)), run(theta)) > 1e-2


@pytest.mark.parametrize(
    "name", ["grouped", pytest.param("adapter", marks=pytest.mark.slow)]
)
def test_units_per_head_go_with_their_head(name: str) -> None:
    spec = HEADS[name]
    p = alone(spec, element_of(spec, 1), ("perm",))
    theta = theta_of(spec, 0)
    moved = spaces.act(spec, p, theta)
    ordered = fast_jit(gauge_of(spec, start=(), order=True))
    assert weight_gap(ordered(moved), ordered(theta)) < 1e-10
    plain = fast_jit(gauge_of(spec, start=()))
    assert weight_gap(plain(moved), spaces.act(spec, p, plain(theta))) < 1e-10
    assert weight_gap(plain(moved), plain(theta)) > 1e-2


@pytest.mark.parametrize(
    "name", [*CHOSEN[:-1], pytest.param(CHOSEN[-1], marks=pytest.mark.slow)]
)
@pytest.mark.one_in(3)
def test_the_strict_kind_moves_with_its_network(name: str) -> None:
    spec = NETS[name].net.spec
    gauge = gauge_of(spec, "strict", start=EASY, sweeps=100, rounds=2)
    run, theta = fast_jit(gauge), theta_of(spec, 0)
    chosen, followed = laws(run, spec, theta)
    assert followed < 1e-5
    # It moves (signs may all be as they were), and yet cannot choose.
    assert weight_gap(run(theta), theta) > 1e-3 or name in ("tanh", "sine")
    assert chosen > 1e-2 or name == "tanh"


def test_the_identity_does_not_choose() -> None:
    """A control of the laws: it follows, and chooses nothing."""
    spec = NETS["one hidden layer"].net.spec
    chosen, followed = laws(lambda theta: theta, spec, theta_of(spec, 0))
    assert followed == 0
    assert chosen > 0.1


def test_axes_of_a_start_are_fixed_up_to_signs() -> None:
    spec = NETS["adapters of an unknown network"].net.spec
    gauge = gauge_of(spec, start=("balanced", "principal"))
    start, theta = fast_jit(gauge.start), theta_of(spec, 0)
    moved = spaces.act(spec, element_of(spec, 1, 10.0), theta)
    two = [jax.tree.map(jnp.abs, start(t).theta) for t in (theta, moved)]
    assert weight_gap(*two) < 1e-8


@pytest.mark.parametrize(
    "name", [slow_unless(n, ("mixed", "sine", QUICK[11])) for n in QUICK]
)
def test_at_first_nothing_moves(name: str) -> None:
    spec = NETS[name].net.spec
    config = GaugeConfig(start=(), hidden=6, rounds=2, precision="float64")
    gauge = Gauge(spec, config=config, rngs=nnx.Rngs(0))
    theta = theta_of(spec, 0)
    assert weight_gap(fast_jit(gauge)(theta), theta) < 1e-14


def rounding_loss(theta: Any, spec: WeightSpec) -> Any:
    """Squared change of weights that rounding makes, beside their size."""
    there = gauges.rounded(spec, theta, 3)
    both = zip(jax.tree.leaves(there), jax.tree.leaves(theta), strict=True)
    size = sum(jnp.sum(x * x) for x in jax.tree.leaves(theta))
    return sum(jnp.sum((a - b) ** 2) for a, b in both) / size


@pytest.mark.parametrize(
    "name",
    ["mixed", pytest.param("sine", marks=pytest.mark.slow), QUICK[11]],
)
@pytest.mark.one_in(2)
def test_paths_end_at_their_best_point(name: str) -> None:
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0)
    loss = functools.partial(rounding_loss, spec=spec)
    gauge = gauge_of(spec, start=EASY, rounds=3)
    graph, params, rest = nnx.split(gauge, nnx.Param, ...)

    def total(params: Any, theta: Any) -> Any:
        own = nnx.merge(graph, params, rest)
        start = own.start(theta)
        path = own.path(start, loss)
        there = spaces.act(spec, path.element, theta)
        return jnp.sum(path.losses), (path, loss(start.theta), loss(there))

    run = fast_jit(jax.value_and_grad(total, has_aux=True))
    (_, (path, first, last)), gradient = run(params, theta)
    assert path.losses.shape == (4,)
    np.testing.assert_allclose(path.losses[0], first, rtol=1e-10)
    np.testing.assert_allclose(jnp.min(path.losses), last, rtol=1e-8)
    assert function_gap(name, theta, spaces.act(spec, path.element, theta)) < RTOL
    assert finite(gradient)
    flat = nnx.to_pure_dict(gradient)
    for space in spec.spaces:
        choice = choices.CHOICES.get(space.group)
        if choice is not None:
            head = flat["left" if choice.pairs else "one"][space.name]["kernel"]
            assert np.max(np.abs(head)) > 0, space.name


def test_a_path_goes_down_a_smooth_loss() -> None:
    """Untrained, along the slope alone."""
    spec = NETS["one hidden layer"].net.spec
    theta = theta_of(spec, 0)

    def loss(theta: Any) -> Any:
        return sum(jnp.sum(x * x) for x in jax.tree.leaves(theta))

    config = GaugeConfig(start=(), rounds=20, hidden=4, precision="float64")
    gauge = Gauge(spec, config=config, rngs=nnx.Rngs(0))
    g = element_of(spec, 0, 3.0)
    path = fast_jit(lambda t: gauge.path(gauge.start(t), loss))
    losses = path(spaces.act(spec, g, theta)).losses
    assert losses[-1] < 0.7 * losses[0]
    assert np.all(np.diff(losses) < 0)


SLOPED = ("mixed", "residual", "adapters of an unknown network", ROTARY)


@pytest.mark.parametrize(
    "name", [*SLOPED, pytest.param(QUICK[-2], marks=pytest.mark.slow)]
)
def test_slopes_are_derivatives_along_the_orbit(name: str) -> None:
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0)
    leaves = spaces.views(spec, theta)
    other = spaces.views(spec, theta_of(spec, 1))

    def loss(leaves: Any) -> Any:
        return sum(jnp.sum(jnp.sin(x) * other[path]) for path, x in leaves.items())

    zero = _slopes.no_moments(spec, jnp.float64).mean

    def along(numbers: Any) -> Any:
        g = spaces.identity(spec, jnp.float64)
        for space, own in numbers.items():
            row = spec.space_by_name[space]
            element = choices.CHOICES[row.group].element
            g[space] = (element if row.per is None else jax.vmap(element))(own)
        return loss(
            {n.path: spaces.act_leaf(n, spec, g, leaves[n.path]) for n in spec.leaves}
        )

    def both(leaves: Any) -> Any:
        found = _slopes.slopes(spec, leaves, jax.grad(loss)(leaves))
        return found, jax.grad(along)(zero)

    found, want = fast_jit(both)(leaves)
    for space in _slopes.choosing(spec):
        if space.group in ("sign", "dihedral"):
            continue  # A sign has no derivative.
        for a, b in zip(found[space.name], want[space.name], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
        assert max(np.max(np.abs(x), initial=0) for x in want[space.name]) > 1e-6


def test_networks_are_moved_together() -> None:
    spec = NETS["one hidden layer"].net.spec
    many = theta_of(spec, 0, batch=(3,))
    gauge = gauge_of(spec, start=EASY, order=True)
    loss = functools.partial(rounding_loss, spec=spec)
    run = fast_jit(lambda t: gauge(t, loss))
    got = fast_jit(jax.vmap(lambda t: gauge(t, loss)))(many)
    for number in range(3):
        want = run(jax.tree.map(lambda x, n=number: x[n], many))
        assert weight_gap(jax.tree.map(lambda x, n=number: x[n], got), want) < 1e-10


DEAD = ("mixed", "adapters of an unknown network")


@pytest.mark.parametrize("with_loss", [False, True])
@pytest.mark.parametrize(
    "name",
    [*DEAD, *(pytest.param(n, marks=pytest.mark.slow) for n in ("sine", ROTARY))],
)
@pytest.mark.one_in(2)
def test_dead_networks_are_finite(name: str, with_loss: bool) -> None:
    spec = NETS[name].net.spec
    zeros = jax.tree.map(jnp.zeros_like, theta_of(spec, 0))
    loss = (
        (lambda t: sum(jnp.sum(x * x) for x in jax.tree.leaves(t)))
        if with_loss
        else None
    )
    start = GaugeConfig().start if name.startswith("adapters") else EASY
    gauge = gauge_of(spec, start=start, rounds=2)
    graph, params, rest = nnx.split(gauge, nnx.Param, ...)

    def total(params: Any, theta: Any) -> Any:
        own = nnx.merge(graph, params, rest)
        path = own.path(own.start(theta), loss)
        there = spaces.act(spec, path.element, theta)
        total = sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(there))
        return total + jnp.sum(path.losses), path.element

    run = fast_jit(jax.value_and_grad(total, has_aux=True))
    (_, g), gradient = run(params, zeros)
    spaces.check_elements(spec, g)
    assert finite(gradient)
    # As networks begin: biases are zero.
    begun = {n.path: jnp.zeros(n.view) for n in spec.leaves if len(n.axes) == 1}
    theta = theta_of(spec, 0)
    begun = spaces.from_views(spec, spaces.views(spec, theta) | begun, theta)
    assert finite(run(params, begun))


def test_float32_networks_stay_float32() -> None:
    spec = NETS["mixed"].net.spec
    theta = theta_of(spec, 0, jnp.float32)
    gauge = gauge_of(spec, start=EASY, precision="float32")
    there = fast_jit(gauge)(theta)
    assert {x.dtype for x in jax.tree.leaves(there)} == {jnp.dtype("float32")}
    assert finite(there)


def test_bad_configs_are_refused() -> None:
    spec, rngs = NETS["one hidden layer"].net.spec, nnx.Rngs(0)
    with pytest.raises(ValueError, match=r"Gauge\(kind=\.\.\.\): expected one of"):
        Gauge(spec, "free", rngs=rngs)  # pyright: ignore[reportArgumentType]
    fields: tuple[Any, ...] = ("sweeps", "rounds", "hidden", "rank", "rate")
    for field in fields:
        with pytest.raises(
            ValueError, match=rf"{field}=\.\.\.\): expected a number abov"
        ):
            Gauge(spec, config=replace(GaugeConfig(), **{field: 0}), rngs=rngs)
    with pytest.raises(ValueError, match=r"GaugeConfig\(start=\.\.\.\): expected some"):
        Gauge(spec, config=GaugeConfig(start=("evened",)), rngs=rngs)
    with pytest.raises(ValueError, match="expected 'float32' or 'float64', got"):
        gauge_of(NETS["tanh"].net.spec, precision="half")
    with pytest.raises(ValueError, match="keeps the order in which units come, got a"):
        Gauge(spec, "strict", config=GaugeConfig(order=True), rngs=rngs)
    other = theta_of(NETS["tanh"].net.spec, 0)
    with pytest.raises(ValueError, match="layer_02"):
        models.Gauge(spec, rngs=rngs)(other)
