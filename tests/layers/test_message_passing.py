"""Graphs of weight spaces and what passes along their edges."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from flax.nnx import bridge

from qejax import layers, nets, spaces
from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec
from tests.layer_specs import fast_jit
from tests.registry import NETS, RTOL, element_of, gap, theta_of

NAMES = ("cnn, strided, gap", "cnn, same, flatten", "residual")
MIXERS = {"transport": layers.Transport, "messages": layers.MessageStack}


def free(name: str) -> WeightSpec:
    return NETS[name].net.spec.permutations_only()


def arranged(graph: layers.Graph, theta: Any) -> layers.GraphFeatures:
    return layers.arrange(graph, spaces.views(graph.spec, theta))


def moved_nodes(spec: WeightSpec, g: Any, nodes: dict[str, Any]) -> dict[str, Any]:
    own = {name: x for name, x in nodes.items() if name in spec.space_by_name}
    return {**nodes, **spaces.act_units(spec, g, own)}


def test_graph_of_a_convolutional_network() -> None:
    graph = layers.graph_of(NETS["cnn, same, flatten"].net.spec)
    assert graph.sizes == {"hidden_0": 3, "hidden_1": 2, "outputs_3": 3}
    ends = {edge.path: (edge.ends, edge.channels) for edge in graph.edges}
    assert ends == {
        "layer_01/kernel": (("hidden_0", "hidden_1"), 9),
        "layer_02/kernel": (("hidden_1", "outputs_3"), 12),
    }
    assert graph.node_channels("hidden_0") == 2 * 9 + 1
    folded = layers.graph_of(NETS["cnn, same, flatten"].net.spec, "channels")
    assert [edge.path for edge in folded.edges] == ["layer_01/kernel"]
    assert folded.node_channels("hidden_1") == 1 + 12 * 3


def test_long_fixed_axes_are_projected() -> None:
    spec = nets.mlp_spec((12, 3, 2))
    graph = layers.graph_of(spec, max_fold=5)
    theta = theta_of(spec, 0)
    kernel = theta["layer_00"]["kernel"]
    expected = kernel.T @ layers.index_encoding(12, 5, jnp.float64)
    got = arranged(graph, theta).nodes["hidden_0"][:, :5]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.one_in(2)
def test_commutes_with_permutations(name: str, mixer: str) -> None:
    spec = free(name)
    graph = layers.graph_of(spec)
    module = MIXERS[mixer](graph, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    run = fast_jit(lambda theta: module(arranged(graph, theta)))
    pool = fast_jit(layers.pool_graph)
    theta, g = theta_of(spec, 0), element_of(spec, 0)
    plain, moved = run(theta), run(spaces.act(spec, g, theta))
    assert gap(moved.nodes, moved_nodes(spec, g, plain.nodes)) <= RTOL
    assert gap(pool(moved), pool(plain)) <= RTOL
    # Units are told apart, and so are networks.
    assert gap(moved.nodes, plain.nodes) > 1e-3
    assert gap(pool(run(theta_of(spec, 1))), pool(plain)) > 1e-3


def test_every_weight_is_read() -> None:
    spec = free("residual")
    graph = layers.graph_of(spec)
    for mixer in MIXERS.values():
        module = mixer(graph, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(0))

        def total(theta: Any, module: Any = module) -> Any:
            return jnp.sum(layers.pool_graph(module(arranged(graph, theta))) ** 2)

        gradient = fast_jit(jax.grad(total))(theta_of(spec, 0))
        assert all(float(jnp.abs(x).max()) > 0 for x in jax.tree.leaves(gradient))


def test_leaves_with_three_moved_axes() -> None:
    a, b = UnitSpace("a", 3), UnitSpace("b", 2)
    cube = Leaf("cube", (Axis(3, "a", 1), Axis(2, "b", -1), Axis(3, "a", -1), Axis(2)))
    spec = WeightSpec((a, b), (cube,))
    graph = layers.graph_of(spec, "channels")
    theta, g = theta_of(spec, 0), element_of(spec, 0)
    for mixer in MIXERS.values():
        module = mixer(graph, 4, depth=1, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        run = fast_jit(lambda theta, module=module: module(arranged(graph, theta)))
        plain, moved = run(theta), run(spaces.act(spec, g, theta))
        assert gap(moved.nodes, moved_nodes(spec, g, plain.nodes)) <= RTOL


def test_extra_node_features() -> None:
    spec = free("residual")
    graph = layers.graph_of(spec)
    extra = {"hidden_0": jnp.ones((5, 2)), "outputs_2": jnp.ones((2, 2))}
    sizes = {name: 2 for name in extra}
    module = layers.Transport(graph, 4, depth=1, extra=sizes, rngs=nnx.Rngs(0))
    features = arranged(graph, theta_of(spec, 0, "float32"))
    run = fast_jit(module)
    plain = run(features, extra)
    other = run(features, {**extra, "hidden_0": 2 * extra["hidden_0"]})
    assert gap(other.nodes, plain.nodes) > 1e-4


def test_index_encoding_is_orthonormal() -> None:
    basis = layers.index_encoding(9, 9, jnp.float64)
    np.testing.assert_allclose(basis.T @ basis, np.eye(9), atol=1e-12)
    with pytest.raises(ValueError, match="rank should be from 1 to size = 9, got 10"):
        layers.index_encoding(9, 10)


def test_head_drops_only_with_a_key() -> None:
    head = layers.InvariantHead((5, 0, 3), heads=3, rngs=nnx.Rngs(0))
    streams = (jnp.ones(5), jnp.zeros(0), jnp.ones(3))
    run, drop = fast_jit(head), fast_jit(head.__call__)
    plain = run(streams)
    assert plain.shape == (3,)
    one, two = (drop(streams, jax.random.key(seed)) for seed in range(2))
    assert np.all(one != plain)
    assert np.all(one != two)
    with pytest.raises(ValueError, match="at least one stream of positive length"):
        layers.InvariantHead((0,), rngs=nnx.Rngs(0))


def test_dropout_keeps_the_mean() -> None:
    dropped = layers.dropout(jax.random.key(0), jnp.ones(20_000), 0.3)
    assert abs(float(dropped.mean()) - 1) < 0.02
    assert abs(float((dropped == 0).mean()) - 0.3) < 0.02


def test_inside_a_linen_model() -> None:
    spec = free("residual")
    graph = layers.graph_of(spec)

    class Reader(nn.Module):
        @nn.compact
        def __call__(self, features: layers.GraphFeatures) -> jax.Array:
            mixed = bridge.to_linen(layers.Transport, graph, 4)(features)
            return nn.Dense(1)(layers.pool_graph(mixed))

    theta, g = theta_of(spec, 0, "float32"), element_of(spec, 0, dtype="float32")
    features = arranged(graph, theta)
    model = Reader()
    variables = model.init(jax.random.key(0), features)
    plain: Any = model.apply(variables, features)
    moved: Any = model.apply(variables, arranged(graph, spaces.act(spec, g, theta)))
    np.testing.assert_allclose(moved, plain, rtol=1e-4)
