"""Transformers: their function against Flax, their specs, and what is refused."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from qejax import nets, spaces
from qejax.nets._attention import attend, normalise, rotate, sine_positions
from qejax.spaces import Wire
from tests.layer_specs import fast_jit
from tests.registry import TRANSFORMERS, compiled, gap, inputs_of, theta_of

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 4)))


@pytest.fixture
def _flax_promotes() -> Iterator[None]:
    """Flax adds biases and scales to what has more axes."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def heads(use_bias: bool = True, kv_heads: int = 2) -> Any:
    part = spaces.attention(
        "", Wire(4), Wire(3), 4, 2, kv_heads=kv_heads, use_bias=use_bias
    )
    return theta_of(part.spec(), 0)


@pytest.mark.usefixtures("_flax_promotes")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_attention_is_that_of_flax(use_bias: bool, causal: bool) -> None:
    theta = heads(use_bias, 4)
    mask = nn.make_causal_mask(X[..., 0]) if causal else None
    sizes: dict[str, Any] = {"qkv_features": 8, "out_features": 3, "use_bias": use_bias}
    linen = nn.MultiHeadDotProductAttention(4, **sizes)
    run = fast_jit(lambda theta: [attend(theta, X, causal=c) for c in (causal, False)])
    got, everywhere = run(theta)

    def in_flax(theta: Any) -> Any:
        graph, _ = nnx.split(
            nnx.eval_shape(
                lambda: nnx.MultiHeadAttention(
                    4, 4, **sizes, decode=False, rngs=nnx.Rngs(0)
                )
            )
        )
        module = nnx.merge(graph, theta)
        return linen.apply({"params": theta}, X, mask=mask), module(X, mask=mask)

    # The scores of NNX are of single precision, whatever its inputs.
    for expected, most in zip(fast_jit(in_flax)(theta), (1e-14, 1e-6), strict=True):
        assert got.shape == expected.shape == (2, 5, 3)
        assert gap(got, expected) < most
    assert (gap(got, everywhere) > 1e-3) == causal


def test_grouped_queries_share_a_key_and_a_value() -> None:
    """As if each head had its own copy; query head `h` reads head `h * G // H`."""
    theta = heads()
    copied = dict(theta)
    for name in ("key", "value"):
        kernel, bias = theta[name]["kernel"], theta[name]["bias"]
        copied[name] = {
            "kernel": jnp.repeat(kernel, 2, axis=1),
            "bias": jnp.repeat(bias, 2, axis=0),
        }
    run = fast_jit(lambda theta: attend(theta, X, causal=True))
    grouped = run(theta)
    assert gap(grouped, run(copied)) < 1e-14
    # A control: tiled instead of repeated is another network.
    copied["key"]["kernel"] = jnp.tile(theta["key"]["kernel"], (1, 2, 1))
    assert gap(grouped, run(copied)) > 1e-3


@pytest.mark.usefixtures("_flax_promotes")
@pytest.mark.parametrize(
    ("kind", "module", "weights"),
    [
        ("layer", nn.LayerNorm(1e-3), ("scale", "bias")),
        ("layer", nn.LayerNorm(1e-3, use_bias=False, use_scale=False), ()),
        ("rms", nn.RMSNorm(1e-3), ("scale",)),
        ("rms", nn.RMSNorm(1e-3, use_scale=False), ()),
    ],
)
def test_norms_are_those_of_flax(
    kind: str, module: nn.Module, weights: tuple[str, ...]
) -> None:
    draw = np.random.default_rng(1)
    params = {name: jnp.asarray(draw.normal(size=4)) for name in weights}
    expected = module.apply({"params": params}, X)
    assert gap(normalise(kind, params or None, X, 1e-3), expected) < 1e-14
    np.testing.assert_array_equal(normalise("none", None, X, 1e-3), X)


def test_rotary_embedding_turns_pairs_by_their_position() -> None:
    x = np.random.default_rng(2).normal(size=(2, 5, 3, 6))
    pairs = x[..., :3] + 1j * x[..., 3:]
    rates = 10000.0 ** (-np.arange(3) / 3)
    turned = pairs * np.exp(1j * np.arange(5)[:, None, None] * rates)
    expected = np.concatenate([turned.real, turned.imag], -1)
    got = np.asarray(rotate(jnp.asarray(x)))
    np.testing.assert_allclose(got, expected, atol=1e-14)
    # Products of queries and keys see the distance of their positions alone.
    same = np.asarray(rotate(jnp.broadcast_to(jnp.asarray(x)[:, :1], x.shape)))
    scores = np.einsum("nthd,nshd->nhts", same, same)
    np.testing.assert_allclose(scores[..., 0, 2], scores[..., 2, 4], atol=1e-13)
    assert np.max(np.abs(scores[..., 0, 2] - scores[..., 0, 3])) > 1e-2


@pytest.mark.parametrize("dim", [4, 5])
def test_sine_positions_are_the_formula(dim: int) -> None:
    table = sine_positions(3, dim)
    for t in range(3):
        for i in range(dim):
            angle = t / 10000 ** (2 * (i // 2) / dim)
            expected = np.cos(angle) if i % 2 else np.sin(angle)
            assert table[t, i] == pytest.approx(expected, abs=1e-15)


def reference(config: Any, theta: Any, x: Any) -> Any:
    """An encoder with layer norms, of Flax's layers and a strided convolution."""

    def norm(weights: Any, x: Any) -> Any:
        return nn.LayerNorm(config.epsilon).apply({"params": weights}, x)

    def dense(weights: Any, x: Any) -> Any:
        width = weights["kernel"].shape[-1]
        return nn.Dense(width).apply({"params": weights}, x)

    attention = nn.MultiHeadDotProductAttention(config.heads, qkv_features=4)
    kernel = theta["embed"]["kernel"].reshape(2, 2, 1, 4)
    layout = ("NHWC", "HWIO", "NHWC")
    h = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "VALID", dimension_numbers=layout
    ).reshape(len(x), -1, 4)
    h = h + theta["embed"].get("bias", 0)
    if "position" in theta:
        h = h + theta["position"]["embedding"]
    if "class_token" in theta:
        token = jnp.tile(theta["class_token"], (len(h), 1, 1))
        h = jnp.concatenate([token, h], 1)
    act = {"relu": nn.relu, "gelu": nn.gelu}[config.activation]
    block = theta["block_00"]

    def heads(x: Any) -> Any:
        return attention.apply({"params": block["attention"]}, x)

    def feed(x: Any) -> Any:
        return dense(block["mlp"]["down"], act(dense(block["mlp"]["up"], x)))

    for name, layer in (("norm_1", heads), ("norm_2", feed)):
        if config.placement == "pre":
            h = h + layer(norm(block[name], h))
        else:
            h = norm(block[name], h + layer(h))
    h = norm(theta["norm"], h) if "norm" in theta else h
    return dense(theta["head"], h[:, 0] if "class_token" in theta else h.mean(1))


@pytest.mark.usefixtures("_flax_promotes")
@pytest.mark.parametrize("name", ["vit, class token", "post-norm"])
def test_encoders_are_flax_layers_in_a_row(name: str) -> None:
    row = TRANSFORMERS[name]
    theta, x = theta_of(row.net.spec, 0), inputs_of(row)
    got = compiled(name).apply(theta, x)
    config = row.net.config
    expected = fast_jit(lambda theta, x: reference(config, theta, x))(theta, x)
    assert gap(got, expected) < 1e-13


def test_a_causal_model_does_not_look_ahead() -> None:
    name = "language, rotary, grouped, gated"
    row, run = TRANSFORMERS[name], compiled(name).apply
    theta, x = theta_of(row.net.spec, 0), inputs_of(row)
    later = x.at[:, 2].set((x[:, 2] + 1) % 5)
    before, after = run(theta, x), run(theta, later)
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert float(jnp.min(jnp.max(jnp.abs(before - after)[:, 2], -1))) > 1e-3
    # Shorter sequences are the start of longer ones.
    assert gap(fast_jit(row.net.apply)(theta, x[:, :2]), before[:, :2]) < 1e-14


def test_images_may_lack_the_axis_of_one_channel() -> None:
    name = "post-norm"
    row = TRANSFORMERS[name]
    theta, x = theta_of(row.net.spec, 0), inputs_of(row)
    flat = jax.eval_shape(row.net.apply, theta, x[..., 0])
    assert flat.shape == compiled(name).apply(theta, x).shape == (16, 2)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_configurations_survive_json(name: str) -> None:
    net = TRANSFORMERS[name].net
    again = nets.build(json.loads(json.dumps(net.config.to_dict())))
    assert again == net
    assert hash(again) == hash(net)
    assert again.spec == net.spec


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_weights_fit_the_spec_and_keep_their_dtype(name: str, dtype: str) -> None:
    row = TRANSFORMERS[name]
    theta = jax.eval_shape(lambda key: row.net.init(key, dtype), jax.random.key(0))
    spaces.check_theta(row.net.spec, theta)
    y = jax.eval_shape(row.net.apply, theta, inputs_of(row, dtype=dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves((theta, y))} == {jnp.dtype(dtype)}


def test_weights_at_the_start() -> None:
    net = nets.transformer(
        64, 1, 4, 128, image=(8, 8, 1), patch=4, activation="relu", pool="class"
    )
    theta = fast_jit(lambda key: net.init(key, "float64"))(jax.random.key(0))
    block = theta["block_00"]
    attention, mlp = block["attention"], block["mlp"]
    kernels = (
        (theta["embed"], 1 / 16),
        (attention["query"], 1 / 64),
        (attention["out"], 1 / 64),
        (mlp["up"], 2 / 64),
        (mlp["down"], 1 / 128),
    )
    for layer, variance in kernels:
        found = float(jnp.var(layer["kernel"]))
        assert found == pytest.approx(variance, rel=0.15)
    for layer in (attention["key"], attention["out"], mlp["up"], theta["norm"]):
        assert float(jnp.max(jnp.abs(layer["bias"]))) == 0
    for layer in (block["norm_1"], block["norm_2"], theta["norm"]):
        assert float(jnp.min(layer["scale"])) == float(jnp.max(layer["scale"])) == 1
    for table in (theta["class_token"], theta["position"]["embedding"]):
        assert float(jnp.std(table)) == pytest.approx(0.02, rel=0.25)


def test_specs_are_those_of_the_networks() -> None:
    sizes: Any = {"image": (4, 4, 1), "patch": 2}
    spec = nets.transformer_spec(4, 1, 2, 0, **sizes)
    assert spec == nets.transformer(4, 1, 2, 0, **sizes).spec
    assert not any("mlp" in leaf.path for leaf in spec.leaves)


GOOD = {"dim": 6, "depth": 1, "heads": 3, "hidden": 4, "image": [4, 4, 1], "patch": 2}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"heads": 4}, r"heads: expected a divisor of dim=6, got 4\. Change it, or pass"),
    ({"heads": 0}, "dim, depth, heads, num_outputs: sizes should be integers of at le"),
    ({"hidden": -1}, r"hidden, head_hidden: sizes should .* 0, got \(-1, 0\)"),
    ({"kv_heads": 2}, "kv_heads: key and value heads should divide the 3 heads, got 2"),
    ({"kv_heads": 0}, r"kv_heads: sizes should be integers of at least 1, got \(0,\)"),
    ({"head_dim": 0}, r"head_dim: sizes should be integers of at least 1, got \(0,\)"),
    (
        {"position": "rotary", "head_dim": 3},
        "head_dim: rotary embedding turns pairs, expected an even number, got 3",
    ),
    ({"norm": "batch"}, r"norm: expected one of \['layer', 'rms', 'none'\], got 'bat"),
    ({"placement": "mid"}, "placement: expected one of .*'post'.*got 'mid'"),
    ({"position": "alibi"}, "position: expected one of .*'rotary'.*got 'alibi'"),
    ({"pool": "max"}, "pool: expected one of .*'class'.*got 'max'"),
    ({"activation": "swoosh"}, "'swoosh' is unknown"),
    ({"pool": "class", "causal": True}, "pool: a class token comes first, and sees it"),
    (
        {"final_norm": True, "norm": "none"},
        "final_norm: expected norms before their layers, got norm='none' and placement",
    ),
    (
        {"final_norm": True, "placement": "post"},
        "final_norm: expected norms before their layers, got .*placement='post'",
    ),
    ({"image": None}, "inputs: expected one of image=.* got image=None and vocabulary"),
    ({"vocabulary": 5}, "inputs: expected one of image=.* and vocabulary=5"),
    ({"image": None, "vocabulary": 5}, "length: tokens need a number of positions, go"),
    ({"image": None, "vocabulary": 5, "length": 0}, r"vocabulary, length: .*\(5, 0\)"),
    (
        {"image": [4, 4]},
        r"image: expected \(height, width, channels\) with sides .*4\)",
    ),
    ({"image": [4, 5, 1]}, r"with sides that patch=2 divides, got \(4, 5, 1\)"),
    ({"patch": 3}, r"with sides that patch=3 divides, got \(4, 4, 1\)"),
    ({"patch": 0}, r"transformer patch: sizes should be integers of at least 1"),
    *(
        ({field: wrong}, rf"transformer {field}: expected True or False, got {wrong!r}")
        for field, wrong in (
            ("affine", "no"),
            ("gated", 1),
            ("residual", None),
            ("attention_bias", "true"),
            ("mlp_bias", 0),
            ("causal", 1.0),
        )
    ),
    ({"final_norm": "no"}, "final_norm: expected True or False or None, got 'no'"),
    *(
        ({"epsilon": wrong}, f"epsilon: expected a positive finite number, got {wrong}")
        for wrong in (0.0, -1e-6, float("nan"), float("inf"), True, None)
    ),
    ({"epsilon": "1e-6"}, "epsilon: expected a positive finite number, got '1e-6'"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_bad_configurations_are_named(change: dict[str, Any], says: str) -> None:
    good = {"kind": "transformer", **GOOD}
    assert nets.build(good).config.to_dict()["length"] == 4
    with pytest.raises(ValueError, match=says):
        nets.build({**good, **change})


def test_wrong_inputs_are_named() -> None:
    row = TRANSFORMERS["language, rotary, grouped, gated"]
    theta = theta_of(row.net.spec, 0)
    for shape in ((2, 4), (2,), (2, 3, 1)):
        with pytest.raises(
            ValueError, match=rf"tokens \[N, T\] with T at most 3, got .*\({shape[0]},"
        ):
            row.net.apply(theta, jnp.zeros(shape, int))
    row = TRANSFORMERS["post-norm"]
    theta = theta_of(row.net.spec, 0)
    with pytest.raises(
        ValueError, match=r"images \[N, 4, 2, 1\], got shape \(3, 4, 4, 1\)"
    ):
        row.net.apply(theta, jnp.zeros((3, 4, 4, 1)))
    with pytest.raises(ValueError, match="theta does not fit its spec"):
        row.net.apply({}, jnp.zeros((3, 4, 2, 1)))


def test_wrong_tokens_are_named() -> None:
    """Their dtype always, their values outside jit."""
    row = TRANSFORMERS["language, rotary, grouped, gated"]
    theta, run = theta_of(row.net.spec, 0), jax.jit(row.net.apply)
    for dtype in ("float32", "bool"):
        x = jnp.ones((2, 3), dtype)
        for apply in (row.net.apply, run):
            with pytest.raises(
                ValueError, match=f"inputs: tokens should be integers, got {dtype}"
            ):
                jax.eval_shape(lambda x, apply=apply: apply(theta, x), x)
    says = r"should be from 0 to 4, got 2 of 6 that are not, the first at \(0, 2\)"
    for x in ([[0, 4, 5], [0, -1, 1]], [[0, 0, -1], [7, 1, 1]]):
        tokens: tuple[Any, ...] = (jnp.asarray(x), np.asarray(x))
        for wrong in tokens:
            with pytest.raises(ValueError, match=says):
                row.net.apply(theta, wrong)
    assert row.net.apply(theta, jnp.asarray([[0, 4, 3]], "uint8")).shape == (1, 3, 5)
    outside = jnp.asarray([[0, 4, 5]])
    assert jax.eval_shape(run, theta, outside).shape == (1, 3, 5)


def test_what_a_head_width_and_length_are_by_default() -> None:
    config = nets.TransformerConfig(6, 1, 3, 4, image=(4, 6, 1), patch=2)
    assert (config.kv_heads, config.head_dim, config.length) == (3, 2, 6)
    assert config.final_norm
    assert not dataclasses.replace(config, residual=False, final_norm=None).final_norm
