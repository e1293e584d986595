"""The term tables: every row is equivariant, and no row is missing.

The second half is what no equivariance test can see: a table that forgets a term passes
them all. The span of the table is compared with the null space of
`rho_out(g) A - A rho_in(g)` over a few random g.
"""

import functools
from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import spaces
from qejax.layers import CONSTANT, Pattern, Term, mixers, term_table
from qejax.layers import _engine as engine
from qejax.spaces import WeightSpec
from tests import dense
from tests.layer_specs import SPECS, fast_jit, mlp, random_features, randomise

ROWS = pytest.mark.parametrize("name", SPECS)
RTOL = 1e-10


@functools.cache
def representations(name: str) -> dict[str, list[np.ndarray]]:
    """`rho(g)` on each leaf for random g (enough to generate), and the trivial one."""
    spec, blocks = SPECS[name], defaultdict(list)
    for seed in range(12):
        g = spaces.sample(jax.random.key(seed), spec, 2.0, jnp.float64)
        rho, start = np.asarray(spaces.dense_matrix(spec, g)), 0
        for leaf in spec.leaves:
            stop = start + leaf.size
            blocks[leaf.path].append(rho[start:stop, start:stop])
            start = stop
        blocks[CONSTANT.path].append(np.ones((1, 1)))
    return blocks


def maps(term: Term) -> np.ndarray:
    """The maps of one term, `[F_b * F_a, size of b, size of a]`."""
    found = dense.term_matrix(term)
    return found.reshape(-1, *found.shape[2:])


def gap(name: str, term: Term) -> float:
    rho, worst = representations(name), 0.0
    pairs = zip(rho[term.target.leaf.path], rho[term.source.leaf.path], strict=True)
    for out, into in pairs:
        a = maps(term)
        worst = max(worst, float(np.max(np.abs(out @ a - a @ into))))
    return worst


def span(terms: list[Term]) -> int:
    rows = [maps(term).reshape(-1, maps(term)[0].size) for term in terms]
    return dense.rank(np.concatenate(rows)) if rows else 0


@ROWS
def test_every_term_commutes_with_the_group(name: str) -> None:
    for term in term_table(SPECS[name]):
        assert gap(name, term) < RTOL, term


@ROWS
def test_no_term_is_missing(name: str) -> None:
    spec, rho = SPECS[name], representations(name)
    table = defaultdict(list)
    for term in term_table(spec):
        table[term.source.leaf.path, term.target.leaf.path].append(term)
    for target in spec.leaves:
        for source in (CONSTANT, *spec.leaves):
            expected = dense.commutant_dimension(rho[target.path], rho[source.path])
            got = span(table[source.path, target.path])
            assert got == expected, (source.path, target.path)


@pytest.mark.parametrize("name", ["mlp-permutation", "conv-sign", "degree_two"])
def test_terms_are_independent_when_no_space_is_shared(name: str) -> None:
    for mixer in mixers(SPECS[name]):
        assert len(set(mixer.sources)) == len(mixer.sources)
    total = sum(
        term.source.multiplicity * term.target.multiplicity
        for term in term_table(SPECS[name])
    )
    by_pair = defaultdict(list)
    for term in term_table(SPECS[name]):
        by_pair[term.source.leaf.path, term.target.leaf.path].append(term)
    assert sum(span(terms) for terms in by_pair.values()) == total


def test_a_dropped_term_is_noticed() -> None:
    terms = [
        term
        for term in term_table(SPECS["residual-permutation"])
        if term.source.leaf.path == term.target.leaf.path == "layer_01/kernel"
    ]
    # Partitions of four axes: 15, of which one is dependent at width 3.
    assert len(terms) == 15
    assert span(terms) == 14
    assert span(terms[2:]) < 14


def test_a_wrong_term_is_noticed() -> None:
    spec = SPECS["mlp-positive_scale"]
    kernel, bias = spec.leaves[2], spec.leaves[1]
    key = (("hidden_0", 1),)
    # Reads the units' inverse scale into their bias, and sums over scaled units.
    wrong = Term(Pattern(kernel, (0, 1), key), Pattern(bias, (0,), key), 1)
    assert gap("mlp-positive_scale", wrong) > 0.1


def weights_of(spec: WeightSpec, c_in: int, c_out: int) -> Any:
    make = functools.partial(
        engine.init_weights, spec=spec, in_channels=c_in, out_channels=c_out
    )
    return jax.eval_shape(make, jax.random.key(0))


@ROWS
def test_engine_is_the_table(name: str) -> None:
    spec, c_in, c_out = SPECS[name], 2, 3
    weights = randomise(weights_of(spec, c_in, c_out))
    feats = random_features(1, spec, c_in)
    got = fast_jit(lambda w, f: engine.apply(spec, w, f, c_out))(weights, feats)
    expected = {leaf.path: np.zeros((leaf.size, c_out)) for leaf in spec.leaves}
    flat = {path: np.asarray(x).reshape(-1, c_in) for path, x in feats.items()}
    flat[CONSTANT.path] = np.ones((1, 1))
    for mixer in mixers(spec):
        kernel, row = np.asarray(weights[mixer.name]["kernel"]), 0
        for source in mixer.sources:
            channels = flat[source.leaf.path].shape[1]
            stop, column = row + source.multiplicity * channels, 0
            for target in mixer.targets:
                end = column + target.multiplicity * c_out
                block = kernel[row:stop, column:end].reshape(
                    source.multiplicity, channels, target.multiplicity, c_out
                )
                term = Term(source, target, source.multiplicity)
                expected[target.leaf.path] += np.einsum(
                    "gfba,ac,fcgd->bd",
                    dense.term_matrix(term),
                    flat[source.leaf.path],
                    block,
                )
                column = end
            row = stop
    for leaf in spec.leaves:
        np.testing.assert_allclose(
            got[leaf.path].reshape(leaf.size, c_out),
            expected[leaf.path],
            rtol=RTOL,
            atol=RTOL,
        )


def test_number_of_matrix_products_is_the_number_of_keys() -> None:
    """Guards speed: all terms of one key are one product."""
    spec = mlp("permutation")
    assert len(term_table(spec)) == 61
    assert [mixer.name for mixer in mixers(spec)] == [
        "global",
        "hidden_0^0",
        "hidden_1^0",
        "hidden_0^0*hidden_1^0",
    ]
    weights = randomise(weights_of(spec, 2, 2))
    feats = random_features(1, spec, 2)
    traced = jax.make_jaxpr(lambda w, f: engine.apply(spec, w, f, 2))(weights, feats)
    assert str(traced).count("dot_general") == 4
