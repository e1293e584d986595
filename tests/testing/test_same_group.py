"""Groups of two specs: the same whatever they are called, or inside, or neither."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, testing
from qejax.groups import GROUPS
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec, part_of
from qejax.testing._moves import FLIPS
from tests.registry import NETS, theta_of


def renamed(spec: WeightSpec) -> WeightSpec:
    """The same group: other names, leaves in another order, spaces as far as may be."""
    names = {space.name: f"u{n}" for n, space in enumerate(spec.spaces)}
    units = [
        replace(s, name=names[s.name], per=None if s.per is None else names[s.per])
        for s in spec.spaces
    ]
    leaves = [
        replace(
            leaf,
            axes=tuple(
                a if a.space is None else replace(a, space=names[a.space])
                for a in leaf.axes
            ),
        )
        for leaf in spec.leaves
    ]
    ordered = sorted(reversed(units), key=lambda s: s.per is not None)
    shifts = tuple(replace(s, name=f"t{n}") for n, s in enumerate(spec.shifts))
    return WeightSpec(tuple(ordered), tuple(reversed(leaves)), shifts)


def regrouped(spec: WeightSpec, name: str, group: str) -> WeightSpec:
    return replace(
        spec,
        spaces=tuple(
            replace(s, group=group) if s.name == name else s for s in spec.spaces
        ),
    )


def without_turns(spec: WeightSpec) -> WeightSpec:
    spaces_ = tuple(
        replace(s, group="sign") if s.group == "dihedral" else s for s in spec.spaces
    )
    return replace(spec, spaces=spaces_)


NAMES = (
    "linear, no hidden layer",
    "width one",
    "sine, then gaussian and relu",
    "residual sine",
    "mixed",
    "cnn, sine, flatten",
    "vit, class token",
    "no norm",
    "rms without scale, rotary, grouped",
    "language, rotary, grouped, gated",
    "language, layer norm without scale",
    "adapters of an unknown network",
)


SMALL = (
    "width one",
    "sine, then gaussian and relu",
    "mixed",
    "cnn, sine, flatten",
    "rms without scale, rotary, grouped",
)


def test_every_group_says_its_flips() -> None:
    assert set(FLIPS) == set(GROUPS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.one_in(3)
def test_names_and_orders_do_not_matter(name: str) -> None:
    spec = NETS[name].net.spec
    found = testing.same_group(spec, renamed(spec), theta_of(spec, 0))
    assert found.equal, found.message()
    assert len(set(found.dimensions)) == 1
    assert found.message().startswith("the groups are the same, of dimension")


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.one_in(2)
def test_control_a_space_less_is_seen(name: str) -> None:
    """Each in turn: all that it does is one of the things that the other lacks."""
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0)
    for space in spec.spaces:
        if any(other.per == space.name for other in spec.spaces):
            continue
        fewer = _without(spec, space.name)
        if fewer is None:
            continue
        found = testing.same_group(fewer, spec, theta)
        alone = space.size == 1 and space.group in ("permutation", "orthogonal_ones")
        assert found.a_in_b, found.message()
        assert found.equal == alone, (space, found.message())


def _without(spec: WeightSpec, name: str) -> WeightSpec | None:
    """The spec without a space, where no shift is constant along what it moves."""
    leaves = tuple(
        replace(
            leaf,
            axes=tuple(Axis(a.size) if a.space == name else a for a in leaf.axes),
        )
        for leaf in spec.leaves
    )
    return WeightSpec(
        tuple(s for s in spec.spaces if s.name != name), leaves, spec.shifts
    )


def one_layer(group: str, turn: float = 0.0) -> WeightSpec:
    return WeightSpec(
        (UnitSpace("hidden", 4, group),),
        (
            Leaf("up", (Axis(3), Axis(4, "hidden", 1))),
            Leaf("bias", (Axis(4, "hidden", 1, turn),)),
            Leaf("down", (Axis(4, "hidden", -1), Axis(2))),
        ),
    )


INSIDE = [
    ("permutation", "positive_scale"),
    ("permutation", "sign"),
    ("permutation", "orthogonal"),
    ("permutation", "orthogonal_ones"),
    ("permutation", "general_linear"),
    ("positive_scale", "general_linear"),
    ("sign", "orthogonal"),
    ("sign", "dihedral"),
    ("orthogonal_ones", "orthogonal"),
    ("orthogonal", "linear_stream"),
    ("rotary", "absorbed"),
]
NEITHER = [
    ("sign", "positive_scale"),
    ("sign", "orthogonal_ones"),
    ("dihedral", "orthogonal"),
    ("rotary", "orthogonal"),
    ("rotary", "permutation"),
    ("positive_scale", "orthogonal"),
]


def turn_of(group: str) -> float:
    return 1.5 if group == "dihedral" else 0.0


@pytest.mark.parametrize(("small", "large"), INSIDE)
def test_a_group_inside_of_another(small: str, large: str) -> None:
    a, b = (one_layer(group, turn_of(group)) for group in (small, large))
    theta = theta_of(a, 0)
    found, back = testing.same_group(a, b, theta), testing.same_group(b, a, theta)
    assert (found.a_in_b, found.b_in_a, found.equal) == (True, False, False)
    assert (back.a_in_b, back.b_in_a) == (False, True)
    assert found.message().startswith("the first group lies inside of the second")
    assert back.message().startswith("the second group lies inside of the first")
    assert found.difference
    assert "first group" in found.difference


@pytest.mark.parametrize(("one", "other"), NEITHER)
def test_neither_inside(one: str, other: str) -> None:
    a, b = (one_layer(group, turn_of(group)) for group in (one, other))
    found = testing.same_group(a, b, theta_of(a, 0))
    assert (found.a_in_b, found.b_in_a) == (False, False)
    assert found.message().startswith("neither group lies inside of the other")


def two_layers(tied: bool, group: str = "permutation") -> WeightSpec:
    second = "one" if tied else "two"
    units = (UnitSpace("one", 3, group), UnitSpace("two", 3, group))
    return WeightSpec(
        units[: 1 if tied else 2],
        (
            Leaf("a", (Axis(3), Axis(3, "one", 1))),
            Leaf("b", (Axis(3, "one", -1), Axis(3, second, 1))),
            Leaf("c", (Axis(3, second, -1), Axis(3))),
        ),
    )


@pytest.mark.parametrize("group", ["permutation", "positive_scale", "sign"])
def test_tied_spaces_are_inside_of_free_ones(group: str) -> None:
    tied, free = two_layers(True, group), two_layers(False, group)
    found = testing.same_group(tied, free, theta_of(tied, 0))
    assert (found.a_in_b, found.b_in_a) == (True, False)
    expected = (
        "3 directions are not in the first group"
        if group == "positive_scale"
        else "exchanging units 0 and 1 of unit space 'one' is not in the first group: "
        "units of 'one' would be torn apart"
    )
    assert found.difference == expected


def test_blocks_are_inside_of_units() -> None:
    """Heads of two as pairs of four units, stored alike."""
    units = WeightSpec(
        (UnitSpace("unit", 4),),
        (
            Leaf("up", (Axis(3), Axis(4, "unit", 1))),
            Leaf("down", (Axis(4, "unit", -1), Axis(2))),
        ),
    )
    pairs = WeightSpec(
        (UnitSpace("head", 2), UnitSpace("inner", 2, per="head")),
        (
            Leaf("up", (Axis(3), Axis(2, "head", 1), Axis(2, "inner", 1)), (3, 4)),
            Leaf("down", (Axis(2, "head", -1), Axis(2, "inner", -1), Axis(2)), (4, 2)),
        ),
    )
    shared = WeightSpec(
        (UnitSpace("head", 2), UnitSpace("inner", 2)),
        pairs.leaves,
    )
    theta = theta_of(units, 0)
    found = testing.same_group(pairs, units, theta)
    assert (found.a_in_b, found.b_in_a) == (True, False)
    found = testing.same_group(shared, pairs, theta)
    assert (found.a_in_b, found.b_in_a) == (True, False)
    found = testing.same_group(units, pairs, theta)
    assert "would be torn apart" in found.difference


def test_a_flip_of_two_units_at_once() -> None:
    """Signs are compared as products: one sign for all is in a sign for each."""
    each = one_layer("sign")
    every = WeightSpec(
        (UnitSpace("all", 1, "sign"), UnitSpace("hidden", 4)),
        (
            Leaf("up", (Axis(1, "all", 1), Axis(3), Axis(4, "hidden", 1)), (3, 4)),
            Leaf("bias", (Axis(1, "all", 1), Axis(4, "hidden", 1)), (4,)),
            Leaf("down", (Axis(1, "all", -1), Axis(4, "hidden", -1), Axis(2)), (4, 2)),
        ),
    )
    found = testing.same_group(every, each, theta_of(each, 0))
    assert (found.a_in_b, found.b_in_a) == (True, False)
    assert found.difference == (
        "flipping unit 0 of unit space 'hidden' is not in the first group: no flips "
        "give the sign of bias[0]"
    )


def test_other_powers_are_another_group() -> None:
    relu, squared = (
        nets.mlp_spec((3, 4, 2), activation=name) for name in ("relu", "relu^2")
    )
    found = testing.same_group(relu, squared, theta_of(relu, 0))
    assert (found.a_in_b, found.b_in_a) == (False, False)
    assert found.dimensions == (4, 4, 8)
    assert found.difference == "4 directions are not in the second group"


def test_turns_of_another_rate() -> None:
    """Two turns of one rate are one of twice of it, but readers do not flip then."""
    slow, fast = one_layer("dihedral", 3.0), one_layer("dihedral", 1.5)
    theta = theta_of(slow, 0)
    found = testing.same_group(slow, fast, theta)
    assert (found.a_in_b, found.b_in_a) == (False, False)
    assert "turning unit 0 of unit space 'hidden' is not in the second" in (
        found.difference
    )
    third = testing.same_group(one_layer("dihedral", 4.5), fast, theta)
    assert (third.a_in_b, third.b_in_a) == (True, False)
    signs = testing.same_group(one_layer("sign"), fast, theta)
    assert "nothing adds 1.5 to bias[0]" in signs.difference
    sines = NETS["sine, then gaussian and relu"].net.spec
    found = testing.same_group(without_turns(sines), sines, theta_of(sines, 0))
    assert (found.a_in_b, found.b_in_a) == (True, False)


def test_shifts_count() -> None:
    spec = NETS["vit, class token"].net.spec
    theta = theta_of(spec, 0)
    fewer = replace(spec, shifts=spec.shifts[1:])
    found = testing.same_group(fewer, spec, theta)
    assert (found.a_in_b, found.b_in_a) == (True, False)
    assert "directions are not in the first group" in found.difference


def test_a_half_turn_of_a_pair_is_a_rotation() -> None:
    """A sign for two units that rotary embedding turns: connected to the identity."""
    rotary = WeightSpec(
        (UnitSpace("pair", 2, "rotary"),),
        (
            Leaf("up", (Axis(3), Axis(2, "pair", 1))),
            Leaf("down", (Axis(2, "pair", -1), Axis(2))),
        ),
    )
    sign = WeightSpec(
        (UnitSpace("both", 1, "sign"),),
        (
            Leaf("up", (Axis(3), Axis(2), Axis(1, "both", 1)), (3, 2)),
            Leaf("down", (Axis(2), Axis(1, "both", -1), Axis(2)), (2, 2)),
        ),
    )
    found = testing.same_group(sign, rotary, theta_of(rotary, 0))
    assert (found.a_in_b, found.b_in_a) == (True, False)
    quarter = regrouped(rotary, "pair", "permutation")
    found = testing.same_group(quarter, rotary, theta_of(rotary, 0))
    assert found.difference.endswith("no flips give the sign of down[0, 0]")


def test_weights_that_do_not_fit_or_are_of_float32() -> None:
    spec = one_layer("sign")
    other = nets.mlp_spec((3, 4, 2))
    with pytest.raises(ValueError, match="theta does not fit its spec"):
        testing.same_group(spec, other, theta_of(spec, 0))
    with pytest.raises(ValueError, match="same_group: ranks are told from singular"):
        testing.same_group(spec, spec, theta_of(spec, 0, jnp.float32))


def test_parts_of_arrays() -> None:
    """Units of two kinds that one array holds, beside units of one kind."""
    axes = ((Axis(3), Axis(2, "one", 1)), (Axis(3), Axis(2, "two", 1)))
    split = WeightSpec(
        (UnitSpace("one", 2, "positive_scale"), UnitSpace("two", 2, "sign")),
        (
            part_of("up", (3, 4), (0, 0), (3, 2), axes[0]),
            part_of("up", (3, 4), (0, 2), (3, 4), axes[1]),
            part_of("down", (4, 2), (0, 0), (2, 2), (Axis(2, "one", -1), Axis(2))),
            part_of("down", (4, 2), (2, 0), (4, 2), (Axis(2, "two", -1), Axis(2))),
        ),
    )
    whole = WeightSpec(
        (UnitSpace("all", 4, "general_linear"),),
        (
            Leaf("up", (Axis(3), Axis(4, "all", 1))),
            Leaf("down", (Axis(4, "all", -1), Axis(2))),
        ),
    )
    theta = theta_of(whole, 0)
    assert testing.same_group(split, renamed(split), theta).equal
    found = testing.same_group(split, whole, theta)
    assert (found.a_in_b, found.b_in_a) == (True, False)
    assert found.dimensions == (2, 14, 14)

    def apply(theta: Any, x: Any) -> Any:
        hidden = jnp.dot(x, theta["up"])
        relu = jnp.where(hidden > 0, hidden, 0.1 * hidden)
        both = jnp.concatenate([relu[:, :2], jnp.tanh(hidden[:, 2:])], 1)
        return jnp.dot(both, theta["down"])

    x = np.random.default_rng(0).normal(size=(20, 3))
    counted = testing.deficit(apply, split, theta, x)
    assert (counted.null, counted.missing) == (2, 0)
    assert set(counted.leaves) == {"up", "down"}
