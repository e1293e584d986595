"""Is the group of a spec all there is? Its orbit against the function's null space.

At random weights, the directions that change no output (to first order) are the null
space of the Jacobian; those that the group moves along are its tangent space. Equal
dimensions: the connected part of the group is maximal (`qejax.testing.deficit`). Shown
on networks without dead units and with layers wide enough that no other direction is
lost: `MAXIMAL`.
"""

from dataclasses import replace
from typing import Any

import pytest

from qejax import nets, testing
from qejax.spaces import WeightSpec
from qejax.testing import Deficit
from tests.registry import NETS, Row, inputs_of, theta_of


def deficit(row: Row) -> Deficit:
    """How many dimensions the null space has beyond the orbit."""
    theta, x = theta_of(row.net.spec, 0), inputs_of(row, number=200)
    return testing.deficit(row.net.apply, row.net.spec, theta, x)


def encoder(**fields: Any) -> Row:
    """As many pixels as it takes to span the stream, units that are never dead."""
    net = nets.transformer(
        6, 1, 2, 7, image=(6, 4, 1), patch=2, num_outputs=3, activation="gelu", **fields
    )
    return Row(net, (6, 4, 1))


MAXIMAL = {
    "scales": Row(nets.mlp((3, 5, 2), "leaky_relu"), (3,)),
    **{
        f"coordinates, {name}": Row(nets.coordinate((2, 5, 4, 1), name), (2,))
        for name in ("gaussian(1)", "sine(2)", "tanh")
    },
    "skips that tie scales": Row(
        nets.skip_cnn(
            (2, 3, 2, 5), residual=(-1, -1, 0), activation="leaky_relu", num_outputs=2
        ),
        (4, 4, 2),
    ),
    "rotations": NETS["rms without scale, rotary, grouped"],
    "centred rotations, tables": NETS["language, layer norm without scale"],
    "a stream that is read without a norm, and centred ones": encoder(
        placement="post", residual=False, affine=False
    ),
}


@pytest.mark.parametrize("name", MAXIMAL)
@pytest.mark.one_in(2)
def test_nothing_else_keeps_the_function(name: str) -> None:
    found = deficit(MAXIMAL[name])
    assert found.missing == 0, found.message()
    assert set(found.leaves.values()) == {0}


def test_control_without_scales_a_dimension_a_unit_is_missing() -> None:
    row = MAXIMAL["scales"]
    net = replace(row.net, spec=row.net.spec.permutations_only())
    found = deficit(Row(net, row.inputs))
    assert (found.missing, found.orbit) == (5, 0)
    assert sorted(found.leaves.values()) == [0, 5, 5, 5]


def test_control_a_smaller_group_leaves_something() -> None:
    net = MAXIMAL["centred rotations, tables"].net
    spec = net.spec
    fewer = WeightSpec(spec.spaces, spec.leaves, spec.shifts[1:])
    row = MAXIMAL["centred rotations, tables"]
    smaller = deficit(Row(replace(net, spec=fewer), row.inputs, row.vocabulary))
    assert smaller.orbit + smaller.missing == deficit(row).orbit
    assert smaller.missing > 0


def test_behind_a_scale_no_linear_action_is_maximal() -> None:
    """What is missing, counted, and nothing of it once the norms are folded.

    Rotations around the ones-vector of the stream with every scale moved into what
    reads it, and one direction that a reader does not see, for each of its outputs.
    """
    width, readers = 6, 3 * 6 + 7 + 3
    rotations = (width - 1) * (width - 2) // 2
    row = encoder()
    assert deficit(row).missing == rotations + readers
    folded, _ = nets.fold_norms(row.net, theta_of(row.net.spec, 0))
    assert deficit(Row(folded, row.inputs)).missing == 0
