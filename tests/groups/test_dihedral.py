"""Sine units: what a sign and a turn do, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax.groups import Dihedral, group

DIHEDRAL = group("dihedral")


def element(scale: float, turns: int) -> Dihedral:
    return Dihedral(jnp.array([0]), jnp.array([scale]), jnp.array([turns]))


@pytest.mark.parametrize("scale", [1.0, -1.0])
@pytest.mark.parametrize("turns", [-3, -2, -1, 0, 1, 2])
def test_readers_flip_with_the_unit(scale: float, turns: int) -> None:
    """`sin(s x + k pi)` is `s (-1)^k sin(x)`, and readers make up for it."""
    g, x = element(scale, turns), 0.3
    flip = float(DIHEDRAL.move(g, jnp.ones(1), 0, -1)[0])
    np.testing.assert_allclose(np.sin(scale * x + turns * np.pi), flip * np.sin(x))
    assert float(DIHEDRAL.move(g, jnp.ones(1), 0, 1)[0]) == scale


def test_it_does_not_commute() -> None:
    flip, turn = element(-1.0, 0), element(1.0, 1)
    one, other = DIHEDRAL.mul(flip, turn), DIHEDRAL.mul(turn, flip)
    assert (int(one.turns[0]), int(other.turns[0])) == (-1, 1)


def test_turns_have_infinite_order() -> None:
    turn = element(1.0, 1)
    assert int(DIHEDRAL.mul(turn, turn).turns[0]) == 2
    twice = DIHEDRAL.mul(element(-1.0, 1), element(-1.0, 1))
    assert (float(twice.scale[0]), int(twice.turns[0])) == (1.0, 0)


def test_samples_turn_both_ways() -> None:
    g = DIHEDRAL.sample(jax.random.key(0), 200, 10.0, jnp.float64)
    assert sorted({int(turn) for turn in g.turns}) == list(range(-4, 5))
    assert {float(sign) for sign in g.scale} == {1.0, -1.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"turns": jnp.array([0.5])}, "`turns` should be integers of shape"),
        ({"turns": jnp.array([1, 2])}, r"of shape \(1,\), got int\d+ of shape \(2,\)"),
        ({"scale": jnp.array([2.0])}, r"`scale` should be \+1 or -1"),
    ],
)
def test_what_is_refused(change: dict[str, jax.Array], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DIHEDRAL.check(element(1.0, 0)._replace(**change), 1)
