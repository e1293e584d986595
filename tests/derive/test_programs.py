"""Random programs are programs: they build, run, vary, and cover their grammar."""

import itertools

import jax
import numpy as np
import pytest

from tests.derive.programs import EVERYTHING, MOST, _draw, main, program
from tests.layer_specs import fast_jit


def test_programs_run_and_vary() -> None:
    """`program` itself has seen outputs of its inputs."""
    for seed in range(60):
        one = program(seed)
        weights = sum(w.size for w in one.theta.values())
        assert 0 < weights <= MOST < 400, seed
        assert all(w.dtype == np.float64 for w in one.theta.values())
        assert all(3 <= len(x) <= 6 for x in one.inputs)
        assert one.text.startswith("def apply(theta, x")
        assert all(f'theta["{name}"]' in one.text for name in one.theta), seed


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4])
def test_a_seed_is_a_program(seed: int) -> None:
    one, again, other = program(seed), program(seed), program(seed + 5)
    assert one.text == again.text
    assert one.text != other.text
    pairs = zip(jax.tree.leaves(one[1:3]), jax.tree.leaves(again[1:3]), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    more = one.more(50)
    y = fast_jit(one.apply)(one.theta, *more)
    assert {len(leaf) for leaf in jax.tree.leaves(y)} == {50}
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(y))


def test_everything_is_drawn() -> None:
    """Every rule, and every choice within one, in the first five hundred."""
    left, seeds = set(EVERYTHING), itertools.count()
    while left and (seed := next(seeds)) < 500:
        drawn = _draw([seed, 0])
        left -= set(drawn.used if drawn else ())
    assert not left
    assert len(EVERYTHING) > 100


def test_a_program_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["3"])
    printed = capsys.readouterr().out
    one = program(3)
    assert one.text in printed
    assert f"{sum(w.size for w in one.theta.values())} weights; inputs float64" in (
        printed
    )
