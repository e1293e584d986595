"""Normal forms of mixed architectures: invariant, stored, the same for any company."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import models, nets, spaces, zoo
from tests.chain_networks import NETS, moved, thetas
from tests.registry import RTOL
from tests.zoo.test_mixed_zoo import prepared

NETWORKS = (*NETS.values(),)
WHICH = np.arange(len(NETWORKS))


def vectors_of(given: dict[str, Any]) -> list[np.ndarray]:
    return [
        np.asarray(spaces.ravel(net.spec, jax.tree.map(jnp.asarray, given[name])))
        for name, net in NETS.items()
    ]


def test_statistics_are_invariant_to_the_group_of_every_network() -> None:
    one, other = (
        zoo.mixed_normal_forms(NETWORKS, WHICH, vectors_of(given))
        for given in (thetas(), moved(0))
    )
    size = np.maximum(np.abs(one.statistics), 1)
    gap = np.max(np.abs(one.statistics - other.statistics) / size, axis=1)
    assert dict(zip(NETS, gap, strict=True)) == pytest.approx(
        dict.fromkeys(NETS, 0.0), abs=RTOL
    )
    for a, b in zip(one.layers, other.layers, strict=True):
        np.testing.assert_allclose(a, b, rtol=RTOL, atol=RTOL)
    # A control: those of other networks are other ones.
    rest = zoo.mixed_normal_forms(NETWORKS, WHICH, vectors_of(thetas(1)))
    assert np.all(np.max(np.abs(rest.statistics - one.statistics), axis=1) > 1e-3)


def test_a_normal_form_does_not_depend_on_its_company() -> None:
    vectors = vectors_of(thetas())
    together = zoo.mixed_normal_forms(NETWORKS, WHICH, vectors)
    for rows in (np.array([3]), WHICH[::-1], np.array([5, 5, 2])):
        chosen = [vectors[row] for row in rows.tolist()]
        few = zoo.mixed_normal_forms(NETWORKS, WHICH[rows], chosen)
        want = together.take(rows)
        np.testing.assert_array_equal(few.statistics, want.statistics)
        for kind in ("vectors", "layers"):
            got = zip(getattr(few, kind), getattr(want, kind), strict=True)
            assert all(np.array_equal(a, b) for a, b in got)


def test_an_import_stores_them(tmp_path: Path) -> None:
    got = zoo.read_mixed(prepared(tmp_path))
    want = zoo.mixed_normal_forms(got.networks, got.which, got.vectors)
    assert got.normal is not None
    np.testing.assert_array_equal(got.normal.statistics, want.statistics)
    for kind in ("vectors", "layers"):
        pairs = zip(getattr(got.normal, kind), getattr(want, kind), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    assert [len(x) for x in got.normal.layers] == [
        nets.size_of(network).layers for network in got.each
    ]
    entry = zoo.notes(tmp_path / "zoo")["normal_form"]
    assert entry["kind"] == "chain"
    assert entry["statistics"] == want.statistics.shape[1]
    # Of an import of an import they are taken over.
    again = zoo.import_zoo(zoo.list_prepared(tmp_path / "zoo"), tmp_path / "again", {})
    second = zoo.read_mixed(again).normal
    assert second is not None
    np.testing.assert_array_equal(second.statistics, want.statistics)


def test_a_predictor_reads_them_as_it_measures(tmp_path: Path) -> None:
    got = zoo.read_mixed(prepared(tmp_path))
    (size,) = nets.ladder_of(got.each, 1)
    config = models.MixedConfig(hidden_units=8, embed=8, hidden=8)
    model = models.MixedPredictor(size, 4, config=config, rngs=nnx.Rngs(0))
    (batch,) = got.batches((size,), len(got))
    assert batch.normal is not None
    graph, state = nnx.split(model)

    def measure(chains: Any) -> Any:
        return jax.vmap(nnx.merge(graph, state).measure)(chains)

    measured = jax.jit(measure)(batch.chains)
    stored = models.Measured(*batch.normal)
    # What is measured here has the float32 of the weights.
    for a, b in zip(jax.tree.leaves(stored), jax.tree.leaves(measured), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)
    assert stored.statistics.dtype == np.float64
    assert batch.labels["test_accuracy"].tolist() == (
        got.labels["test_accuracy"][batch.rows].tolist()
    )


def test_no_zoo_is_no_mixed_zoo() -> None:
    with pytest.raises(ValueError, match="mixed_of: expected at least one zoo"):
        zoo.mixed_of({})
