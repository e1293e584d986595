import jax
import jax.numpy as jnp
import pytest

from qejax import testing
from qejax.groups import Monomial
from tests.registry import GROUPS


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.one_in(2)
def test_groups_pass(name, dtype):
    spread = 1e4 if GROUPS[name].monomial else 10.0
    report = testing.group_laws(GROUPS[name], 4, spread=spread, dtype=dtype)
    report.check()
    assert set(report.parts) >= {"identity", "inverse", "associativity"}
    testing.assert_group_laws(GROUPS[name], 4, jax.random.key(1))


def test_matrices_are_moved_and_read():
    parts = testing.group_laws(GROUPS["rotary"], 4).parts
    assert {"action, power 1", "matrix, power -1"} <= set(parts)
    assert "action, power -2" in testing.group_laws(GROUPS["sign"], 4).parts


def test_the_number_of_units_must_fit():
    with pytest.raises(ValueError, match="got size=5, of which they move 4"):
        testing.group_laws(GROUPS["rotary"], 5)


def _swapped(h, g):
    return Monomial(g.perm[h.perm], h.scale * g.scale)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"mul": _swapped}, "failed: the axioms on 4 units.*Look at"),
        (
            {"inv": lambda g: Monomial(g.perm, 1 / g.scale)},
            "got inf.*Look at inverse",
        ),
        ({"matrix": lambda g, power: jnp.eye(4)}, "Look at matrix, power"),
    ],
)
def test_wrong_groups_fail(broken, says):
    with pytest.raises(
        AssertionError, match=f"group_laws of 'positive_scale' .*{says}"
    ):
        testing.assert_group_laws(GROUPS["positive_scale"]._replace(**broken), 4)


@pytest.mark.parametrize(
    ("name", "broken", "says"),
    [
        ("general_linear", {"mul": lambda h, g: g @ h}, "Look at action, power"),
        ("orthogonal", {"inv": lambda g: g}, "Look at inverse"),
        ("general_linear", {"matrix": lambda g, power: g}, "Look at matrix, power -1"),
        (
            "rotary",
            {"move": lambda g, x, axis, power: GROUPS["rotary"].move(g, x, axis, 1)},
            "Look at matrix, power -1",
        ),
    ],
)
def test_wrong_matrix_groups_fail(name, broken, says):
    with pytest.raises(AssertionError, match=f"group_laws of {name!r} .*{says}"):
        testing.assert_group_laws(GROUPS[name]._replace(**broken), 4)


def test_an_inert_group_is_no_evidence():
    inert = GROUPS["positive_scale"]._replace(
        sample=lambda key, size, spread, dtype: Monomial(
            jnp.arange(size), jnp.ones(size, dtype)
        )
    )
    with pytest.raises(AssertionError, match="A group that does nothing obeys every"):
        testing.assert_group_laws(inert, 4)
    with pytest.raises(AssertionError, match="A group that does nothing obeys every"):
        testing.assert_group_laws(GROUPS["permutation"], 1)
    with pytest.raises(AssertionError, match="A group that does nothing obeys every"):
        testing.assert_group_laws(GROUPS["orthogonal_ones"], 1)


def test_a_constant_sampler_is_no_evidence():
    stuck = GROUPS["positive_scale"]._replace(
        sample=lambda key, size, spread, dtype: Monomial(
            jnp.roll(jnp.arange(size), 1), jnp.full(size, 2.0, dtype)
        )
    )
    with pytest.raises(AssertionError, match="Samples are all the same element"):
        testing.assert_group_laws(stuck, 4)


def test_samples_must_be_elements():
    wrong = GROUPS["sign"]._replace(sample=GROUPS["positive_scale"].sample)
    with pytest.raises(ValueError, match=r"`scale` should be \+1 or -1"):
        testing.group_laws(wrong, 4)
