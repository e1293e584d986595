"""Networks from tensors of every naming style, and weights there and back."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from qejax import nets
from qejax.zoo import files, formats, from_vectors
from qejax.zoo.formats._naming import STYLES

FIXTURES = Path(__file__).parents[1] / "files" / "fixtures"

NETWORKS: dict[str, nets.Network] = {
    "mlp": nets.mlp((3, 5, 4, 2), "tanh"),
    "twelve layers": nets.mlp((2, *[3] * 12, 1)),
    "coordinate": nets.coordinate((2, 5, 3), octaves=2),
    "cnn, gap": nets.cnn(2, (3, 4), (3, 2), num_outputs=3),
    "cnn, flatten": nets.cnn(2, (3, 4), 2, head="flatten", image=(5, 4)),
    "cnn, blocks": nets.cnn(1, (3, 2), blocks=1, num_outputs=2),
    "transformer": nets.transformer(
        8, 2, 2, 6, image=(4, 4, 3), patch=2, num_outputs=3, head_hidden=4, pool="class"
    ),
    "language": nets.transformer(
        8,
        1,
        4,
        6,
        vocabulary=5,
        length=4,
        kv_heads=2,
        gated=True,
        activation="silu",
        norm="rms",
        pool="tokens",
        causal=True,
        mlp_bias=False,
    ),
    "adapters": nets.adapted(nets.mlp((3, 4, 2)), 1),
}


def vector_of(net: nets.Network) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=net.spec.num_parameters)
    return drawn.astype("float32")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_come_back(name: str, style: str) -> None:
    net = NETWORKS[name]
    vector = vector_of(net)
    tensors = formats.from_vector(net, vector, style)
    np.testing.assert_array_equal(formats.to_vector(net, tensors), vector)
    moved = dict(reversed(tensors.items()))  # by name, so in any order
    np.testing.assert_array_equal(formats.to_vector(net, moved), vector)
    broken = dict(moved)
    one = next(iter(tensors))
    broken[one] = np.concatenate([tensors[one]] * 2)
    with pytest.raises(ValueError, match="should be floating numbers of shape"):
        formats.to_vector(net, broken)


@pytest.mark.parametrize("style", ["torch", "flax", "keras"])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "adapters"])
def test_other_names_are_taken_in_order(name: str, style: str) -> None:
    net = NETWORKS[name]
    vector = vector_of(net)
    tensors = {
        key.replace("layer", "my").replace("block", "stage"): tensor
        for key, tensor in formats.from_vector(net, vector, style).items()
    }
    np.testing.assert_array_equal(formats.to_vector(net, tensors), vector)


CHAINS: dict[str, dict[str, Any]] = {
    "mlp": {"activation": "tanh"},
    "twelve layers": {"activation": "relu"},
    "cnn, gap": {"activation": "relu", "strides": 1, "padding": "VALID", "head": "gap"},
    "cnn, flatten": {
        "activation": "relu",
        "strides": 1,
        "padding": "VALID",
        "head": "flatten",
        "image": (5, 4),
    },
}


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", CHAINS)
def test_chains_are_found(name: str, style: str, ordered: bool) -> None:
    net = NETWORKS[name]
    tensors = formats.from_vector(net, vector_of(net), style)
    if not ordered:
        tensors = dict(sorted(tensors.items(), reverse=True))
    assert formats.network_of(tensors, ordered=ordered, **CHAINS[name]) == net
    for missing in CHAINS[name]:
        fields = {key: x for key, x in CHAINS[name].items() if key != missing}
        with pytest.raises(ValueError, match=rf"do not tell its \['{missing}'\], got"):
            formats.network_of(tensors, ordered=ordered, **fields)


def test_numbers_come_before_text() -> None:
    """`10.weight` is behind `2.weight`, whatever the file says."""
    stored = files.read_safetensors(FIXTURES / "mlp.safetensors")
    net = formats.network_of(stored.tensors, ordered=False, activation="tanh")
    assert net == nets.mlp((2, *[3] * 11, 1), "tanh")
    vector = formats.to_vector(net, stored.tensors, ordered=False)
    x = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
    h = x
    for n in range(0, 24, 2):
        weight, bias = (stored.tensors[f"{n}.{kind}"] for kind in ("weight", "bias"))
        h = h @ weight.T + bias
        h = np.tanh(h) if n < 22 else h
    y = net.apply(from_vectors(net.spec, vector), jnp.asarray(x))
    np.testing.assert_allclose(np.asarray(y), h, rtol=1e-4, atol=1e-5)


def torch_like(tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Convolutions `[N, C, H, W]`, ReLU, flattened channels first, a dense layer."""
    for n in (0, 2):
        kernel = tensors[f"features.{n}.weight"]
        views = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (2, 3))
        x = np.einsum("nchwij,ocij->nohw", views, kernel)
        x = np.maximum(x + tensors[f"features.{n}.bias"][:, None, None], 0)
    flat = x.reshape(len(x), -1)
    return flat @ tensors["classifier.1.weight"].T + tensors["classifier.1.bias"]


def test_flattened_maps_keep_their_function() -> None:
    rng = np.random.default_rng(1)
    shapes = {
        "features.0.weight": (3, 2, 2, 2),
        "features.0.bias": (3,),
        "features.2.weight": (4, 3, 2, 2),
        "features.2.bias": (4,),
        "classifier.1.weight": (5, 24),
        "classifier.1.bias": (5,),
    }
    tensors = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    x = rng.normal(size=(3, 2, 5, 4))
    fields = CHAINS["cnn, flatten"]
    for given in (tensors, dict(sorted(tensors.items()))):  # classifier first
        ordered = given is tensors
        net = formats.network_of(given, ordered=ordered, **fields)
        vector = formats.to_vector(net, given, ordered=ordered)
        y = net.apply(
            from_vectors(net.spec, vector), jnp.asarray(x.transpose(0, 2, 3, 1))
        )
        expected = torch_like(tensors, x)
        np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-5, atol=1e-5)


def test_names_may_be_given() -> None:
    net = NETWORKS["transformer"]
    vector = vector_of(net)
    own = formats.from_vector(net, vector, "torch")
    layers = {leaf.path.rpartition("/")[0] for leaf in net.spec.leaves}
    names = {layer: f"x{n}" for n, layer in enumerate(sorted(layers, reverse=True))}
    renamed: dict[str, np.ndarray] = {}
    for key, tensor in own.items():
        layer, _, kind = key.rpartition(".")
        renamed[f"{names[layer.replace('.', '/')]}.{kind}"] = tensor
    if "" in names:  # the class token has no layer
        assert ".class_token" not in own
    again = formats.to_vector(net, renamed, names=names, ordered=False)
    np.testing.assert_array_equal(again, vector)
    with pytest.raises(ValueError, match="since the file keeps no order, got"):
        formats.to_vector(net, renamed, ordered=False)
    renamed["more.weight"] = np.zeros(2)
    with pytest.raises(ValueError, match=r"\['more'\] have no place"):
        formats.to_vector(net, renamed, names=names)


def test_a_missing_bias_is_zero() -> None:
    net = NETWORKS["mlp"]
    tensors = {
        f"{n}.weight": np.ones(s) for n, s in enumerate([(5, 3), (4, 5), (2, 4)])
    }
    theta = from_vectors(net.spec, formats.to_vector(net, tensors))
    assert formats.network_of(tensors, activation="tanh") == net
    assert not theta["layer_01"]["bias"].any()


def zeros(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {
        name.replace("__", "."): np.zeros(shape, "float32")
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (zeros(a__weight=(3, 2), a__running_var=(3,)), "qejax.nets.fold_batch_norm"),
        (zeros(a__weight=(3,), a__bias=(3,)), "'a' with .* Say what the network is"),
        (zeros(a__weight=(3, 2), a__bias=(2,)), "dense layers and convolutions, with"),
        (zeros(a__weight=(3, 2), a__scale=(3,)), "dense layers and convolutions, with"),
        (zeros(a1__weight=(3, 2), a2__weight=(3, 2)), "'a2' that reads 2 behind 'a1'"),
        (zeros(a__weight=(3, 3), b__weight=(3, 3)), "one order only, got 2 orders"),
        (zeros(a__weight=(3, 2), b__kernel=(3, 2)), "weights that are called 'weight'"),
        (zeros(a__data=(3, 2)), "weights that are called 'weight'"),
        (zeros(a__weight=(3, 2, 1, 1)), "one dense layer, got 1 and 0. Pools"),
        (
            zeros(**{f"{c}__weight": (3, 3) for c in "abcdefgh"}),
            "one order only, got 0",
        ),
    ],
)
def test_what_is_no_chain_is_named(
    tensors: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        formats.network_of(tensors, activation="relu", ordered=False, where="a.pt")
    assert str(error.value).startswith("a.pt")


def test_what_does_not_fit_is_named() -> None:
    net = NETWORKS["mlp"]
    tensors = zeros(a0__weight=(5, 3), a1__weight=(4, 5), a2__weight=(2, 4))
    wrong = tensors | zeros(a3__weight=(2, 2))
    with pytest.raises(ValueError, match=r"the 3 layers .*\['a3'\] have no place"):
        formats.to_vector(net, wrong)
    with pytest.raises(ValueError, match="to be 'layer_00/kernel' of the network, got"):
        formats.to_vector(net, {k: np.zeros(x.shape, int) for k, x in tensors.items()})
    gated = NETWORKS["language"]
    more = formats.from_vector(gated, vector_of(gated)) | zeros(head__more=(2,))
    with pytest.raises(
        ValueError, match=r"layer 'head' should have .*\['more'\] has no"
    ):
        formats.to_vector(gated, more)
    with pytest.raises(ValueError, match="should make a network with"):
        formats.network_of(tensors, activation="none at all")
    with pytest.raises(ValueError, match="from_vector: style should be one of"):
        formats.from_vector(net, vector_of(net), "tf")
    with pytest.raises(
        ValueError, match="from_vector: expected a vector of 54 weights"
    ):
        formats.from_vector(net, np.zeros(3))


def test_networks_may_be_stated(tmp_path: Path) -> None:
    path, net = tmp_path / "a.npz", NETWORKS["cnn, blocks"]
    text = json.dumps(net.config.to_dict())
    assert formats.stated_network(path, {}) is None
    for fields in ({}, {"qejax_network": text}):
        if not fields:
            (tmp_path / "network.json").write_text(text)
        config = formats.stated_network(path, fields)
        assert formats.network_of({}, network=config) == net
    assert formats.network_of({}, network=net) is net
    assert formats.network_of({}, network=json.loads(text)) == net
    for wrong in ("[", "[1]", '{"kind": "x"}', 3):
        with pytest.raises(
            ValueError, match="field qejax_network: expected the config"
        ):
            formats.stated_network(path, {"qejax_network": wrong})
    for field in ({"blocks": [1001, 0]}, {"in_channels": 10**400}):
        large = json.dumps(net.config.to_dict() | field)
        with pytest.raises(ValueError, match="numbers should be at most"):
            formats.stated_network(path, {"qejax_network": large})
    (tmp_path / "network.json").write_text("3")
    with pytest.raises(
        ValueError, match=r"network.json: expected the configuration of"
    ):
        formats.stated_network(path, {})
