"""Settled specs: what is left out, what stays; and what cannot be settled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, spaces
from qejax.spaces import Axis, Leaf, Shift, UnitSpace, WeightSpec, _settle, settled_spec
from qejax.spaces._views import nan_unless_finite
from tests.layer_specs import fast_jit
from tests.registry import MLPS_AND_CNNS, NETS, TRANSFORMERS, theta_of

SETTLED = ("absorbed", "linear_stream", "orthogonal", "orthogonal_ones", "rotary")


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_what_is_settled_is_gone(name):
    spec = TRANSFORMERS[name].net.spec
    free = settled_spec(spec)
    assert free.shifts == ()
    assert {space.group for space in free.spaces}.isdisjoint(SETTLED)
    kept = [space for space in spec.spaces if space.group not in SETTLED]
    assert list(free.spaces) == kept
    gone = {leaf.path for leaf in spec.leaves} - {leaf.path for leaf in free.leaves}
    assert gone >= {shift.leaf for shift in spec.shifts if not shift.along}
    for leaf in free.leaves:
        old = spec.leaf_by_path[leaf.path]
        assert leaf.stored == old.stored
        for axis, was in zip(leaf.axes, old.axes, strict=True):
            fixed = was.space is None or spec.space_by_name[was.space].group in SETTLED
            assert axis == (Axis(was.size) if fixed else was)
    assert settled_spec(free) is free


def test_leaves_that_are_left_out():
    """Of a block: its norms, the key and value biases; not where something adds up."""
    spec = NETS["vit, class token"].net.spec
    free = settled_spec(spec).leaf_by_path
    gone = [leaf.path for leaf in spec.leaves if leaf.path not in free]
    assert gone == [
        "block_00/norm_1/scale",
        "block_00/norm_1/bias",
        "block_00/attention/key/bias",
        "block_00/attention/value/bias",
        "block_00/norm_2/scale",
        "block_00/norm_2/bias",
        "norm/scale",
        "norm/bias",
    ]
    post = settled_spec(NETS["post-norm"].net.spec).leaf_by_path
    assert "block_00/norm_1/scale" in post
    assert "block_00/norm_2/scale" not in post


STILL = [
    name
    for name, row in MLPS_AND_CNNS.items()
    if all(space.group != "dihedral" for space in row.net.spec.spaces)
]


@pytest.mark.parametrize("name", STILL)
def test_without_matrices_there_is_nothing_to_settle(name):
    spec = MLPS_AND_CNNS[name].net.spec
    assert settled_spec(spec) == spec
    assert not spaces.has_matrices(spec)
    theta = theta_of(spec, 0)
    assert spaces.settled(spec, theta) is theta


def test_heads_alone_are_settled_already():
    spec = settled_spec(NETS["no norm"].net.spec)
    assert spaces.has_matrices(spec)
    theta = theta_of(spec, 0)
    assert spaces.settled(spec, theta) is theta


def test_a_stream_without_norms_that_little_writes():
    """Its own form needs layers that read it and add to it."""
    spec = WeightSpec(
        (UnitSpace("stream", 4, "linear_stream"),),
        (
            Leaf("first", (Axis(2), Axis(4, "stream", 1))),
            Leaf("reads", (Axis(4, "stream", -1), Axis(3))),
            Leaf("later", (Axis(2), Axis(4, "stream", 1))),
        ),
    )
    message = (
        r"unit space 'stream': the normal form of a stream without norms needs at "
        r"least 4 rows that write it before the first layer reads it, or a layer that "
        r"reads it and adds to it, got 2, from \['first'\]"
    )
    for form in (spaces.settled, spaces.canonical_form):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(functools.partial(form, spec), spec.template())


def test_units_whose_signs_nothing_fixes():
    spec = WeightSpec(
        (UnitSpace("stream", 2, "orthogonal"), UnitSpace("rank", 2, "general_linear")),
        (
            Leaf("a", (Axis(2, "stream", -1), Axis(2, "rank", 1))),
            Leaf("b", (Axis(2, "rank", -1), Axis(2, "stream", 1))),
        ),
    )
    message = (
        r"unit space 'stream': the normal form needs a leaf that fixes the signs of "
        r"its units.* got \['a', 'b'\] only"
    )
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(spaces.settled, spec), spec.template())


def test_no_element_leads_to_a_form_of_heads():
    spec = NETS["vit, class token"].net.spec
    message = (
        r"canonical_element: expected a spec of permutations, scales and signs, got "
        r"the groups \['absorbed', 'general_linear', 'permutation'\] and 12 shifts"
    )
    with pytest.raises(ValueError, match=message):
        spaces.canonical_element(spec, theta_of(spec, 0))


def test_theta_that_does_not_fit():
    spec = NETS["vit, class token"].net.spec
    for form in (spaces.settled, spaces.canonical_form):
        with pytest.raises(ValueError, match=r"first difference is at 'embed/kernel'"):
            form(spec, {})


def test_spaces_are_settled_in_network_order_whatever_the_hash_seed():
    spec = nets.adapted(NETS["vit, class token"].net, 1, ("query", "out")).spec
    runs = list(_settle._runs(spec))
    assert max(len(names) for _, names in runs) > 1
    assert [name for _, names in runs for name in names] == [
        space.name for space in spec.spaces
    ]
    assert all(isinstance(names, tuple) for _, names in runs)


def test_means_alone_are_settled():
    """A spec whose only shifts are means: what nobody sees is gone."""
    spec = WeightSpec(
        (UnitSpace("rank", 2, "general_linear"),),
        (
            Leaf("a", (Axis(3), Axis(2, "rank", 1))),
            Leaf("b", (Axis(2, "rank", -1), Axis(4))),
        ),
        (Shift("mean", "b", along=(1,)),),
    )
    theta = theta_of(spec, 0)
    settled = spaces.settled(spec, theta)
    assert float(abs(theta["b"].mean(1)).max()) > 1e-2
    assert float(abs(settled["b"].mean(1)).max()) < 1e-12
    assert not settled_spec(spec).shifts


def broken(theta, leaf, value):
    """The network with one entry of one leaf, by its number, set to a value."""
    leaves, structure = jax.tree.flatten(theta)
    leaves[leaf] = (
        leaves[leaf].reshape(-1).at[-1].set(value).reshape(leaves[leaf].shape)
    )
    return jax.tree.unflatten(structure, leaves)


@pytest.mark.parametrize("form", ["canonical_form", "settled", "balanced"])
@pytest.mark.parametrize("name", ["vit, class token", "no norm"])
@pytest.mark.one_in(2)
def test_a_network_that_is_not_finite_has_a_form_of_nans(name, form):
    """All of it and nothing of its neighbours, wherever the entry is."""
    spec = NETS[name].net.spec
    spec = settled_spec(spec) if form == "balanced" else spec
    theta = theta_of(spec, 0)
    values = (jnp.nan, jnp.inf, -jnp.inf)
    wrong = [broken(theta, leaf, value) for leaf in (0, -1) for value in values]
    run = fast_jit(jax.vmap(functools.partial(getattr(spaces, form), spec)))
    stack = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))
    good = run(stack(*[theta] * (1 + len(wrong))))
    found = run(stack(theta, *wrong))
    for x, expected in zip(jax.tree.leaves(found), jax.tree.leaves(good), strict=True):
        assert np.all(np.isfinite(expected))
        np.testing.assert_array_equal(x[0], expected[0])
        assert np.all(np.isnan(np.asarray(x)[1:]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_finite_forms_keep_every_bit(dtype):
    top = jnp.finfo(dtype).max
    form = {"a": jnp.asarray([-0.0, 0.0, 1e-30, -top], dtype), "b": jnp.ones(2, dtype)}
    kept = nan_unless_finite(form, {"x": jnp.asarray([top, 0], dtype)})
    for x, expected in zip(jax.tree.leaves(kept), jax.tree.leaves(form), strict=True):
        assert (x.dtype, x.tobytes()) == (expected.dtype, expected.tobytes())
    lost = nan_unless_finite(form, {"x": form["b"], "y": jnp.asarray([1, jnp.inf])})
    assert all(jnp.all(jnp.isnan(x)) for x in jax.tree.leaves(lost))
    assert {x.dtype for x in jax.tree.leaves(lost)} == {jnp.dtype(dtype)}
