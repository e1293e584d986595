"""Specs: what they refuse, how leaves are viewed, and that they are values."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from qejax.spaces import Axis, Leaf, Route, Shift, UnitSpace, WeightSpec, Wire
from tests.layer_specs import fast_jit
from tests.registry import MLPS_AND_CNNS, NETS, theta_of

A, B = UnitSpace("a", 2), UnitSpace("b", 3, "sign")
PER = UnitSpace("m", 3, "general_linear", "a")
HEADS = spaces.attention("", Wire(3), Wire(2), heads=4, head_dim=3, kv_heads=2)


def _leaf(path: str = "k", *axes: Axis, shape: tuple[int, ...] | None = None) -> Leaf:
    return Leaf(path, axes or (Axis(2, "a", -1), Axis(3, "b", 1)), shape)


@pytest.mark.parametrize(
    ("units", "leaves", "says"),
    [
        ((A, A), (), "names of unit spaces should be unique, got 'a' twice"),
        ((A, B), (_leaf(), _leaf()), "names of leaves should be unique, got 'k' twice"),
        (
            (UnitSpace("a", 2, "spin"),),
            (),
            "unit space 'a': group should be one of .*'sign'.*, got 'spin'",
        ),
        ((UnitSpace("a", 0),), (), "unit space 'a': size should be at least 1, got 0"),
        (
            (A,),
            (_leaf(),),
            r"leaf 'k', axis 1: expected one of the unit spaces \['a'\], got 'b'",
        ),
        (
            (UnitSpace("a", 4), B),
            (_leaf(),),
            "leaf 'k', axis 0: expected size 4 of unit space 'a', got 2",
        ),
        (
            (A, B),
            (_leaf(shape=(5,)),),
            r"leaf 'k': a stored shape \(5,\) should hold as many .* view \(2, 3\)",
        ),
        (
            (UnitSpace("a", 3, "rotary"),),
            (),
            "unit space 'a': rotary embedding turns pairs.*should be even, got 3",
        ),
        (
            (UnitSpace("q", 2, per="a"), A),
            (),
            r"unit space 'q': `per` should be one of the unit spaces before it .*\[\], "
            "got 'a'",
        ),
        (
            (A, UnitSpace("q", 2, per="a"), UnitSpace("r", 2, per="q")),
            (),
            r"unit space 'r': `per` should be one of .*\['a'\], got 'q'",
        ),
        (
            (UnitSpace("a", 2, "orthogonal"), UnitSpace("q", 2, per="a")),
            (),
            r"unit space 'q': `per` .*only permute and scale, \[\], got 'a'",
        ),
        (
            (A, PER),
            (Leaf("k", (Axis(3, "m", 1), Axis(2, "a", 1))),),
            r"leaf 'k', axis 0: unit space 'm' is per 'a', expected an axis of that "
            r"space before it, got \['m', 'a'\]",
        ),
        (
            (A, PER),
            (Leaf("k", (Axis(2, "a", -1), Axis(3, "m", -2))),),
            "leaf 'k', axis 1: an axis that matrices of the group 'general_linear' "
            "move should have power 1 or -1, got -2",
        ),
    ],
)
def test_wrong_specs_are_refused(units, leaves, says):
    with pytest.raises(ValueError, match=says):
        WeightSpec(units, leaves)


@pytest.mark.parametrize(
    ("shift", "says"),
    [
        (Shift("k", "c"), r"shift 'k': expected paths of \['k'\], got 'c'"),
        (Shift("k", "k", (Route("c", "k", "a,ab->b"),)), "expected paths.*got 'c'"),
        (Shift("k", "k", (Route("k", "d", "a,ab->b"),)), "expected paths.*got 'd'"),
        (Shift("a", "k"), "names of unit spaces should be unique, got 'a' twice"),
        (
            Shift("k", "k", along=(2,)),
            "shift 'k': along an axis of 'k' that a group .* got axis 2 of the unit "
            "space 'no axis'",
        ),
    ],
)
def test_wrong_shifts_are_refused(shift, says):
    with pytest.raises(ValueError, match=says):
        WeightSpec((A, B), (_leaf(),), (shift,))


def test_a_shift_is_constant_only_along_what_keeps_it_so():
    scaled = UnitSpace("a", 2, "positive_scale")
    with pytest.raises(ValueError, match="got axis 0 of the unit space 'a'"):
        WeightSpec((scaled, B), (_leaf(),), (Shift("s", "k", along=(0,)),))


def test_specs_are_values():
    spec = NETS["mixed"].net.spec
    assert hash(copy.deepcopy(spec)) == hash(spec)
    assert copy.deepcopy(spec) == spec
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def size(spec: WeightSpec) -> int:
        traces.append(spec)
        return spec.num_parameters

    assert int(size(spec)) == int(size(copy.deepcopy(spec))) == spec.num_parameters
    assert len(traces) == 1


def test_permutations_only_keeps_everything_else():
    spec = NETS["mixed"].net.spec
    bare = spec.permutations_only()
    assert bare.leaves == spec.leaves
    assert {space.group for space in bare.spaces} == {"permutation"}
    assert [s.size for s in bare.spaces] == [s.size for s in spec.spaces]


def test_permutations_only_of_heads_makes_one_set_of_all_queries():
    spec = HEADS.spec()
    bare = spec.permutations_only()
    assert bare.spaces == (UnitSpace("heads", 2), UnitSpace("queries", 4))
    assert not bare.shifts
    assert [leaf.stored for leaf in bare.leaves] == [
        leaf.stored for leaf in spec.leaves
    ]
    query = bare.leaf_by_path["query/kernel"]
    assert query.axes == (Axis(3), Axis(4, "queries", 1), Axis(3))


def test_permutations_only_needs_units_behind_their_host():
    between = Leaf("k", (Axis(2, "a", 1), Axis(5), Axis(3, "q", 1)))
    spec = WeightSpec((A, UnitSpace("q", 3, per="a")), (between,))
    with pytest.raises(ValueError, match="should come right behind those of the space"):
        spec.permutations_only()


def test_axes_know_whose_units_tell_their_element():
    spec = HEADS.spec()
    query = spec.leaf_by_path["query/kernel"]
    names = [axis.space for axis in query.axes]
    assert names == [None, "heads", "queries", "qk"]
    assert [spec.per_axis(query, p) for p in range(4)] == [None, None, 1, 1]
    assert [spec.per_size(space) for space in spec.spaces] == [(), (2,), (2,), (2,)]
    # The nearest one before: a stream read and written has an element for each side.
    square = Leaf("k", (*spec.leaves[-2].axes[:1], *query.axes[1:]))
    assert [square.before(p, "heads") for p in range(4)] == [None, 0, 1, 1]


def test_leaves_know_who_moves_them():
    leaf = _leaf("k", Axis(9), Axis(2, "a", -2), Axis(3, "b", 1), shape=(18, 3))
    assert leaf.view == (9, 2, 3)
    assert leaf.stored == (18, 3)
    assert leaf.size == 54
    assert leaf.moved() == (1, 2)
    assert leaf.fixed() == (0,)
    assert leaf.reads("a") and leaf.writes("b")  # noqa: PT018
    assert not leaf.reads("b") and not leaf.writes("a")  # noqa: PT018


@pytest.mark.parametrize("name", [*MLPS_AND_CNNS, "vit, class token"])
def test_views_come_back(name):
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0)

    @fast_jit
    def both_ways(theta):
        leaves = spaces.views(spec, theta)
        assert list(leaves) == [leaf.path for leaf in spec.leaves]
        assert [x.shape for x in leaves.values()] == [leaf.view for leaf in spec.leaves]
        flat = spaces.ravel(spec, theta)
        assert flat.shape == (spec.num_parameters,)
        return spaces.from_views(spec, leaves, theta), spaces.unravel(spec, flat, theta)

    for back in both_ways(theta):
        jax.tree.map(np.testing.assert_array_equal, back, theta)


def test_unravel_refuses_another_length():
    spec = NETS["one hidden layer"].net.spec
    theta = theta_of(spec, 0)
    with pytest.raises(
        ValueError, match=r"unravel: vector should have shape \(32,\), got \(3,\)"
    ):
        spaces.unravel(spec, jnp.ones(3), theta)


def test_the_order_of_leaves_is_that_of_the_spec():
    """JAX sorts dict keys as strings; a spec does not."""
    spec = WeightSpec((), (Leaf("z", (Axis(1),)), Leaf("a", (Axis(2),))))
    theta = {"a": jnp.array([1.0, 2.0]), "z": jnp.array([0.0])}
    np.testing.assert_array_equal(spaces.ravel(spec, theta), [0.0, 1.0, 2.0])
    template = spec.template()
    assert template["a"].shape == (2,)
    assert template["z"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda t: {"layer_00": t["layer_00"]},
            r"missing leaves \['layer_01/kernel', 'layer_01/bias'\], unexpected",
        ),
        (lambda t: {**t, "extra": jnp.ones(1)}, r"unexpected leaves \['extra'\]"),
        (
            lambda t: {**t, "layer_00": jax.tree.map(lambda x: x[None], t["layer_00"])},
            r"leaf 'layer_00/kernel' should have shape \(3, 5\), got \(1, 3, 5\).*vmap",
        ),
        (
            lambda t: jax.tree.map(lambda x: x.astype(int), t),
            "leaf 'layer_00/kernel' should be floating, got int64",
        ),
    ],
)
def test_wrong_weights_are_refused(change, says):
    spec = NETS["one hidden layer"].net.spec
    spaces.check_theta(spec, theta_of(spec, 0))
    with pytest.raises(ValueError, match=f"theta does not fit its spec: .*{says}"):
        spaces.check_theta(spec, change(theta_of(spec, 0)))


def test_builders_name_who_moves_what():
    source = Wire(4, "a", degree=2, blocks=9)
    kernel, bias = spaces.dense("head", source, Wire(10))
    assert kernel == Leaf(
        "head/kernel", (Axis(9), Axis(4, "a", -2), Axis(10)), (36, 10)
    )
    assert bias == Leaf("head/bias", (Axis(10),))
    (conv,) = spaces.conv("c", (3, 2), Wire(1), Wire(4, "a"), use_bias=False)
    assert conv == Leaf("c/kernel", (Axis(3), Axis(2), Axis(1), Axis(4, "a", 1)))
    assert spaces.bias("c", Wire(4, "a")) == Leaf("c/bias", (Axis(4, "a", 1),))
