"""Products across bonds: by hand in NumPy, and never too large where probed."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from qejax.layers import Bonds, InvariantPool, feature_template
from qejax.spaces import (
    Axis,
    Leaf,
    Part,
    UnitSpace,
    WeightSpec,
    Wire,
    attention,
    low_rank,
    part_of,
    settled_spec,
)
from tests.layer_specs import (
    HEADS,
    SPECS,
    compiled_act,
    fast_jit,
    random_features,
    random_module,
    relative_gap,
)
from tests.registry import RTOL, element_of

C = 2


def bonds_of(name: str, **options: Any) -> Any:
    return random_module(lambda: Bonds(HEADS[name], C, rngs=nnx.Rngs(0), **options))


@functools.cache
def taken(name: str, **options: Any) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """The module, its program, and the features that the tests give it."""
    bonds = bonds_of(name, **options)
    return bonds, fast_jit(bonds), numpy(random_features(0, HEADS[name], C))


def numpy(tree: Any) -> Any:
    return {path: np.asarray(x) for path, x in tree.items()}


def close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(got, expected, rtol=RTOL, atol=RTOL)


def test_dense_products_are_those_of_queries_and_keys_and_of_values_and_outputs():
    bonds, run, x = taken("grouped")
    got = run(x)
    assert set(got) == {leaf.path for leaf in bonds.spec.leaves}
    heads = [leaf for leaf in bonds.spec.leaves if "*" in leaf.path]
    assert [(leaf.path, leaf.view) for leaf in heads] == [
        ("value/kernel*out/kernel", (2, 2, 2, 2)),
        ("query/kernel*key/kernel", (2, 2, 2, 2)),
        ("query/bias*key/kernel", (2, 2, 2)),
    ]
    q, k, v, o = (x[f"{part}/kernel"] for part in ("query", "key", "value", "out"))
    # D: stream read or written, h: group, q: query of a group, d: unit, c: channel.
    close(got["query/kernel*key/kernel"], np.einsum("ahqdc,bhdc->haqbc", q, k))
    close(
        got["query/bias*key/kernel"],
        np.einsum("hqdc,bhdc->hqbc", x["query/bias"], k),
    )
    close(got["value/kernel*out/kernel"], np.einsum("ahdc,hqdbc->haqbc", v, o))
    np.testing.assert_array_equal(got["out/bias"], x["out/bias"])


def test_probed_products_are_products_with_vectors():
    """`Q (K^T v)`, of one network's fixed axes: `v` is learned."""
    bonds, run, x = taken("heads", probes=3, max_dense=1)
    got = run(x)
    vectors = {key: np.asarray(v[...], float) for key, v in bonds.vectors.items()}
    q, k = x["query/kernel"], x["key/kernel"]
    v = vectors["query.kernel*key.kernel[0]"]
    kv = np.einsum("bhdc,bp->hdpc", k, v)
    close(got["query/kernel*key/kernel"], np.einsum("ahdc,hdpc->hapc", q, kv))
    v = vectors["key.kernel*query.kernel[0]"]
    qv = np.einsum("bhdc,bp->hdpc", q, v)
    close(got["key/kernel*query/kernel"], np.einsum("ahdc,hdpc->hapc", k, qv))
    v = vectors["value.kernel*out.kernel[2]"]
    ov = np.einsum("hdbc,bp->hdpc", x["out/kernel"], v)
    close(
        got["value/kernel*out/kernel"],
        np.einsum("ahdc,hdpc->hapc", x["value/kernel"], ov),
    )


def test_probes_of_a_stream_of_units_are_mixtures_of_their_features():
    bonds, run, x = taken("heads on a stream", probes=3, max_dense=1)
    got = run(x)
    weights = np.asarray(bonds.vectors["query.kernel*key.kernel[0]"][...], float)
    # The only leaf that a unit of the stream has to itself.
    mixed = x["out/bias"].reshape(3, -1) @ weights
    v = (1 + mixed) / np.sqrt(3)
    kv = np.einsum("bhdc,bp->hdpc", x["key/kernel"], v)
    expected = np.einsum("ahdc,hdpc->hapc", x["query/kernel"], kv)
    close(got["query/kernel*key/kernel"], expected)


PROBED = {"probes": 3, "max_dense": 1}


@pytest.mark.parametrize(
    ("name", "options"),
    [("heads on a stream", {}), ("heads on a stream", PROBED), ("grouped", PROBED)],
)
def test_only_permutations_move_the_products(name, options):
    bonds, run, x = taken(name, **options)
    g = element_of(HEADS[name], 0)
    left = {space.name: g[space.name] for space in bonds.spec.spaces}
    expected = compiled_act(bonds.spec)(left, run(x))
    assert relative_gap(run(compiled_act(HEADS[name])(g, x)), expected) < RTOL
    assert relative_gap(run(x), expected) > 1e-2


def test_without_matrices_nothing_is_done():
    spec = SPECS["mlp-sign"]
    bonds = Bonds(spec, C, rngs=nnx.Rngs(0))
    feats = random_features(0, spec, C)
    assert bonds(feats) is feats
    assert bonds.spec == spec


def adapted(queries_first: bool) -> Any:
    """A head with an adapter of its queries, its spaces in either order."""
    part = attention("", Wire(3), Wire(3), 2, 2, use_bias=False)
    pair = low_rank(part.leaves[0], 1, 1)
    both = (part + pair) if queries_first else (pair + part)
    spaces = both.spaces if queries_first else (*part.spaces[:1], *pair.spaces)
    spaces += () if queries_first else part.spaces[1:]
    leaves = (part.leaves[0], *pair.leaves, *part.leaves[1:])
    return Part(spaces, leaves).spec()


@pytest.mark.parametrize("queries_first", [True, False])
def test_adapters_and_keys_are_a_chain(queries_first):
    spec = adapted(queries_first)
    bonds = Bonds(spec, C, rngs=nnx.Rngs(0))
    x = numpy(random_features(0, spec, C))
    got = bonds(x)
    chained = [leaf.path for leaf in bonds.spec.leaves if leaf.path.count("*") == 2]
    delta = np.einsum("arc,rhdc->ahdc", x["query/lora_a"], x["query/lora_b"])
    expected = np.einsum("ahdc,bhdc->habc", delta, x["key/kernel"])
    assert len(chained) == 1
    assert {space.group for space in bonds.spec.spaces} == {"permutation"}
    axes = [axis.space for axis in bonds.spec.leaf_by_path[chained[0]].axes]
    order = np.argsort([axis is None for axis in axes], stable=True)
    close(np.transpose(got[chained[0]], (*order, 3)), expected)
    kernel = got["query/kernel*key/kernel"]
    expected = np.einsum("ahdc,bhdc->habc", x["query/kernel"], x["key/kernel"])
    close(kernel, expected)


WIDE = 512


def sizes(jaxpr: Any) -> Iterator[int]:
    """Yields the sizes of all arrays that a program makes, its parts included."""
    for equation in jaxpr.eqns:
        yield from (int(np.prod(out.aval.shape)) for out in equation.outvars)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


def largest(module: Any, spec: Any) -> int:
    traced = jax.make_jaxpr(module.__call__)(feature_template(spec, C))
    return max(sizes(traced.jaxpr))


@pytest.mark.parametrize("stream", [None, "stream"])
def test_probes_never_make_an_array_of_width_times_width(stream):
    units = () if stream is None else (UnitSpace(stream, WIDE),)
    wire = Wire(WIDE, stream)
    part = attention("", wire, wire, heads=2, head_dim=4)
    spec = settled_spec((Part(units) + part).spec())
    rngs = nnx.Rngs(0)
    weights = 2 * 4 * WIDE * C
    bonds = Bonds(spec, C, max_dense=1000, rngs=rngs)
    assert largest(bonds, spec) <= 2 * weights
    assert largest(InvariantPool(spec, C, 2, rngs=rngs), spec) < WIDE * WIDE
    dense = Bonds(spec, C, max_dense=2 * WIDE * WIDE, rngs=rngs)
    assert largest(dense, spec) >= WIDE * WIDE


def test_bad_input():
    with pytest.raises(ValueError, match=r"Bonds\(probes=...\) should be at least 1"):
        Bonds(HEADS["heads"], C, probes=0, rngs=nnx.Rngs(0))


def test_what_a_bond_leaves_of_a_cut_array_is_a_leaf_of_its_own():
    rank = UnitSpace("rank", 2, "general_linear")
    write, read = Axis(2, "rank", 1), Axis(2, "rank", -1)
    left = part_of("k", (3, 5), (0, 0), (3, 2), (Axis(3), write))
    right = part_of("k", (3, 5), (0, 2), (3, 5), (Axis(3), Axis(3)))
    spec = WeightSpec((rank,), (left, right, Leaf("b", (read, Axis(4)))))
    bonds = random_module(lambda: Bonds(spec, 1, rngs=nnx.Rngs(0)))
    x = numpy(random_features(0, spec, 1))
    got = fast_jit(bonds)(x)
    assert set(got) == {"k[:,2:5]", "k[:,0:2]*b"}
    close(got["k[:,2:5]"], x["k[:,2:5]"])
    assert got["k[:,0:2]*b"].shape[:2] == (3, 4)
