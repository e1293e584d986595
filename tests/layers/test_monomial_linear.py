"""MonomialLinear as users meet it: shapes, dtypes, transforms, Linen, errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import _trees, nets
from qejax.layers import MonomialLinear, features, mixers
from tests.layer_specs import SPECS, random_features, relative_gap

SPEC = SPECS["mlp-positive_scale"]


def single(seed: int, channels: int) -> dict[str, jax.Array]:
    feats = random_features(seed, SPEC, channels)
    return {path: x.astype(jnp.float32) for path, x in feats.items()}


def test_shapes_and_dtype_are_those_of_the_features() -> None:
    layer = MonomialLinear(SPEC, 2, 3, rngs=nnx.Rngs(0))
    for dtype in (jnp.float32, jnp.float64):
        feats = random_features(0, SPEC, 2)
        out = layer({path: x.astype(dtype) for path, x in feats.items()})
        for leaf in SPEC.leaves:
            assert out[leaf.path].shape == (*leaf.view, 3)
            assert out[leaf.path].dtype == dtype


def test_unit_features_give_unit_features() -> None:
    """The initialisation keeps the scale of features over a layer."""
    spec = nets.mlp_spec((16, 32, 32, 10), activation="relu")
    layer = MonomialLinear(spec, 8, 8, rngs=nnx.Rngs(0))
    out = jax.jit(layer)(random_features(0, spec, 8))
    for path, x in out.items():
        assert 0.5 < float(jnp.std(x)) < 2, path


def test_one_seed_gives_the_same_parameters() -> None:
    first, again, other = (
        nnx.to_pure_dict(nnx.state(MonomialLinear(SPEC, 2, 3, rngs=nnx.Rngs(seed))))
        for seed in (0, 0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert relative_gap(first["mix"]["global"], other["mix"]["global"]) > 1e-3


def test_rank_bound_reduces_parameters() -> None:
    spec = SPECS["conv-permutation"]
    sizes = [
        _trees.num_parameters(
            jax.eval_shape(
                lambda rank=rank: nnx.to_pure_dict(
                    nnx.state(
                        MonomialLinear(spec, 8, 8, max_rank=rank, rngs=nnx.Rngs(0))
                    )
                )
            )
        )
        for rank in (None, 10_000, 4)
    ]
    assert sizes[0] == sizes[1] > 5 * sizes[2]


def test_long_fixed_axes_are_tied() -> None:
    spec = nets.mlp_spec((784, 8, 10), activation="relu")

    def parameters(**bounds: Any) -> int:
        make = lambda: MonomialLinear(spec, 4, 4, rngs=nnx.Rngs(0), **bounds)  # noqa: E731
        return _trees.num_parameters(nnx.to_pure_dict(nnx.state(nnx.eval_shape(make))))

    assert parameters() > 784**2 * 16
    assert parameters(max_fixed=16) < 10_000


def test_jit_vmap_and_split_merge_change_nothing() -> None:
    layer = MonomialLinear(SPEC, 2, 3, rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)
    pure = nnx.to_pure_dict(params)
    _trees.check_tree(pure, nnx.to_pure_dict(params), "parameters")
    hash(graph)
    batch = [random_features(seed, SPEC, 2) for seed in range(2)]
    run = jax.jit(jax.vmap(lambda p, f: nnx.merge(graph, p)(f), in_axes=(None, 0)))
    out = run(pure, _trees.stack(batch))
    for index, feats in enumerate(batch):
        one = layer(feats)
        assert relative_gap({k: x[index] for k, x in out.items()}, one) < 1e-12


def test_gradients_reach_every_parameter() -> None:
    layer = MonomialLinear(SPEC, 2, 3, rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)

    def loss(params: Any) -> jax.Array:
        out = nnx.merge(graph, params)(random_features(0, SPEC, 2))
        return sum((jnp.sum(x**2) for x in out.values()), jnp.zeros(()))

    grads = jax.jit(jax.grad(loss))(nnx.to_pure_dict(params))["mix"]
    assert sorted(grads) == sorted(mixer.name for mixer in mixers(SPEC))
    for name, grad in grads.items():
        assert float(jnp.min(jnp.abs(grad["kernel"]))) > 0, name


def test_linen_users_can_drop_it_in() -> None:
    feats = single(0, 2)
    bridged = nnx.bridge.to_linen(MonomialLinear, SPEC, 2, 3)
    variables = bridged.init(jax.random.key(0), feats)
    out = jax.jit(bridged.apply)(variables, feats)
    graph = nnx.graphdef(MonomialLinear(SPEC, 2, 3, rngs=nnx.Rngs(0)))
    params: Any = variables["params"]
    assert relative_gap(out, nnx.merge(graph, params)(feats)) < 1e-6
    assert sorted(params["mix"]) == sorted(mixer.name for mixer in mixers(SPEC))


def test_features_of_a_network() -> None:
    net = nets.mlp((4, 3, 2), activation="relu")
    theta = net.init(jax.random.key(0))
    feats = features(net.spec, theta)
    np.testing.assert_array_equal(
        feats["layer_01/kernel"][..., 0], theta["layer_01"]["kernel"]
    )


@pytest.mark.parametrize("option", ["in_channels", "out_channels", "max_rank"])
def test_sizes_below_one_are_refused(option: str) -> None:
    options: Any = {"in_channels": 1, "out_channels": 1, option: 0}
    with pytest.raises(ValueError, match=rf"{option}=.*at least 1, got 0"):
        MonomialLinear(SPEC, **options, rngs=nnx.Rngs(0))


def test_wrong_features_are_named() -> None:
    layer = MonomialLinear(SPEC, 2, 3, rngs=nnx.Rngs(0))
    feats = random_features(0, SPEC, 2)
    with pytest.raises(
        ValueError, match=r"'layer_00/kernel'.*\(2, 3, 2\).*\(2, 3, 4\)"
    ):
        layer(random_features(0, SPEC, 4))
    with pytest.raises(ValueError, match=r"use jax\.vmap"):
        layer({path: x[None] for path, x in feats.items()})
    feats["layer_09/kernel"] = feats.pop("layer_00/bias")
    with pytest.raises(
        ValueError,
        match=r"features do not fit the spec: missing.*layer_00/bias.*layer_09",
    ):
        layer(feats)
