"""The term tables: every row is equivariant, and no row is missing.

The second half is what no equivariance test can see: a table that forgets a term passes
them all. The span of the table is compared with the null space of
`rho_out(g) A - A rho_in(g)` over a few random g.
"""

import functools
from collections import defaultdict
from typing import Any

import jax
import numpy as np
import pytest

from qejax.layers import CONSTANT, Pattern, Term, mixers, term_table
from qejax.layers import _engine as engine
from qejax.spaces import Leaf, WeightSpec
from tests import dense
from tests.layer_specs import HEADS, SPECS, fast_jit, mlp, random_features, randomise
from tests.registry import element_of
from tests.rho import rho

ALL = SPECS | HEADS
ROWS = pytest.mark.parametrize("name", ALL)
Labels = tuple[int, ...]
RTOL = 1e-10


@functools.cache
def representations(name: str) -> dict[str, list[np.ndarray]]:
    """`rho(g)` on each leaf for random g (enough to generate), and the trivial one."""
    spec, blocks = ALL[name], defaultdict(list)
    for seed in range(12):
        matrix, start = rho(spec, element_of(spec, seed, 2.0)), 0
        for leaf in spec.leaves:
            stop = start + leaf.size
            blocks[leaf.path].append(matrix[start:stop, start:stop])
            start = stop
        blocks[CONSTANT.path].append(np.ones((1, 1)))
    return blocks


def maps(term: Term) -> np.ndarray:
    """The maps of one term, `[F_b * F_a, size of b, size of a]`."""
    found = dense.term_matrix(term)
    return found.reshape(-1, *found.shape[2:])


def gap(name: str, term: Term) -> float:
    of, worst = representations(name), 0.0
    pairs = zip(of[term.target.leaf.path], of[term.source.leaf.path], strict=True)
    for out, into in pairs:
        a = maps(term)
        worst = max(worst, float(np.max(np.abs(out @ a - a @ into))))
    return worst


def span(terms: list[Term]) -> int:
    rows = [maps(term).reshape(-1, maps(term)[0].size) for term in terms]
    return dense.rank(np.concatenate(rows)) if rows else 0


@ROWS
def test_every_term_commutes_with_the_group(name: str) -> None:
    for term in term_table(ALL[name]):
        assert gap(name, term) < RTOL, term


@ROWS
def test_no_term_is_missing(name: str) -> None:
    spec, of = ALL[name], representations(name)
    table = defaultdict(list)
    for term in term_table(spec):
        table[term.source.leaf.path, term.target.leaf.path].append(term)
    for target in spec.leaves:
        for source in (CONSTANT, *spec.leaves):
            expected = dense.commutant_dimension(of[target.path], of[source.path])
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


def test_a_dropped_term_of_a_head_is_noticed() -> None:
    terms = [
        term
        for term in term_table(HEADS["heads on a stream"])
        if term.source.leaf.path == term.target.leaf.path == "query/kernel"
    ]
    # The stream's axes shared or averaged; head and unit of the head always shared.
    assert [len(term.source.key) for term in terms] == [2, 3]
    assert [span(terms), span(terms[1:]), span(terms[:1])] == [2, 1, 1]


def test_a_wrong_term_is_noticed() -> None:
    spec = SPECS["mlp-positive_scale"]
    kernel, bias = spec.leaves[2], spec.leaves[1]
    key = (("hidden_0", 1),)
    # Reads the units' inverse scale into their bias, and sums over scaled units.
    wrong = Term(Pattern(kernel, (0, 1), key), Pattern(bias, (0,), key), 1)
    assert gap("mlp-positive_scale", wrong) > 0.1


@pytest.mark.parametrize(
    ("name", "source", "target", "labels"),
    [
        # Every head reads the matrices of the others, or the queries of its keys.
        ("heads", "query/kernel", "query/kernel", ((0, 1), (2, 1))),
        ("heads", "key/kernel", "query/kernel", ((0, 1), (0, 1))),
        # The mean of a head's units, and one value for all of them.
        ("heads", "query/kernel", "query/kernel", ((0, 1), (0, 2))),
        ("adapter", "layer_01/lora_a", "layer_01/lora_a", ((0, 2), (0, 3))),
    ],
)
def test_a_wrong_term_of_a_head_is_noticed(
    name: str, source: str, target: str, labels: Any
) -> None:
    """The same labels of source and target are a shared index, others are their own."""
    spec = HEADS[name]
    reads, writes = (spec.leaf_by_path[path] for path in (source, target))
    term = term_of(spec, reads, labels[0], writes, labels[1])
    assert gap(name, term) > 0.1


def term_of(
    spec: WeightSpec, source: Leaf, reads: Labels, target: Leaf, writes: Labels
) -> Term:
    """A term whose shared indices are the labels that both leaves have."""
    shared = [label for label in dict.fromkeys(reads) if label in writes]
    key = tuple(
        (str(source.axes[source.moved()[reads.index(label)]].space), 1)
        for label in shared
    )
    own = {
        label: n
        for n, label in enumerate([*shared, *({*reads, *writes} - set(shared))])
    }
    patterns = (
        Pattern(leaf, tuple(own[label] for label in labels), key)
        for leaf, labels in ((source, reads), (target, writes))
    )
    return Term(*patterns, fan_in=1)


def weights_of(spec: WeightSpec, c_in: int, c_out: int) -> Any:
    make = functools.partial(
        engine.init_weights, spec=spec, in_channels=c_in, out_channels=c_out
    )
    return jax.eval_shape(make, jax.random.key(0))


@ROWS
def test_engine_is_the_table(name: str) -> None:
    spec, c_in, c_out = ALL[name], 2, 3
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
