import jax
import jax.numpy as jnp
import pytest

from qejax import testing
from qejax.groups import Monomial
from tests.registry import GROUPS


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_groups_pass(name, dtype):
    report = testing.group_laws(GROUPS[name], 5, spread=1e4, dtype=dtype)
    report.check()
    assert set(report.parts) >= {"identity", "inverse", "associativity"}
    testing.assert_group_laws(GROUPS[name], 4, jax.random.key(1))


def _swapped(h, g):
    return Monomial(g.perm[h.perm], h.scale * g.scale)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"mul": _swapped}, "failed: the axioms on 5 units.*Look at"),
        (
            {"inv": lambda g: Monomial(g.perm, 1 / g.scale)},
            "got inf.*Look at inverse",
        ),
        ({"matrix": lambda g, power: jnp.eye(5)}, "Look at matrix, power"),
    ],
)
def test_wrong_groups_fail(broken, says):
    with pytest.raises(
        AssertionError, match=f"group_laws of 'positive_scale' .*{says}"
    ):
        testing.assert_group_laws(GROUPS["positive_scale"]._replace(**broken))


def test_an_inert_group_is_no_evidence():
    inert = GROUPS["positive_scale"]._replace(
        sample=lambda key, size, spread, dtype: Monomial(
            jnp.arange(size), jnp.ones(size, dtype)
        )
    )
    with pytest.raises(AssertionError, match="A group that does nothing obeys every"):
        testing.assert_group_laws(inert)
    with pytest.raises(AssertionError, match="A group that does nothing obeys every"):
        testing.assert_group_laws(GROUPS["permutation"], 1)


def test_a_constant_sampler_is_no_evidence():
    stuck = GROUPS["positive_scale"]._replace(
        sample=lambda key, size, spread, dtype: Monomial(
            jnp.roll(jnp.arange(size), 1), jnp.full(size, 2.0, dtype)
        )
    )
    with pytest.raises(AssertionError, match="Samples are all the same element"):
        testing.assert_group_laws(stuck)


def test_samples_must_be_elements():
    wrong = GROUPS["sign"]._replace(sample=GROUPS["positive_scale"].sample)
    with pytest.raises(ValueError, match=r"`scale` should be \+1 or -1"):
        testing.group_laws(wrong)
