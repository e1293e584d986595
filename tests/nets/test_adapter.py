"""Low-rank adapters: the symmetry of the layers that they adapt, and GL(r)."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, spaces, testing
from qejax.nets import AdaptedConfig, MLPConfig
from qejax.zoo import Zoo, read, store
from tests.layer_specs import fast_jit
from tests.nets.drawing import drawn, gaps

MLP = nets.mlp((3, 4, 4, 2), residual=True)
CNN = nets.cnn(1, (3, 2), (2, 3), head="flatten", image=(5, 5), num_outputs=3)
VIT = nets.transformer(
    8, 1, 4, 6, image=(4, 4, 1), patch=2, num_outputs=3, head_hidden=4
)
GATED = nets.transformer(
    8,
    1,
    4,
    6,
    vocabulary=5,
    length=4,
    kv_heads=2,
    position="rotary",
    gated=True,
    activation="silu",
    norm="rms",
    pool="tokens",
    causal=True,
    mlp_bias=False,
)

BASES: dict[str, tuple[nets.Network, tuple[int, ...]]] = {
    "mlp": (MLP, (3,)),
    "cnn": (CNN, (5, 5, 1)),
    "vit": (VIT, (4, 4, 1)),
    "gated": (GATED, ()),
}


def weights_of(net: nets.Network, seed: int = 0) -> Any:
    return drawn(net.spec.template(jnp.float64), seed)


def inputs(shape: tuple[int, ...], number: int = 5) -> jax.Array:
    rng = np.random.default_rng(1)
    if not shape:
        return jnp.asarray(rng.integers(0, 5, (number, 4)))
    return jnp.asarray(rng.normal(size=(number, *shape)))


@pytest.mark.parametrize("name", BASES)
def test_every_linear_map_can_be_adapted(name: str) -> None:
    base, shape = BASES[name]
    net = nets.adapted(base, 2 if name == "mlp" else 1)
    kernels = [leaf for leaf in base.spec.leaves if leaf.path.endswith("kernel")]
    pairs = [s for s in net.spec.spaces if s.name.endswith("lora_a")]
    assert len(pairs) == len(kernels)
    # A space that `b` alone reads: the other side stays as it was.
    last = pairs[-1].name
    lopsided = spaces.WeightSpec(
        net.spec.spaces,
        tuple(
            leaf if not leaf.path.endswith("lora_b") else _without(leaf, last)
            for leaf in net.spec.leaves
        ),
        net.spec.shifts,
    )
    kept, broken = gaps(net.apply, weights_of(net), inputs(shape), net.spec, lopsided)
    assert kept < 1e-10
    assert broken > 1e-4


def _without(leaf: spaces.Leaf, space: str) -> spaces.Leaf:
    axes = tuple(
        spaces.Axis(axis.size) if axis.space == space else axis for axis in leaf.axes
    )
    return spaces.Leaf(leaf.path, axes, leaf.shape)


def test_function_kept_sees_the_adapters() -> None:
    net = nets.adapted(nets.mlp((3, 4, 2)), 2, "layer_01", alpha=3)
    theta = weights_of(net)
    report = testing.function_kept(
        fast_jit(net.apply), net.spec, theta, inputs((3,), 32), jax.random.key(0)
    )
    assert report.passed, report.message()
    assert sorted(report.parts) == ["hidden_0", "layer_01.lora_a"]


def test_adapters_have_the_axes_of_their_kernels() -> None:
    net = nets.adapted(GATED, 1)
    stored = {
        leaf.path.removeprefix("block_00/"): leaf.stored for leaf in net.spec.leaves
    }
    for layer, a, b in (
        ("attention/query", (8, 1), (1, 4, 2)),
        ("attention/key", (8, 1), (1, 2, 2)),
        ("attention/out", (4, 2, 1), (1, 8)),
        ("mlp/up", (8, 1), (1, 6)),
        ("mlp/down", (6, 1), (1, 8)),
    ):
        assert stored[f"{layer}/lora_a"] == a
        assert stored[f"{layer}/lora_b"] == b
    conv = nets.adapted(CNN, 1, "layer_01").spec
    assert conv.leaf_by_path["layer_01/lora_a"].stored == (3, 3, 3, 1)
    thin = nets.adapted(nets.mlp((1, 1, 2)), 1).spec
    assert thin.leaf_by_path["layer_00/lora_a"].stored == (1, 1)
    assert thin.leaf_by_path["layer_01/lora_b"].stored == (1, 2)


def test_spaces_stay_in_network_order() -> None:
    """Behind what an adapter reads, before what it writes for the first time."""
    names = [space.name for space in nets.adapted(GATED, 1).spec.spaces]
    order = [
        names.index(f"block_00.{name}")
        for name in (
            "norm_1.scale",
            "attention.query.lora_a",
            "attention.heads",
            "attention.vo",
            "attention.out.lora_a",
            "norm_2.scale",
            "mlp.up.lora_a",
            "mlp",
            "mlp.scale",
            "mlp.down.lora_a",
        )
    ]
    assert order == sorted(order)


def test_shifts_through_an_adapter_are_left_out() -> None:
    def shifts(*targets: str) -> set[str]:
        net = nets.adapted(VIT, 1, targets) if targets else VIT
        return {shift.name.split(".")[-1] for shift in net.spec.shifts}

    assert {"key_shift", "value_shift"} <= shifts()
    assert shifts("key", "value") == shifts() - {"shift"} | {"shift"}
    assert shifts() - shifts("attention/out") == {"value_shift"}
    assert "key_shift" in shifts("query", "key", "value", "out")


def test_tables_are_adapted_where_they_are_named() -> None:
    net = nets.adapted(GATED, 2, ["embed", "query", "head"])
    assert [path for path in net.spec.leaf_by_path if path.endswith("lora_a")] == [
        "embed/lora_a",
        "block_00/attention/query/lora_a",
        "head/lora_a",
    ]
    assert net.spec.leaf_by_path["embed/lora_a"].stored == (5, 2)
    (kept,) = gaps(net.apply, weights_of(net), inputs(()), net.spec)
    assert kept < 1e-10


def test_adapters_add_nothing_at_the_start() -> None:
    key, mlp = jax.random.key(0), nets.mlp((3, 4, 2))
    x = inputs((3,)).astype("float32")
    base = mlp.init(key)
    expected = mlp.apply(base, x)
    for net in (nets.adapted(mlp, 2), nets.adapter(mlp, base, 2)):
        theta = net.init(key)
        spaces.check_theta(net.spec, theta)
        np.testing.assert_array_equal(net.apply(theta, x), expected)
        a = theta["layer_00"]["lora_a"]
        assert float(jnp.max(jnp.abs(a))) > 0.1
        assert float(jnp.max(jnp.abs(theta["layer_01"]["lora_a"][:3] - a))) > 0.1


def test_adapters_start_at_the_scale_of_their_inputs() -> None:
    mlp = nets.mlp((400, 300))
    base = jax.tree.map(lambda s: np.zeros(s.shape), mlp.spec.template())
    theta = nets.adapter(mlp, base, 100).init(jax.random.key(0))
    assert float(jnp.std(theta["layer_00"]["lora_a"])) == pytest.approx(0.05, rel=0.02)


def test_merging_adds_scaled_products() -> None:
    net = nets.adapted(MLP, 2, "layer_01", alpha=6)
    assert isinstance(net, nets.Adapted)
    theta, x = weights_of(net), inputs((3,))
    layer = theta["layer_01"]
    merged = net.merge(theta)
    np.testing.assert_allclose(
        merged["layer_01"]["kernel"],
        layer["kernel"] + 3 * layer["lora_a"] @ layer["lora_b"],
    )
    spaces.check_theta(MLP.spec, merged)
    np.testing.assert_array_equal(net.apply(theta, x), MLP.apply(merged, x))
    outputs, units = net.units(theta, x)
    assert set(units) == {"hidden_0"}
    np.testing.assert_array_equal(outputs, MLP.apply(merged, x))


@pytest.mark.parametrize("name", ["mlp", "vit"])
def test_adapters_alone_are_free_up_to_their_inner_units(name: str) -> None:
    base, shape = BASES[name]
    weights = weights_of(base)
    net = nets.adapter(base, weights, 1, None if name == "mlp" else ["query", "out"])
    assert {s.group for s in net.spec.spaces} == {"general_linear"}
    assert all(
        axis.space is None or axis.space.endswith("lora_a")
        for leaf in net.spec.leaves
        for axis in leaf.axes
    )
    # A norm behind the stream does not see the mean of what is written.
    unseen = [(shift.leaf, shift.along) for shift in net.spec.shifts]
    at = "block_00/attention/out/lora_b"
    assert unseen == ([] if name == "mlp" else [(at, (1,))])
    (kept,) = gaps(net.apply, weights_of(net), inputs(shape), net.spec)
    assert kept < 1e-10


def test_a_zoo_of_adapters_runs_under_vmap() -> None:
    net = nets.adapter(MLP, weights_of(MLP), 2)
    x = inputs((3,))
    thetas = [weights_of(net, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *thetas)
    both = jax.vmap(net.apply, (0, None))(stacked, x)
    np.testing.assert_allclose(both[1], net.apply(thetas[1], x), rtol=1e-12)


@pytest.mark.parametrize("name", BASES)
def test_configurations_survive_json(name: str) -> None:
    base, _ = BASES[name]
    weights = weights_of(base)
    for net in (nets.adapted(base, 1), nets.adapter(base, weights, 1, alpha=0.5)):
        config = json.loads(json.dumps(net.config.to_dict()))
        again = nets.build(config)
        assert again == net
        assert hash(again.config) == hash(net.config)
        assert again.spec == net.spec
    assert nets.adapted(MLP, 1) != nets.adapted(MLP, 2)
    assert nets.adapted(VIT, 1, ["query"]) == nets.adapted(
        VIT, 1, "block_00/attention/query", alpha=1
    )


def test_the_base_comes_back_by_its_digest() -> None:
    """What a stored zoo has: a configuration, and weights in float32."""
    weights, x = weights_of(MLP), inputs((3,))
    net = nets.adapter(MLP, weights, 2)
    theta = weights_of(net)
    read: Any = nets.build(json.loads(json.dumps(net.config.to_dict())))
    with pytest.raises(ValueError, match=r"weights that are adapted, .* got none"):
        read.apply(theta, x)
    saved = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), weights)
    np.testing.assert_array_equal(
        read.with_base(saved).apply(theta, x), net.apply(theta, x)
    )
    saved["layer_02"]["bias"][0] += 1e-3
    with pytest.raises(ValueError, match=r"with_base: expected the weights .* got \w+"):
        read.with_base(saved)
    with pytest.raises(ValueError, match="does not fit its spec"):
        read.with_base({"layer_00": weights["layer_00"]})


def test_a_stored_zoo_of_adapters_runs_again(tmp_path: Path) -> None:
    """The base is a zoo of one network beside the adapters."""

    def many(net: nets.Network, count: int) -> Zoo:
        rng = np.random.default_rng(count)
        thetas = jax.tree.map(
            lambda s: rng.normal(size=(count, *s.shape)).astype("float32"),
            net.spec.template(),
        )
        labels = {"test_accuracy": np.linspace(0, 1, count, dtype="float32")}
        ids = np.array([f"net-{number}" for number in range(count)])
        return Zoo(net, thetas, labels, {}, np.zeros(count, "int8"), "here", ids)

    def first(zoo: Zoo) -> Any:
        return jax.tree.map(lambda leaf: leaf[0], zoo.thetas)

    mlp, x = nets.mlp((3, 2)), inputs((3,)).astype("float32")
    base = many(mlp, 1)
    adapters = many(nets.adapter(mlp, first(base), 2), 3)
    folder = store(tmp_path / "zoo", {"base": base, "adapters": adapters})
    again = read(folder, "adapters")
    assert isinstance(again.network, nets.Adapter)
    net = again.network.with_base(first(read(folder, "base")))
    np.testing.assert_array_equal(
        net.apply(first(again), x), adapters.network.apply(first(adapters), x)
    )


@pytest.mark.parametrize(
    ("rank", "targets", "alpha", "message"),
    [
        (0, None, None, "adapter rank: sizes should be integers of at least 1"),
        (True, None, None, "adapter rank: sizes should be integers"),
        (
            3,
            None,
            None,
            r"rank: expected at most 2 for 'layer_02', .* kernel \(4, 2\), got 3",
        ),
        (
            1,
            "query",
            None,
            r"layers among \['layer_00', 'layer_01', 'layer_02'\], .* got 'query'",
        ),
        (1, "00", None, "targets: expected layers among .* got '00'"),
        (1, (), None, r"targets: expected names of layers, .* got \(\)"),
        (1, (1,), None, r"targets: expected names of layers, .* got \(1,\)"),
        (1, None, 0, "alpha: expected a positive number, got 0"),
        (1, None, "2", "alpha: expected a positive number, got '2'"),
    ],
)
def test_bad_adapters_are_named(
    rank: Any, targets: Any, alpha: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        nets.adapted(MLP, rank, targets, alpha=alpha)
    with pytest.raises(ValueError, match=message):
        nets.adapter(MLP, MLP.init(jax.random.key(0)), rank, targets, alpha=alpha)


def test_bad_configurations_are_named() -> None:
    with pytest.raises(ValueError, match="network without adapters, got AdaptedConfig"):
        nets.adapted(nets.adapted(MLP, 1), 1)
    wrong: Any = "mlp"
    with pytest.raises(ValueError, match=r"adapter base: .* got 'mlp'"):
        AdaptedConfig(wrong, 1)
    with pytest.raises(
        ValueError, match=r"base_sha256: expected 64 hexadecimal .*'ab'"
    ):
        nets.AdapterConfig(MLPConfig((3, 2)), 1, base_sha256="ab")
    values = nets.adapted(MLP, 1).config.to_dict()
    with pytest.raises(ValueError, match=r"'kind' should be one of .* got 'fnn'"):
        nets.build({**values, "base": {"kind": "fnn"}})
