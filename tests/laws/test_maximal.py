"""Is the group of a spec all there is? Its orbit against the function's null space.

At random weights, the directions that change no output (to first order) are the null
space of the Jacobian; those that the group moves along are its tangent space. Equal
dimensions: the connected part of the group is maximal. Shown on networks without dead
units and with layers wide enough that no other direction is lost: `MAXIMAL`.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import groups, nets, spaces
from qejax.spaces import WeightSpec
from tests.layer_specs import fast_jit
from tests.registry import NETS, Row, inputs_of, theta_of

CLEAR = 1e-9
"""Singular values below this share of the largest are rounding: a gap of six orders."""


def tangent(spec: WeightSpec, theta: Any) -> np.ndarray:
    """Columns along which the connected part of the group moves weights, `[P, n]`.

    Half periods of sines are whole numbers, so that units which turn are none of it.
    """
    e = spaces.identity(spec, jnp.float64)
    free = {name: getattr(one, "scale", one) for name, one in e.items()}
    flat, build = jax.flatten_util.ravel_pytree(free)

    def moved(vector: jax.Array) -> jax.Array:
        parts = build(vector)
        g = {
            name: one._replace(scale=parts[name])
            if isinstance(one, groups.Monomial | groups.Dihedral)
            else parts[name]
            for name, one in e.items()
        }
        return spaces.ravel(spec, spaces.act(spec, g, theta))

    columns = np.asarray(fast_jit(jax.jacfwd(moved))(flat))
    kept, start = [], 0
    group_of = {space.name: space.group for space in spec.spaces}
    for name in sorted(free):
        block = columns[:, start : start + free[name].size]
        start += free[name].size
        kept.append(_along(group_of.get(name, "shift"), block))
    return np.concatenate(kept, 1)


def _along(group: str, block: np.ndarray) -> np.ndarray:
    """The columns of an element's entries turned into those of its Lie algebra."""
    if group in ("permutation", "sign", "dihedral"):
        return block[:, :0]
    if not group.startswith("orthogonal"):
        return block
    size = round(block.shape[1] ** 0.5)
    square = block.reshape(-1, size, size)
    skew = square - square.transpose(0, 2, 1)
    if group == "orthogonal_ones":
        centre = np.eye(size) - 1 / size
        skew = centre @ skew @ centre
    return skew.reshape(block.shape)


def rank(matrix: np.ndarray) -> int:
    """Rank, with a gap around the threshold or nothing said."""
    if not matrix.size:
        return 0
    values = np.linalg.svd(matrix, compute_uv=False)
    values = values / values[0]
    count = int(np.sum(values > CLEAR))
    assert values[count - 1] > 10 * CLEAR, (
        "no gap around CLEAR: draw other weights, or more inputs"
    )
    assert count == len(values) or values[count] < 1e-3 * CLEAR
    return count


def missing(row: Row) -> int:
    """How many dimensions the null space has beyond the orbit."""
    spec = row.net.spec
    theta, x = theta_of(spec, 0), inputs_of(row, number=200)

    def outputs(vector: jax.Array) -> jax.Array:
        return row.net.apply(spaces.unravel(spec, vector, theta), x).reshape(-1)

    jacobian = np.asarray(fast_jit(jax.jacfwd(outputs))(spaces.ravel(spec, theta)))
    along = tangent(spec, theta)
    kept = np.max(np.abs(jacobian @ along), initial=0)
    assert kept <= 1e-10 * np.max(np.abs(jacobian)) * np.max(np.abs(along), initial=0)
    return spec.num_parameters - rank(jacobian) - rank(along)


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
def test_nothing_else_keeps_the_function(name: str) -> None:
    assert missing(MAXIMAL[name]) == 0


def test_control_without_scales_a_dimension_a_unit_is_missing() -> None:
    row = MAXIMAL["scales"]
    net = replace(row.net, spec=row.net.spec.permutations_only())
    assert missing(Row(net, row.inputs)) == 5


def test_control_a_smaller_group_leaves_something() -> None:
    net = MAXIMAL["centred rotations, tables"].net
    spec = net.spec
    theta = theta_of(spec, 0)
    fewer = WeightSpec(spec.spaces, spec.leaves, spec.shifts[1:])
    assert rank(tangent(fewer, theta)) < rank(tangent(spec, theta))


def test_behind_a_scale_no_linear_action_is_maximal() -> None:
    """What is missing, counted, and nothing of it once the norms are folded.

    Rotations around the ones-vector of the stream with every scale moved into what
    reads it, and one direction that a reader does not see, for each of its outputs.
    """
    width, readers = 6, 3 * 6 + 7 + 3
    rotations = (width - 1) * (width - 2) // 2
    row = encoder()
    assert missing(row) == rotations + readers
    folded, _ = nets.fold_norms(row.net, theta_of(row.net.spec, 0))
    assert missing(Row(folded, row.inputs)) == 0
