"""Rounding: what integers stand for, whose step it is, and the gradient through it."""

from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import gauges, nets, spaces
from qejax.gauges import Per, Ranges
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec
from tests.layer_specs import fast_jit
from tests.orbits import alone, finite
from tests.registry import NETS, element_of, theta_of

MLP = NETS["unequal widths"].net.spec
CNN = NETS["cnn, same, flatten"].net.spec
GATED = NETS["language, rotary, grouped, gated"].net.spec
GROUPED = NETS["rms without scale, rotary, grouped"].net.spec

WAYS: list[tuple[Per, Ranges]] = [
    ("tensor", "max"),
    ("tensor", "mse"),
    ("channel", "max"),
    ("channel", "mse"),
]
ways = pytest.mark.parametrize(("per", "ranges"), WAYS)


SMALL = NETS["one hidden layer"].net.spec
CASES: dict[str, tuple[WeightSpec, Per, Ranges]] = {
    **{f"{per}, {ranges}": (SMALL, per, ranges) for per, ranges in WAYS},
    "convolutions": (CNN, "tensor", "mse"),
    "heads, norms and gates": (GATED, "channel", "max"),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.one_in(2)
def test_rounded_weights_are_integers_times_steps(case: str, dtype: Any) -> None:
    spec, per, ranges = CASES[case]
    theta = theta_of(spec, 0, dtype)

    def run(theta: Any) -> Any:
        return {
            bits: (
                gauges.quantise(spec, theta, bits, per, ranges),
                gauges.rounded(spec, theta, bits, per, ranges),
            )
            for bits in ((2, 3, 8, 9, 16) if spec is SMALL else (4,))
        }

    before = jax.tree.map(np.asarray, spaces.views(spec, theta))
    for bits, both in jax.tree.map(np.asarray, fast_jit(run)(theta)).items():
        found, leaves = both[0], spaces.views(spec, both[1])
        top, eps = 2 ** (bits - 1) - 1, 2 * float(jnp.finfo(dtype).eps)
        assert {**found.integers, **found.kept}.keys() == leaves.keys()
        for path, whole in found.integers.items():
            step, got = found.steps[path], np.asarray(leaves[path])
            assert whole.dtype == (jnp.int8 if bits <= 8 else jnp.int16)
            assert step.dtype == got.dtype == dtype
            assert np.all(step > 0)
            assert np.max(np.abs(whole.astype(int))) == top
            np.testing.assert_allclose(got, whole * step, rtol=eps, atol=0)
            # The nearest integer, where nothing is cut off.
            if ranges == "max":
                off = np.abs(got - before[path])
                assert np.all(off <= step * (0.5 + top * eps))
        for path, x in found.kept.items():
            np.testing.assert_array_equal(x, before[path])
            np.testing.assert_array_equal(x, leaves[path])


def test_bits_may_be_traced() -> None:
    theta = theta_of(SMALL, 0)
    run = fast_jit(lambda theta, bits: gauges.rounded(SMALL, theta, bits))
    for bits in (2, 5):
        want = fast_jit(lambda t, b=bits: gauges.rounded(SMALL, t, b))(theta)
        got = run(theta, jnp.asarray(bits))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


STEPS: dict[str, tuple[WeightSpec, dict[str, tuple[int, ...]]]] = {
    "dense": (MLP, {"layer_00/kernel": (1, 7), "layer_03/kernel": (1, 1)}),
    "convolution": (
        CNN,
        {"layer_00/kernel": (1, 1, 1, 3), "layer_02/kernel": (1, 1, 3)},
    ),
    "heads, norms and gates": (
        GATED,
        {
            "embed/embedding": (1, 4),
            "block_00/attention/query/kernel": (1, 1, 2, 2, 2),
            "block_00/attention/key/kernel": (1, 1, 2, 2),
            "block_00/attention/value/kernel": (1, 1, 2, 2),
            "block_00/attention/out/kernel": (1, 1, 1, 4),
            "block_00/mlp/gate/kernel": (1, 1, 3),
            "block_00/mlp/up/kernel": (1, 1, 3, 1),
            "block_00/mlp/down/kernel": (1, 1, 4),
            "head/kernel": (1, 1, 5),
        },
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_every_output_channel_has_its_step(name: str) -> None:
    spec, wants = STEPS[name]
    theta = theta_of(spec, 0)
    channel, tensor = fast_jit(
        lambda t: [
            gauges.quantise(spec, t, 4, per).steps for per in get_args(Per)[::-1]
        ]
    )(theta)
    for path, shape in wants.items():
        assert channel[path].shape == shape, path
        assert tensor[path].shape == (1,) * len(shape), path
    if name.startswith("heads"):
        assert channel.keys() == wants.keys()


def test_layers_stored_outputs_first_have_a_step_an_output() -> None:
    spec = WeightSpec(
        (UnitSpace("h", 3, "positive_scale"),),
        (
            Leaf("in", (Axis(3, "h", 1), Axis(4))),
            Leaf("out", (Axis(2), Axis(3, "h", -1))),
        ),
    )
    found = gauges.quantise(spec, theta_of(spec, 0), 4, "channel").steps
    assert {path: x.shape for path, x in found.items()} == {"in": (3, 1), "out": (2, 1)}


@pytest.mark.parametrize("name", NETS)
def test_what_multiplies_is_rounded_and_nothing_else(name: str) -> None:
    """Kernels, tables and adapters; key biases are biases."""
    spec = NETS[name].net.spec
    rounded = {leaf.path for leaf in gauges.rounded_leaves(spec)}
    for leaf in spec.leaves:
        last = leaf.path.split("/")[-1]
        assert (leaf.path in rounded) == (
            not last.startswith(("bias", "scale", "class_token"))
        ), leaf.path


@ways
def test_the_gradient_goes_straight_through(per: Per, ranges: Ranges) -> None:
    spec, path = SMALL, "layer_00/kernel"
    theta, weight = theta_of(spec, 0), theta_of(spec, 1)
    # Two thirds are half as large as the others: the best share cuts these off.
    size = jnp.asarray([[1.1], [0.55], [0.55]]) * jnp.linspace(1, 1.001, 5)[None]
    theta["layer_00"]["kernel"] = jnp.sign(theta["layer_00"]["kernel"]) * size

    def loss(theta: Any) -> Any:
        there = gauges.rounded(spec, theta, 2, per, ranges)
        both = zip(jax.tree.leaves(there), jax.tree.leaves(weight), strict=True)
        return sum(jnp.sum(a * b) for a, b in both)

    gradient = fast_jit(jax.grad(loss))(theta)
    got = spaces.views(spec, gradient)[path]
    found = fast_jit(lambda t: gauges.quantise(spec, t, 2, per, ranges))(theta)
    x, w = (np.asarray(spaces.views(spec, t)[path]) for t in (theta, weight))
    whole, step = (np.asarray(y[path]) for y in (found.integers, found.steps))
    axes = (0,) if per == "channel" else (0, 1)
    share = x / step
    inside = np.abs(share) <= 1.5
    assert np.all(inside) == (ranges == "max")
    # A step is a share of the largest weight: that one feels all that it does.
    largest = np.abs(x) == np.max(np.abs(x), axes, keepdims=True)
    slope = np.sum(w * np.where(inside, whole - share, whole), axes, keepdims=True)
    per_unit = step / np.max(np.abs(x), axes, keepdims=True)
    want = np.where(inside, w, 0) + largest * np.sign(x) * per_unit * slope
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    bias = gradient["layer_00"]["bias"]
    np.testing.assert_array_equal(bias, weight["layer_00"]["bias"])


@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_the_best_share_is_no_worse_than_the_largest_weight(per: Per) -> None:
    theta = theta_of(MLP, 0)
    theta["layer_01"]["kernel"] = theta["layer_01"]["kernel"] ** 5
    before = jax.tree.map(np.asarray, spaces.views(MLP, theta))

    def both(theta: Any, bits: Any) -> Any:
        thetas = [gauges.rounded(MLP, theta, bits, per, r) for r in get_args(Ranges)]
        return [spaces.views(MLP, there) for there in thetas]

    run, better = fast_jit(both), 0
    for bits in (2, 3, 4, 8):
        errors = [
            {path: np.sum((x - before[path]) ** 2) for path, x in there.items()}
            for there in jax.tree.map(np.asarray, run(theta, jnp.asarray(bits)))
        ]
        assert all(errors[1][path] <= errors[0][path] for path in errors[0])
        better += sum(errors[1][path] < errors[0][path] for path in errors[0])
    assert better > 4


@ways
@pytest.mark.parametrize("name", ["gelu", "tanh", "equal widths", "grouped"])
@pytest.mark.one_in(2)
def test_order_and_signs_of_units_do_not_matter(
    name: str, per: Per, ranges: Ranges
) -> None:
    spec = GROUPED if name == "grouped" else NETS[name].net.spec
    fields = ("perm", "scale") if name == "tanh" else ("perm",)
    theta, g = theta_of(spec, 0), alone(spec, element_of(spec, 0), fields)
    act = fast_jit(lambda t: spaces.act(spec, g, t))
    run = fast_jit(lambda t: gauges.rounded(spec, t, 4, per, ranges))
    got, want = run(act(theta)), act(run(theta))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        # Sums of squared errors in another order may choose another share at a tie.
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert any(
        np.max(np.abs(a - b)) > 0.1
        for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(theta), strict=True)
    )


@pytest.mark.parametrize("ranges", ["max", "mse"])
def test_a_scale_per_output_channel_matters_per_tensor_alone(ranges: Ranges) -> None:
    theta = theta_of(MLP, 0)
    size = 3.0 ** jnp.linspace(-1, 1, 7)
    scaled = theta | {"layer_00": dict(theta["layer_00"])}
    scaled["layer_00"]["kernel"] = theta["layer_00"]["kernel"] * size[None]

    def off(per: Per) -> float:
        run = fast_jit(lambda t: gauges.rounded(MLP, t, 4, per, ranges))
        first, second = (run(t)["layer_00"]["kernel"] for t in (theta, scaled))
        return float(jnp.max(jnp.abs(first * size[None] / second - 1)))

    assert off("channel") < 1e-12
    assert not off("tensor") < 0.1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@ways
@pytest.mark.one_in(2)
def test_dead_channels_are_finite(per: Per, ranges: Ranges, dtype: Any) -> None:
    theta = theta_of(MLP, 0, dtype)
    first = theta["layer_00"]["kernel"]
    theta["layer_00"]["kernel"] = first.at[:, 0].set(0).at[:, 1].multiply(1e-33)
    theta["layer_01"]["kernel"] = theta["layer_01"]["kernel"] * 1e-33
    theta["layer_02"]["kernel"] = jnp.zeros_like(theta["layer_02"]["kernel"])

    def loss(theta: Any) -> Any:
        there = gauges.rounded(MLP, theta, 4, per, ranges)
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(there))

    assert finite(fast_jit(jax.value_and_grad(loss))(theta))
    found, there = fast_jit(
        lambda t: (
            gauges.quantise(MLP, t, 4, per, ranges),
            gauges.rounded(MLP, t, 4, per, ranges),
        )
    )(theta)
    assert finite((found.steps, found.kept))
    assert all(np.all(np.asarray(step) > 0) for step in found.steps.values())
    assert not np.any(found.integers["layer_02/kernel"])
    np.testing.assert_array_equal(there["layer_00"]["kernel"][:, 0], 0)
    assert np.any(there["layer_00"]["kernel"][:, 2])


def test_many_networks_are_rounded_together() -> None:
    many = theta_of(MLP, 0, batch=(3,))

    def run(theta: Any) -> Any:
        return (
            gauges.rounded(MLP, theta, 4, "channel"),
            gauges.quantise(MLP, theta, 4, "channel"),
        )

    got, whole = fast_jit(jax.vmap(run))(many)
    want, _ = fast_jit(run)(jax.tree.map(lambda x: x[1], many))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-12)
    assert whole.integers["layer_00/kernel"].dtype == jnp.int8


@pytest.mark.parametrize("bits", [1, 17, 3.5, -2, True, (4, 4)])
def test_other_bits_are_refused(bits: Any) -> None:
    others = [jnp.asarray(bits), np.asarray(bits)]
    for own in [bits, *others]:
        refused(own)


def refused(bits: Any) -> None:
    for run in (gauges.quantise, gauges.rounded):
        with pytest.raises(
            ValueError, match="One bit has no zero, and float32 has few"
        ):
            run(MLP, theta_of(MLP, 0), bits)


@pytest.mark.parametrize(("field", "value"), [("per", "row"), ("ranges", "all")])
def test_other_steps_are_refused(field: str, value: str) -> None:
    for run in (gauges.quantise, gauges.rounded):
        with pytest.raises(
            ValueError, match=rf"quantise\({field}=...\): expected one of"
        ):
            cast(Any, run)(MLP, theta_of(MLP, 0), 4, **{field: value})


def test_bits_that_are_traced_are_for_rounded_alone() -> None:
    theta = theta_of(MLP, 0)
    with pytest.raises(ValueError, match="an integer that is known before the program"):
        jax.jit(lambda bits: gauges.quantise(MLP, theta, bits))(4)
    got = jax.jit(lambda bits: gauges.rounded(MLP, theta, bits))(4)
    want = gauges.rounded(MLP, theta, cast(Any, jnp.asarray(4)))
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_weights_that_are_not_finite_have_no_integers() -> None:
    theta = theta_of(MLP, 0)
    for bad in (jnp.nan, jnp.inf):
        leaf = theta["layer_00"]["kernel"].at[0, 0].set(bad)
        broken = theta | {"layer_00": theta["layer_00"] | {"kernel": leaf}}
        with pytest.raises(ValueError, match="'layer_00/kernel' should be finite, got"):
            gauges.quantise(MLP, broken, 4)


def test_integers_of_another_spec_are_refused() -> None:
    found = gauges.quantise(MLP, theta_of(MLP, 0), 4)
    spec = nets.mlp_spec((2, 5, 2))
    with pytest.raises(ValueError, match="these integers are of another spec"):
        gauges.dequantised(spec, found, theta_of(spec, 0))
    with pytest.raises(ValueError, match="theta does not fit its spec"):
        gauges.dequantised(MLP, found, theta_of(spec, 0))
