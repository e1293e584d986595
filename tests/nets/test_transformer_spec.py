"""Groups of streams and heads, shifts, and means that nobody sees."""

import functools
import itertools
import random
from typing import Any

import jax

from qejax import nets, spaces
from tests.registry import TRANSFORMERS


def groups_of(name: str) -> dict[str, tuple[str, str | None]]:
    spec = TRANSFORMERS[name].net.spec
    return {s.name.removeprefix("block_00."): (s.group, s.per) for s in spec.spaces}


def test_groups_of_streams_and_heads() -> None:
    at = "block_00.attention.heads"
    heads = {
        "attention.heads": ("permutation", None),
        "attention.vo": ("general_linear", at),
        "attention.qk": ("general_linear", at),
    }
    scales = {f"norm_{i}.scale": ("absorbed", "stream_0") for i in (1, 2)}
    assert groups_of("vit, class token") == heads | scales | {
        "stream_0": ("permutation", None),
        "norm.scale": ("absorbed", "stream_0"),
        "mlp": ("permutation", None),
    }
    # A norm behind a layer is added to the next one, but for the last.
    assert groups_of("post-norm") == heads | {
        "stream_0": ("permutation", None),
        "norm_2.scale": ("absorbed", "stream_0"),
        "mlp": ("positive_scale", None),
    }
    assert groups_of("no norm")["stream_0"] == ("linear_stream", None)
    rotary = groups_of("rms without scale, rotary, grouped")
    assert rotary["stream_0"] == ("orthogonal", None)
    assert rotary["attention.qk"] == ("rotary", at)
    assert rotary["attention.queries"] == ("permutation", at)
    # Fixed positions pin the stream that they are added to.
    small = groups_of("small transformer zoo")
    streams = {name: g for name, g in small.items() if name.startswith("stream")}
    # No norm is behind the last layer, and none before the first of a post-norm net.
    assert streams == {
        f"stream_{i}": ("orthogonal_ones", None) for i in range(1, 4)
    } | {"stream_4": ("linear_stream", None)}
    post = groups_of("post-norm, no residual, gated")
    assert [post[f"stream_{i}"][0] for i in range(3)] == [
        "linear_stream",
        "permutation",
        "permutation",
    ]
    assert small["head_hidden"] == ("positive_scale", None)
    gated = groups_of("language, rotary, grouped, gated")
    assert gated["mlp.scale"] == ("absorbed", "block_00.mlp")


def test_biases_that_shift_and_their_readers() -> None:
    def shifts(name: str) -> dict[str, list[str]]:
        return {
            shift.leaf.removeprefix("block_00/"): [
                route.bias.removeprefix("block_00/") for route in shift.routes
            ]
            for shift in TRANSFORMERS[name].net.spec.shifts
            if shift.routes or not shift.along
        }

    qkv = [f"attention/{n}/bias" for n in ("query", "key", "value")]
    heads = {"attention/key/bias": [], "attention/value/bias": ["attention/out/bias"]}
    assert shifts("vit, class token") == heads | {
        "norm_1/bias": qkv,
        "norm_2/bias": ["mlp/up/bias"],
        "norm/bias": ["head/bias"],
    }
    assert shifts("post-norm") == heads | {"norm_2/bias": ["head/bias"]}
    assert shifts("no norm") == heads | {
        "embed/bias": [*qkv, "mlp/up/bias", "head/bias"],
        "attention/out/bias": ["mlp/up/bias", "head/bias"],
        "mlp/down/bias": ["head/bias"],
    }
    assert list(shifts("rms without scale, rotary, grouped")) == [
        "attention/value/bias"
    ]
    assert shifts("small transformer zoo") == {
        "block_01/mlp/down/bias": ["head_hidden/bias"]
    }
    # Rows of a table shift together.
    assert shifts("post-norm, no residual, gated")["position/embedding"] == qkv
    rows = {"position/embedding": ["embed/embedding"]}
    assert shifts("language, layer norm without scale") == heads | rows
    assert shifts("language, rotary, grouped, gated") == {}


def test_means_that_nobody_sees() -> None:
    """Of what a centring norm reads, and of what reads one without a scale."""

    def means(name: str) -> set[str]:
        return {
            f"{shift.leaf.removeprefix('block_00/')}:{shift.along[0]}"
            for shift in TRANSFORMERS[name].net.spec.shifts
            if shift.along and not shift.routes
        }

    written = {"attention/out/kernel:2", "mlp/down/kernel:1"}
    biased = written | {"attention/out/bias:0", "mlp/down/bias:0"}
    embedded = {"embed/kernel:1", "position/embedding:1", "class_token:0"}
    assert means("vit, class token") == biased | embedded
    # The embedding is read as it is, and added.
    assert means("post-norm") == biased
    read = {f"attention/{n}/kernel:0" for n in ("query", "key", "value")}
    assert means("language, layer norm without scale") == biased | read | {
        "embed/embedding:1",
        "position/embedding:1",
        "mlp/up/kernel:0",
        "head/kernel:0",
    }
    for name in ("no norm", "rms without scale, rotary, grouped"):
        assert means(name) == set()


CHOICES: dict[str, tuple[Any, ...]] = {
    "dim": (4, 6, 10),
    "depth": (1, 2),
    "hidden": (0, 3),
    "norm": ("none", "rms", "layer"),
    "affine": (True, False),
    "residual": (True, False),
    "placement": ("pre", "post"),
    "activation": ("relu", "gelu", "tanh", "sine(2)"),
    "gated": (True, False),
    "position": ("none", "learned", "sine", "rotary"),
    "pool": ("mean", "class"),
    "attention_bias": (True, False),
    "kv_heads": (1, 2),
}
INPUTS: tuple[dict[str, Any], ...] = (
    {"image": (4, 2, 1), "patch": 2},
    {"vocabulary": 5, "length": 3},
)


def test_every_transformer_has_a_normal_form() -> None:
    """Some of all, with adapters and without: traced, which is where one is refused."""
    draw = random.Random(0)
    for number, inputs in zip(range(24), itertools.cycle(INPUTS), strict=False):
        fields = {name: draw.choice(values) for name, values in CHOICES.items()}
        net = nets.transformer(heads=2, head_dim=2, num_outputs=2, **inputs, **fields)
        read = nets.adapted(net, 1, ("query", "out")) if number % 3 == 0 else net
        form = functools.partial(spaces.canonical_form, read.spec)
        template = read.spec.template()
        found = jax.eval_shape(form, template).theta
        assert jax.tree.structure(found) == jax.tree.structure(template), fields
