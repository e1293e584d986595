"""Builders of heads, norms, gates and adapters: names, shapes, and who moves what."""

import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from qejax.spaces import Axis, Leaf, Route, Shift, UnitSpace, WeightSpec, Wire
from tests.registry import element_of, gap, theta_of

STREAM = Wire(4, "s")


def test_heads_are_those_of_flax():
    part = spaces.attention("a/b", STREAM, STREAM, heads=4, head_dim=2, kv_heads=2)
    stored = {leaf.path: leaf.stored for leaf in part.leaves}
    assert stored == {
        "a/b/query/kernel": (4, 4, 2),
        "a/b/query/bias": (4, 2),
        "a/b/key/kernel": (4, 2, 2),
        "a/b/key/bias": (2, 2),
        "a/b/value/kernel": (4, 2, 2),
        "a/b/value/bias": (2, 2),
        "a/b/out/kernel": (4, 2, 4),
        "a/b/out/bias": (4,),
    }
    assert [(s.name, s.size, s.group, s.per) for s in part.spaces] == [
        ("a.b.heads", 2, "permutation", None),
        ("a.b.vo", 2, "general_linear", "a.b.heads"),
        ("a.b.queries", 2, "permutation", "a.b.heads"),
        ("a.b.qk", 2, "general_linear", "a.b.heads"),
    ]
    axes = {leaf.path: [(a.space, a.power) for a in leaf.axes] for leaf in part.leaves}
    heads, queries, qk, vo = (f"a.b.{n}" for n in ("heads", "queries", "qk", "vo"))
    assert axes["a/b/query/kernel"] == [("s", -1), (heads, 1), (queries, 1), (qk, 1)]
    assert axes["a/b/key/bias"] == [(heads, 1), (qk, -1)]
    assert axes["a/b/out/kernel"] == [(heads, -1), (queries, -1), (vo, -1), ("s", 1)]
    # A value is shared by all queries of its group, and so is its shift.
    through = Route("a/b/out/kernel", "a/b/out/bias", "ac,abcd->d")
    assert part.shifts == (
        Shift("a.b.key_shift", "a/b/key/bias"),
        Shift("a.b.value_shift", "a/b/value/bias", (through,)),
    )


@pytest.mark.parametrize(
    ("options", "shifts", "qk"),
    [
        ({}, ["key_shift", "value_shift"], "general_linear"),
        ({"use_bias": False}, [], "general_linear"),
        ({"use_bias": False, "use_out_bias": True}, [], "general_linear"),
        ({"use_out_bias": False}, ["key_shift"], "general_linear"),
        ({"qk": "rotary"}, ["value_shift"], "rotary"),
        ({"qk": None}, ["value_shift"], None),
    ],
)
def test_biases_shift_where_nothing_sees_it(options, shifts, qk):
    spec = spaces.attention("", STREAM, Wire(3), 2, 2, **options).spec
    part = spaces.attention("", Wire(4), Wire(3), 2, 2, **options)
    assert [shift.name for shift in part.shifts] == shifts
    groups = {space.name: space.group for space in part.spec().spaces}
    assert groups.get("qk") == qk
    with pytest.raises(ValueError, match=r"expected one of the unit spaces .*got 's'"):
        spec()  # A part alone, whose stream is declared elsewhere.


@pytest.mark.parametrize("kv_heads", [0, 3])
def test_key_and_value_heads_must_divide_the_heads(kv_heads):
    with pytest.raises(
        ValueError, match=rf"'a': key and value heads should .*kv_heads={kv_heads} and"
    ):
        spaces.attention("a", STREAM, STREAM, 4, 2, kv_heads=kv_heads)


def test_a_norm_has_a_scale_for_what_reads_it():
    part, wire = spaces.norm("n", STREAM)
    assert part.spaces == (UnitSpace("n.scale", 1, "absorbed", "s"),)
    axes = (Axis(4, "s", 1), Axis(1, "n.scale", 1))
    assert part.leaves == (
        Leaf("n/scale", axes, (4,)),
        Leaf("n/bias", axes, (4,)),
    )
    assert wire.reads() == (Axis(4, "s", -1), Axis(1, "n.scale", -1))
    # What is added to something, and a stream that never moves, keep their scale.
    for source, read_only in ((STREAM, False), (Wire(4), True)):
        part, wire = spaces.norm("n", source, use_bias=False, read_only=read_only)
        assert (part.spaces, wire) == ((), source)
        assert [leaf.path for leaf in part.leaves] == ["n/scale"]


def test_a_shift_goes_through_all_readers():
    leaves = {
        leaf.path: leaf
        for leaf in (
            spaces.bias("x", STREAM),
            *spaces.dense("y", STREAM, Wire(3)),
            *spaces.dense("z", STREAM, Wire(2)),
        )
    }
    shift = spaces.shift_through("t", leaves, "x/bias", ("y", "z"))
    routes = tuple(Route(f"{n}/kernel", f"{n}/bias", "a,ab->b") for n in "yz")
    assert shift == Shift("t", "x/bias", routes)
    spec = WeightSpec((UnitSpace("s", 4),), tuple(leaves.values()), (shift,))
    theta, t = theta_of(spec, 0), jnp.arange(4.0)
    g = spaces.identity(spec, jnp.float64) | {"t": t}
    moved = spaces.act(spec, g, theta)
    np.testing.assert_array_equal(moved["x"]["bias"], theta["x"]["bias"] + t)
    for name in "yz":
        expected = theta[name]["bias"] - np.asarray(t) @ theta[name]["kernel"]
        np.testing.assert_allclose(moved[name]["bias"], expected, rtol=1e-14)


def test_a_gate_scales_what_it_is_multiplied_with():
    hidden = Wire(3, "h", degree=2)
    part = spaces.gated("m", Wire(2), hidden, Wire(2), use_bias=True)
    assert [leaf.path for leaf in part.leaves] == [
        f"m/{layer}/{kind}"
        for layer in ("gate", "up", "down")
        for kind in ("kernel", "bias")
    ]
    assert part.spaces == (UnitSpace("m.scale", 1, "absorbed", "h"),)
    leaves = {leaf.path: leaf for leaf in part.leaves}
    scaled = (Axis(3, "h", 0), Axis(1, "m.scale", 1))
    assert leaves["m/up/kernel"].axes == (Axis(2), *scaled)
    assert leaves["m/up/bias"].axes == scaled
    down = (Axis(3, "h", -2), Axis(1, "m.scale", -1), Axis(2))
    assert leaves["m/down/kernel"].axes == down
    bare = spaces.gated("m", Wire(2), hidden, Wire(2), names=("a", "b", "c"))
    assert [leaf.path for leaf in bare.leaves] == [f"m/{n}/kernel" for n in "abc"]


@pytest.mark.parametrize(("layer", "reads"), [("query", 1), ("out", 2)])
def test_a_low_rank_pair_keeps_its_product(layer, reads):
    """On kernels of grouped heads, one behind a norm with a scale."""
    norm, source = spaces.norm("n", STREAM, use_bias=False)
    part = spaces.attention("", source, STREAM, 4, 2, kv_heads=2)
    kernel = next(leaf for leaf in part.leaves if leaf.path == f"{layer}/kernel")
    pair = spaces.low_rank(kernel, 3, reads)
    a, b = pair.leaves
    assert (a.path, b.path) == (f"{layer}/lora_a", f"{layer}/lora_b")
    assert a.stored == (*kernel.stored[:reads], 3)
    assert b.stored == (3, *kernel.stored[reads:])
    assert pair.spaces == (UnitSpace(f"{layer}.lora_a", 3, "general_linear"),)

    found = (UnitSpace("s", 4), *norm.spaces, *part.spaces, *pair.spaces)
    spec = WeightSpec(found, (kernel, a, b))
    theta, g = theta_of(spec, 0), element_of(spec, 0)

    def product(leaves):
        return jnp.tensordot(leaves["lora_a"], leaves["lora_b"], 1)

    # The product moves as the kernel that it is added to.
    whole = {layer: {**theta[layer], "kernel": product(theta[layer])}}
    moved = spaces.act(spec, g, whole)[layer]
    assert gap(product(moved), moved["kernel"]) < 1e-12
    assert gap(moved["lora_a"], theta[layer]["lora_a"]) > 1e-2
