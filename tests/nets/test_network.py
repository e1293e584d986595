"""Input networks: the function that they are, and what their specs say of it."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets, spaces
from qejax.groups import Monomial

SCALES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "positive_scale": lambda rng, n: np.exp(rng.uniform(-2, 2, n)),
    "sign": lambda rng, n: rng.choice([-1.0, 1.0], n),
    "permutation": lambda rng, n: np.ones(n),
}

NETS: dict[str, tuple[nets.Network, tuple[int, ...]]] = {
    "mlp": (nets.mlp((5, 6, 4, 3)), (5,)),
    "mlp of images": (nets.mlp((6, 4, 3), "tanh"), (3, 2)),
    "linear": (nets.mlp((4, 3)), (4,)),
    "width 1, mixed": (nets.mlp((3, 1, 4, 2), ("relu^2", "gelu")), (3,)),
    "residual mlp": (nets.mlp((5, 6, 6, 6, 2), residual=True), (5,)),
    "residual sign mlp": (nets.mlp((5, 6, 6, 2), "tanh", residual=True), (5,)),
    "residual square mlp": (nets.mlp((5, 6, 6, 2), "relu^2", residual=True), (5,)),
    "cnn": (nets.cnn(2, (3, 4), 3, 2, padding="SAME"), (7, 6, 2)),
    "flatten cnn": (
        nets.cnn(
            1,
            (3, 4),
            ((3, 2), 1),
            ((2, 1), 1),
            padding=("VALID", "SAME"),
            activation=("relu^3", "tanh"),
            head="flatten",
            image=(8, 7),
        ),
        (8, 7, 1),
    ),
    "residual cnn": (
        nets.cnn(1, (3, 2), blocks=(2, 1), activation=("leaky_relu", "erf")),
        (6, 6, 1),
    ),
    "residual flatten cnn": (
        nets.cnn(1, (3,), blocks=1, head="flatten", image=(4, 4)),
        (4, 4, 1),
    ),
}


def _random(net: nets.Network, seed: int = 0) -> Any:
    """Weights from NumPy, so that nothing compiles."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape)),
        net.spec.template(jnp.float64),
    )


def _inputs(shape: tuple[int, ...]) -> jax.Array:
    return jnp.asarray(np.random.default_rng(7).normal(size=(5, *shape)))


def _gap(a: Any, b: Any) -> float:
    a, b = np.asarray(a), np.asarray(b)
    return float(np.max(np.abs(a - b)) / np.max(np.abs(a)))


@pytest.mark.parametrize("name", NETS)
def test_weights_fit_the_spec(name: str) -> None:
    net, _ = NETS[name]
    theta = jax.eval_shape(net.init, jax.random.key(0))
    spaces.check_theta(net.spec, theta)
    assert {leaf.dtype for leaf in jax.tree.leaves(theta)} == {jnp.dtype("float32")}
    assert set(theta) == {layer.name for layer in net.layers}


def test_weights_at_the_start() -> None:
    net = nets.mlp((400, 300, 200), "relu")
    theta = net.init(jax.random.key(0), "float64")
    for name, variance in (("layer_00", 2 / 400), ("layer_01", 1 / 300)):
        assert float(jnp.var(theta[name]["kernel"])) == pytest.approx(
            variance, rel=0.05
        )
        assert float(jnp.max(jnp.abs(theta[name]["bias"]))) == 0
    first, second = (leaf["kernel"].reshape(-1)[:9] for leaf in theta.values())
    assert float(jnp.max(jnp.abs(jnp.corrcoef(first, second)[0, 1]))) < 0.99


@pytest.mark.parametrize("name", NETS)
def test_units_transform_with_the_degree(name: str) -> None:
    net, shape = NETS[name]
    theta, x = _random(net), _inputs(shape)
    rng = np.random.default_rng(1)
    g = {
        space.name: Monomial(
            jnp.asarray(rng.permutation(space.size)),
            jnp.asarray(SCALES[space.group](rng, space.size)),
        )
        for space in net.spec.spaces
    }

    @jax.jit
    def both(g: Any, theta: Any, x: jax.Array) -> Any:
        return net.units(theta, x), net.units(spaces.act(net.spec, g, theta), x)

    (y, units), (y2, units2) = both(g, theta, x)
    assert _gap(y, y2) < 1e-10
    assert set(units) == set(net.spec.space_by_name)
    degrees = {
        layer.space: layer.activation.degree
        for layer in net.layers
        if layer.activation is not None
    }
    for space, u in units.items():
        assert u.shape[-1] == net.spec.space_by_name[space].size
        factor = np.asarray(g[space].scale) ** degrees[space]
        assert _gap(np.asarray(u)[..., g[space].perm] * factor, units2[space]) < 1e-10
        assert net.spec.space_by_name[space].size == 1 or _gap(u, units2[space]) > 1e-3
    # Control: another network is another function.
    (other, _), _ = both(g, _random(net, 1), x)
    assert _gap(y, other) > 1e-3


def test_residual_streams_share_a_space_of_the_right_group() -> None:
    def groups(net: nets.Network) -> list[tuple[int, str]]:
        return [(space.size, space.group) for space in net.spec.spaces]

    assert groups(nets.mlp((4, 6, 6, 3, 2), residual=True)) == [
        (6, "positive_scale"),
        (3, "positive_scale"),
    ]
    assert groups(nets.mlp((6, 6, 6, 2))) == [(6, "positive_scale")] * 2
    assert groups(nets.mlp((4, 6, 6, 2), "relu^2", residual=True)) == [
        (6, "permutation")
    ]
    assert groups(nets.mlp((4, 6, 6, 2), ("relu", "tanh"), residual=True)) == [
        (6, "permutation")
    ]
    square = nets.cnn(1, (4,), blocks=1, activation="relu^2")
    assert groups(square) == [(4, "permutation"), (4, "positive_scale")]


def test_residual_mlp_is_the_formula() -> None:
    net = nets.mlp((5, 6, 6, 2), residual=True)
    theta, x = _random(net), _inputs((5,))
    dense = [
        lambda h, w=theta[f"layer_0{l}"]: h @ w["kernel"] + w["bias"][None]
        for l in range(3)
    ]
    h = jax.nn.relu(dense[0](x))
    h = jax.nn.relu(h + dense[1](h))
    np.testing.assert_allclose(net.apply(theta, x), dense[2](h), rtol=1e-12)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize(
    ("window", "strides"), [((3, 3), (1, 1)), ((2, 5), (2, 3)), ((1, 1), (2, 1))]
)
def test_patches_are_the_convolution(
    window: tuple[int, int], strides: tuple[int, int], padding: str
) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 9, 8, 2)))
    kernel = jnp.asarray(rng.normal(size=(*window, 2, 4)))
    expected = jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    convolve = jax.jit(nets.convolve, static_argnums=(2, 3))
    np.testing.assert_allclose(
        convolve(x, kernel, strides, padding), expected, rtol=1e-10, atol=1e-12
    )


def test_patches_take_any_number_of_axes() -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 9, 3)))
    kernel = jnp.asarray(rng.normal(size=(4, 3, 5)))
    expected = jax.lax.conv_general_dilated(
        x, kernel, (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    np.testing.assert_allclose(
        nets.convolve(x, kernel, (2,), "SAME"), expected, rtol=1e-10, atol=1e-12
    )


def test_flatten_keeps_units_fastest() -> None:
    net = nets.cnn(1, (3,), head="flatten", image=(4, 5))
    kernel = net.spec.leaf_by_path["layer_01/kernel"]
    assert (kernel.stored, kernel.view) == ((18, 10), (6, 3, 10))


@pytest.mark.parametrize("name", NETS)
def test_config_survives_json(name: str) -> None:
    net, _ = NETS[name]
    again = nets.build(json.loads(json.dumps(net.config.to_dict())))
    assert again == net
    assert hash(again) == hash(net)
    assert again.spec == net.spec
    assert net != nets.mlp((2, 9, 2))


def test_networks_are_static_arguments() -> None:
    net = nets.mlp((5, 4, 2))
    run = jax.jit(nets.Network.apply, static_argnums=0)
    theta, x = _random(net), _inputs((5,))
    np.testing.assert_allclose(run(net, theta, x), net.apply(theta, x), rtol=1e-6)


def test_specs_are_those_of_the_networks() -> None:
    assert nets.mlp_spec((4, 3, 2)) == nets.mlp((4, 3, 2)).spec
    assert nets.cnn_spec(1, (3,)) == nets.cnn(1, (3,)).spec


def test_wrong_inputs_are_named() -> None:
    net = nets.mlp((5, 4, 2))
    with pytest.raises(ValueError, match="expected inputs with 5 features, got 6"):
        net.apply(_random(net), _inputs((6,)))
    net = nets.cnn(2, (4,))
    theta = _random(net)
    with pytest.raises(ValueError, match=r"spatial axes, 2\], got \(3, 6, 6, 1\)"):
        net.apply(theta, jnp.ones((3, 6, 6, 1)))
    with pytest.raises(ValueError, match=r"at least as large, got \(2, 6\)"):
        net.apply(theta, jnp.ones((3, 2, 6, 2)))


BAD = [
    ({"kind": "rnn"}, "'kind' should be one of"),
    ({}, "'kind' should be one of .* got None"),
    ({"kind": "mlp", "widths": [3, 2], "depth": 1}, r"unknown fields \['depth'\]"),
    ({"kind": "mlp"}, r"of kind 'mlp': .*; got \[\], the fields are"),
    ({"kind": "cnn", "channels": [3]}, "missing 1 required .*'in_channels'"),
    ({"kind": "mlp", "widths": [3]}, "at least inputs and outputs"),
    ({"kind": "mlp", "widths": [3, 0, 2]}, "integers of at least 1"),
    ({"kind": "mlp", "widths": [3, 2, 2], "activation": "swoosh"}, "'swoosh' is unk"),
    (
        {"kind": "mlp", "widths": [3, 2, 2], "activation": ["relu", "relu"]},
        "each of 1 layers, got 2",
    ),
    ({"kind": "mlp", "widths": [3, True, 2]}, r"at least 1, got \(3, True, 2\)"),
    ({"kind": "mlp", "widths": [3, 2.0]}, r"at least 1, got \(3, 2.0\)"),
    ({"kind": "mlp", "widths": 3}, "integers of at least 1, got 3"),
    ({"kind": "mlp", "widths": [3, 2, 2], "activation": 5}, "a name such as 'relu'"),
    (
        {"kind": "cnn", "in_channels": 1, "channels": [2], "blocks": 0.5},
        r"cnn blocks: .*of at least 0, got \(0.5,\)",
    ),
    (
        {"kind": "cnn", "in_channels": 1, "channels": [2], "blocks": -1},
        r"cnn blocks: .*of at least 0, got \(-1,\)",
    ),
    (
        {"kind": "cnn", "in_channels": 1, "channels": [2], "image": [8, 8, 1]},
        r"cnn image: expected \(height, width\), got \(8, 8, 1\)",
    ),
    ({"kind": "cnn", "in_channels": 1, "channels": []}, "at least one stage"),
    ({"kind": "cnn", "in_channels": 0, "channels": [2]}, "in_channels, num_outputs"),
    (
        {"kind": "cnn", "in_channels": 1, "channels": [2], "padding": "FULL"},
        "cnn padding: expected one of .* got 'FULL'",
    ),
    (
        {"kind": "cnn", "in_channels": 1, "channels": [2], "head": "mean"},
        "cnn head: expected one of .* got 'mean'",
    ),
    (
        {"kind": "cnn", "in_channels": 1, "channels": [2], "head": "flatten"},
        "'flatten' needs the height and width",
    ),
    (
        {"kind": "cnn", "in_channels": 1, "channels": [2], "windows": [[3, 3, 3]]},
        "cnn windows: expected one entry for all or one for each of 2",
    ),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_bad_configs_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.build(values)


def test_arguments_are_checked_as_fields_are() -> None:
    wrong: Any = 0.5
    with pytest.raises(ValueError, match="cnn blocks"):
        nets.cnn(1, (2,), blocks=wrong)
    with pytest.raises(ValueError, match=r"expected \(height, width\)"):
        nets.cnn(1, (2,), image=(8, 8, 1))
    with pytest.raises(ValueError, match="a name such as 'relu', got"):
        nets.cnn(1, (2,), activation=wrong)


def test_integers_of_any_kind_are_sizes() -> None:
    widths: Any = np.array([3, 4, 2])
    net = nets.mlp(widths)
    assert net == nets.mlp((3, 4, 2))
    assert json.dumps(net.config.to_dict())
    channels: Any = np.array([2, 3])
    blocks: Any = np.array([0, 1])
    same = nets.cnn(1, channels, np.int64(3), blocks=blocks)
    assert same == nets.cnn(1, (2, 3), 3, blocks=(0, 1))
    assert json.dumps(same.config.to_dict())


def test_weights_that_do_not_fit_are_named() -> None:
    net, x = nets.mlp((5, 4, 2)), _inputs((5,))
    theta = _random(net)
    first = {"layer_00": theta["layer_00"]}
    with pytest.raises(ValueError, match=r"missing leaves \['layer_01/kernel'"):
        net.apply(first, x)
    theta["layer_01"]["bias"] = jnp.zeros(1)
    with pytest.raises(
        ValueError, match=r"'layer_01/bias' should .*\(2,\), got \(1,\)"
    ):
        net.apply(theta, x)
