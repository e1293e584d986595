"""Leaves that are parts of arrays: names, what is refused, there and back."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from qejax.spaces import Axis, Cut, Leaf, UnitSpace, WeightSpec, part_of
from tests.cut_networks import CUT, cut_theta
from tests.layer_specs import fast_jit


def _box(*ends: tuple[int, int], shape: tuple[int, ...] = (4, 6)) -> Leaf:
    """A part of the array `k`."""
    starts, stops = zip(*ends, strict=True)
    axes = tuple(Axis(stop - start) for start, stop in ends)
    return part_of("k", shape, starts, stops, axes)


LEFT, RIGHT = _box((0, 4), (0, 2)), _box((0, 4), (2, 6))


@pytest.mark.parametrize(
    ("leaves", "says"),
    [
        (
            (LEFT, _box((0, 4), (1, 6))),
            r"parts of 'k': expected parts that do not overlap, got 'k\[:,0:2\]' and "
            r"'k\[:,1:6\]', which both hold the entry \(0, 1\)",
        ),
        (
            (LEFT,),
            r"parts of 'k': expected parts that fill its shape \(4, 6\), 24 entries, "
            r"got 8 in \['k\[:,0:2\]'\]. Add a leaf for the rest",
        ),
        (
            (LEFT, _box((0, 4), (2, 5), shape=(4, 5))),
            r"parts of 'k': expected one shape of the whole array in all of them, got "
            r"\(4, 6\) in 'k\[:,0:2\]', \(4, 5\) in 'k\[:,2:5\]'",
        ),
        (
            (LEFT, RIGHT, Leaf("k", (Axis(24),), (4, 6))),
            r"leaf 'k': the array of this path is cut into the leaves .* expected no "
            r"leaf with its own path",
        ),
        ((LEFT, replace(RIGHT, path="k")), "leaf 'k': the array of this path is cut"),
        (
            (Leaf("p", (Axis(4), Axis(5)), None, Cut("k", (4, 6), (0, 2))),),
            r"leaf 'p': a part should lie inside of 'k' of shape \(4, 6\), along every "
            r"axis; got a part of shape \(4, 5\) that starts at \(0, 2\)",
        ),
        (
            (Leaf("p", (Axis(8),), None, Cut("k", (4, 6), (0, 2))),),
            r"leaf 'p': a part should lie inside of .* got a part of shape \(8,\)",
        ),
        (
            (Leaf("p", (Axis(4), Axis(6)), None, Cut("k", (4, 6), (-1, 0))),),
            r"a part should lie inside .* that starts at \(-1, 0\)",
        ),
        ((LEFT, LEFT), r"names of leaves should be unique, got 'k\[:,0:2\]' twice"),
    ],
)
def test_parts_that_do_not_fill_an_array_are_refused(leaves, says):
    with pytest.raises(ValueError, match=says):
        WeightSpec((), leaves)


@pytest.mark.parametrize(
    ("starts", "stops"),
    [((0,), (2,)), ((0, 0), (4, 7)), ((0, 2), (4, 2)), ((-1, 0), (4, 6))],
)
def test_a_part_is_inside_its_array(starts, stops):
    says = r"part_of\('k', ...\): starts and stops should be one each for the axes"
    with pytest.raises(ValueError, match=says):
        part_of("k", (4, 6), starts, stops, (Axis(4), Axis(6)))


def test_parts_are_named_after_their_slices():
    axes = (Axis(4), Axis(2, "a", 1), Axis(2))
    part = part_of("m/k", (4, 6), (0, 2), (4, 6), axes)
    assert part == Leaf("m/k[:,2:6]", axes, (4, 4), Cut("m/k", (4, 6), (0, 2)))
    assert (part.array, part.array_shape) == ("m/k", (4, 6))
    assert (part.stored, part.view) == ((4, 4), (4, 2, 2))
    whole = part_of("k", (4, 6), (0, 0), (4, 6), (Axis(4), Axis(6)))
    assert whole == Leaf("k", (Axis(4), Axis(6)))
    assert (whole.array, whole.array_shape) == ("k", (4, 6))


TILINGS = {
    "a row": (LEFT, RIGHT),
    "in another order": (RIGHT, LEFT),
    "rows of different columns": (
        _box((0, 1), (0, 2)),
        _box((1, 4), (0, 2)),
        _box((0, 3), (2, 6)),
        _box((3, 4), (2, 6)),
    ),
    "a pinwheel": (
        _box((0, 1), (0, 4)),
        _box((1, 4), (0, 1)),
        _box((0, 3), (4, 6)),
        _box((3, 4), (1, 6)),
        _box((1, 3), (1, 4)),
    ),
    "one part": (replace(LEFT, axes=RIGHT.axes[:1], cut=Cut("k", (4,), (0,))),),
}


@pytest.mark.parametrize("name", TILINGS)
def test_any_tiling_is_put_together(name):
    spec = WeightSpec((), TILINGS[name])
    shape = spec.template()["k"].shape
    given = np.arange(np.prod(shape), dtype=float).reshape(shape)
    leaves = spaces.views(spec, {"k": given})
    assert [x.shape for x in leaves.values()] == [leaf.view for leaf in spec.leaves]
    back = spaces.from_views(spec, leaves, {"k": given})["k"]
    assert isinstance(back, np.ndarray)
    np.testing.assert_array_equal(back, given)
    moved = fast_jit(lambda t: spaces.from_views(spec, spaces.views(spec, t), t))
    np.testing.assert_array_equal(moved({"k": given})["k"], given)


@pytest.mark.parametrize("name", CUT)
def test_weights_come_back(name):
    spec = CUT[name].spec
    theta = cut_theta(spec, 0)

    @fast_jit
    def both_ways(theta):
        leaves = spaces.views(spec, theta)
        assert list(leaves) == [leaf.path for leaf in spec.leaves]
        flat = spaces.ravel(spec, theta)
        assert flat.shape == (spec.num_parameters,)
        return spaces.from_views(spec, leaves, theta), spaces.unravel(spec, flat, theta)

    for back in both_ways(theta):
        jax.tree.map(np.testing.assert_array_equal, back, theta)


def test_views_are_the_slices():
    spec, theta = CUT["fused attention"].spec, cut_theta(CUT["fused attention"].spec, 0)
    leaves, kernel = spaces.views(spec, theta), theta["qkv"]["kernel"]
    for n in range(3):
        name = f"qkv/kernel[:,{6 * n}:{6 * n + 6}]"
        part = kernel[:, 6 * n : 6 * n + 6].reshape(5, 2, 3)
        np.testing.assert_array_equal(leaves[name], part)
    bias = theta["qkv"]["bias"]
    np.testing.assert_array_equal(leaves["qkv/bias[6:12]"], bias[6:12].reshape(2, 3))


@pytest.mark.parametrize("name", CUT)
def test_a_spec_of_parts_is_a_value(name):
    spec = CUT[name].spec
    back = spaces.spec_from_dict(json.loads(json.dumps(spaces.spec_to_dict(spec))))
    assert back == spec
    assert hash(back) == hash(spec)
    assert spec.uncut() != spec
    assert spec.uncut().uncut() == spec.uncut()


def test_whole_arrays_are_written_as_before():
    spec = WeightSpec((UnitSpace("a", 2),), (Leaf("k", (Axis(2, "a", 1),)),))
    assert "cut" not in spaces.spec_to_dict(spec)["leaves"][0]
    assert spec.uncut() is spec


def test_the_template_has_arrays_and_weights_are_checked_against_them():
    spec = CUT["stacked layers"].spec
    template = spec.template(jnp.float64)
    assert template["up"].shape == (3, 4, 3)
    assert template["up"].dtype == jnp.float64
    theta = cut_theta(spec, 0)
    spaces.check_theta(spec, theta)
    with pytest.raises(ValueError, match=r"leaf 'up' should have shape \(3, 4, 3\)"):
        spaces.check_theta(spec, {**theta, "up": theta["up"][0]})
    del theta["up"]
    with pytest.raises(ValueError, match=r"missing leaves \['up'\], unexpected"):
        spaces.check_theta(spec, theta)


@pytest.mark.parametrize("name", CUT)
def test_permutations_only_keeps_the_parts(name):
    spec = CUT[name].spec
    bare = spec.permutations_only()
    assert [leaf.cut for leaf in bare.leaves] == [leaf.cut for leaf in spec.leaves]
    assert {space.group for space in bare.spaces} == {"permutation"}
    theta = cut_theta(spec, 0)
    assert spaces.ravel(bare, theta).shape == (spec.num_parameters,)
