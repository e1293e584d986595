"""Skips between layers of any widths: the function, and which channels they tie."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qejax import nets, spaces, testing
from tests.registry import RTOL, element_of, gap, theta_of

ACTIVATIONS = ("relu", "gelu_erf", "tanh", "sigmoid", "leaky_relu")


def drawn(seed: int, names: Sequence[str] = ACTIVATIONS) -> nets.SkipCNN:
    """A small network as the CNN Wild Park draws them."""
    draw = np.random.default_rng(seed)
    depth = int(draw.integers(2, 6))
    residual = [
        int(draw.integers(-1, i - 1)) if i > 1 and draw.random() < 0.8 else -1
        for i in range(depth)
    ]
    return nets.skip_cnn(
        (2, *(int(n) for n in draw.integers(1, 7, depth))),
        tuple(int(k) for k in draw.choice([1, 3, 5], depth)),
        residual=residual,
        activation=tuple(str(name) for name in draw.choice(list(names), depth)),
        num_outputs=3,
    )


def images(seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(6, 5, 4, 2)))


def published(config: Any, plain: Any, x: Any) -> Any:
    """The forward pass as the authors of the data wrote it."""
    functions = {
        "relu": jax.nn.relu,
        "gelu_erf": lambda x: 0.5 * x * (1 + lax.erf(x / np.sqrt(2))),
        "tanh": jnp.tanh,
        "sigmoid": lambda x: 1 / (1 + jnp.exp(-x)),
        "leaky_relu": lambda x: jnp.where(x > 0, x, 0.01 * x),
    }
    outs: list[Any] = []
    for i, name in enumerate(config.activation):
        own, pad = plain[f"layer_{i:02d}"], config.padding[i]
        x = lax.conv_general_dilated(
            x,
            own["kernel"],
            (config.strides[i],) * 2,
            [(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ) + own["bias"].reshape(1, 1, 1, -1)
        r = config.residual[i]
        if r > -1:
            ch = min(config.channels[r + 1], config.channels[i + 1])
            x = x.at[..., :ch].add(outs[r][..., :ch])
        x = functions[name](x)
        outs.append(x)
    last = plain[f"layer_{len(outs):02d}"]
    return x.mean((1, 2)) @ last["kernel"] + last["bias"].reshape(1, -1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.one_in(3)
def test_function_is_the_published_one_and_is_kept(seed: int) -> None:
    net = drawn(seed)
    theta, x = theta_of(net.spec, seed), images()
    plain = net.join(theta)
    run = jax.jit(net.apply)
    before = run(theta, x)
    assert gap(before, jax.jit(lambda p: published(net.config, p, x))(plain)) < 1e-12
    again = net.split(plain)
    assert jax.tree.structure(again) == jax.tree.structure(theta)
    assert all(map(np.array_equal, jax.tree.leaves(again), jax.tree.leaves(theta)))
    moved = spaces.act(net.spec, element_of(net.spec, seed), theta)
    assert gap(run(moved, x), before) < RTOL
    assert gap(run(theta_of(net.spec, seed + 1), x), before) > 1e-3


@pytest.mark.parametrize("names", [("relu",), ("tanh",)])
def test_a_wrong_tie_is_seen(names: tuple[str, ...]) -> None:
    """Units that a skip ties have one scale; with one each the function changes."""
    net = nets.skip_cnn(
        (2, 3, 2, 5), residual=(-1, -1, 0), activation=names * 3, num_outputs=3
    )
    report = testing.function_kept(
        jax.jit(net.apply), net.spec, theta_of(net.spec, 0), images(), jax.random.key(0)
    )
    report.check()
    assert len(report.parts) == 3
    assert min(control.value for control in report.controls) > 1e-4


def test_blocks_of_channels() -> None:
    net = nets.skip_cnn((3, 8, 4, 6, 10), residual=(-1, -1, 0, 1))
    cuts = [[(b.layers, b.start, b.stop) for b in blocks] for blocks in net.blocks]
    assert cuts[1:-1] == [
        [((0, 2), 0, 6), ((0,), 6, 8)],
        [((1, 3), 0, 4)],
        [((0, 2), 0, 6)],
        [((1, 3), 0, 4), ((3,), 4, 10)],
    ]
    assert (
        net.spec.num_parameters
        == sum(9 * a * b + b for a, b in ((3, 8), (8, 4), (4, 6), (6, 10))) + 10 * 11
    )


def test_groups_of_tied_units() -> None:
    def groups(*names: str) -> list[str]:
        net = nets.skip_cnn((1, 2, 2, 4), residual=(-1, -1, 0), activation=names)
        return [space.group for space in net.spec.spaces]

    assert groups("relu", "tanh", "leaky_relu") == [
        "positive_scale",
        "sign",
        "positive_scale",
    ]
    assert groups("relu", "gelu", "tanh") == ["permutation", "permutation", "sign"]
    assert groups("relu^2", "relu^2", "relu^2")[0] == "permutation"


def test_init_is_that_of_plain_kernels() -> None:
    net = nets.skip_cnn((3, 64, 64, 40), 3, residual=(-1, -1, 0))
    plain = net.join(net.init(jax.random.key(0)))
    assert plain["layer_02"]["kernel"].shape == (3, 3, 64, 40)
    var = float(jnp.var(plain["layer_02"]["kernel"]))
    assert var == pytest.approx(2 / (9 * 64), rel=0.05)


def test_leading_axes_are_kept() -> None:
    net = drawn(0)
    stacked = theta_of(net.spec, 0, batch=(2,))
    plain = net.join(stacked)
    assert plain["layer_00"]["bias"].shape == (2, net.config.channels[1])
    again = net.split(plain)
    assert all(map(np.array_equal, jax.tree.leaves(again), jax.tree.leaves(stacked)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": (3,)}, "expected those of the images and of at least one"),
        ({"residual": (-1, 1)}, "layer 1 can add what an earlier layer wrote"),
        ({"residual": (-1, -2)}, "skip_cnn residual: sizes should be integers"),
        ({"windows": (3, 3, 3)}, "skip_cnn windows: expected one entry for all"),
        ({"activation": "swish"}, "is unknown: expected one of"),
    ],
)
def test_wrong_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.skip_cnn(**({"channels": (3, 4, 4)} | fields))


def test_maps_of_unequal_sizes_are_named() -> None:
    net = nets.skip_cnn((2, 3, 3, 3), residual=(-1, -1, 0), strides=(1, 2, 1))
    with pytest.raises(ValueError, match="adds that of layer 0, expected the same"):
        net.apply(theta_of(net.spec, 0), images())
