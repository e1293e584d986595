"""Convolutional networks: residual, concatenating, squeezing, depthwise."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from tests.derive.architectures.architecture import Architecture, normal


class ResNetBlock(nn.Module):
    """Convolution, norm, activation, twice; the activation after the sum."""

    filters: int
    norm: Callable[..., Any]
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = partial(nn.Conv, use_bias=False)
        y = conv(self.filters, (3, 3), self.strides)(x)
        y = self.norm()(y)
        y = nn.relu(y)
        y = conv(self.filters, (3, 3))(y)
        y = self.norm()(y)
        if x.shape != y.shape:
            x = conv(self.filters, (1, 1), self.strides, name="conv_proj")(x)
            x = self.norm(name="norm_proj")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A block that keeps its shape, and one that does not."""

    blocks: Sequence[tuple[int, int]] = ((5, 1), (6, 2))
    classes: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        norm = partial(nn.BatchNorm, use_running_average=True, epsilon=1e-5)
        x = nn.Conv(5, (3, 3), use_bias=False, name="conv_init")(x)
        x = norm(name="bn_init")(x)
        x = nn.relu(x)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for filters, stride in self.blocks:
            x = ResNetBlock(filters, norm, (stride, stride))(x)
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.classes)(x)


class StdConv(nn.Conv):
    """A convolution whose kernel has mean 0 and variance 1 for every output."""

    def param(self, name: str, *args: Any, **kwargs: Any) -> Any:
        param = super().param(name, *args, **kwargs)
        if name == "kernel":
            param = param - jnp.mean(param, axis=(0, 1, 2))
            param = param / (jnp.std(param, axis=(0, 1, 2)) + 1e-5)
        return param


class GroupNormUnit(nn.Module):
    """A residual unit with the norms of groups before the convolutions."""

    features: int
    groups: int
    conv: type[nn.Conv]
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(nn.GroupNorm(num_groups=self.groups, name="gn1")(x))
        if x.shape[-1] != self.features or self.strides != (1, 1):
            x = self.conv(
                self.features, (1, 1), self.strides, use_bias=False, name="conv_proj"
            )(y)
        y = self.conv(
            self.features, (3, 3), self.strides, use_bias=False, name="conv1"
        )(y)
        y = nn.relu(nn.GroupNorm(num_groups=self.groups, name="gn2")(y))
        y = self.conv(self.features, (3, 3), use_bias=False, name="conv2")(y)
        return x + y


class GroupNormResNet(nn.Module):
    """Channels in groups of two and of three."""

    conv: type[nn.Conv] = nn.Conv
    classes: int = 5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(4, (3, 3), use_bias=False, name="conv_root")(x)
        x = GroupNormUnit(4, 2, self.conv, name="unit1")(x)
        x = GroupNormUnit(6, 2, self.conv, strides=(2, 2), name="unit2")(x)
        x = nn.relu(nn.GroupNorm(num_groups=3, name="norm-pre-head")(x))
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.classes, name="head")(x)


class PreActBlock(nnx.Module):
    """Norm, activation, convolution, twice; nothing after the sum."""

    def __init__(self, width: int, out: int, stride: int, rngs: nnx.Rngs) -> None:
        norm = partial(nnx.BatchNorm, use_running_average=True, rngs=rngs)
        conv = partial(nnx.Conv, use_bias=False, rngs=rngs)
        strides = (stride, stride)
        self.bn1 = norm(width)
        self.conv1 = conv(width, out, (3, 3), strides=strides)
        self.bn2 = norm(out)
        self.conv2 = conv(out, out, (3, 3))
        self.shortcut = nnx.data(None)
        if (width, stride) != (out, 1):
            self.shortcut = conv(width, out, (1, 1), strides=strides)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.bn1(x))
        x = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        y = self.conv2(nnx.relu(self.bn2(y)))
        return x + y


class PreActResNet(nnx.Module):
    """The residual network of the second paper."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(2, 5, (3, 3), use_bias=False, rngs=rngs)
        self.blocks = nnx.List([PreActBlock(5, 5, 1, rngs), PreActBlock(5, 6, 2, rngs)])
        self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = nnx.relu(self.norm(x))
        return self.head(x.mean(axis=(1, 2)))


class SqueezeExcite(nn.Module):
    """Gates every channel by what all channels hold on average."""

    squeeze: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = jnp.mean(x, axis=(1, 2), keepdims=True)
        y = nn.Conv(self.squeeze, (1, 1), name="reduce")(y)
        y = nn.swish(y)
        y = nn.Conv(x.shape[-1], (1, 1), name="expand")(y)
        return x * nn.sigmoid(y)


class SEConvNet(nn.Module):
    """Two convolutions, each with its gates."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features, squeeze in ((6, 3), (7, 5)):
            x = nn.Conv(features, (3, 3))(x)
            x = nn.relu(x)
            x = SqueezeExcite(squeeze)(x)
        x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(2)(x)


class DenseLayer(nn.Module):
    """Adds channels to those it read."""

    growth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.BatchNorm(use_running_average=True)(x)
        y = nn.relu(y)
        y = nn.Conv(self.growth, (3, 3), use_bias=False)(y)
        return jnp.concatenate([x, y], axis=-1)


class DenseNet(nn.Module):
    """Layers that read all before them, with a transition between two blocks."""

    growths: Sequence[int] = (3, 5)
    transition: int = 6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(4, (3, 3), use_bias=False)(x)
        for growth in self.growths:
            x = DenseLayer(growth)(x)
        x = nn.Conv(self.transition, (1, 1), use_bias=False, name="transition")(x)
        x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = DenseLayer(self.growths[0])(x)
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(2)(x)


class InvertedResidual(nn.Module):
    """Wide, depthwise, narrow again; the sum is of the narrow ones."""

    expand: int
    features: int
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        norm = partial(nn.BatchNorm, use_running_average=True)
        y = nn.Conv(self.expand, (1, 1), use_bias=False, name="expand")(x)
        y = nn.relu6(norm()(y))
        y = nn.Conv(
            self.expand,
            (3, 3),
            self.strides,
            feature_group_count=self.expand,
            use_bias=False,
            name="depthwise",
        )(y)
        y = nn.relu6(norm()(y))
        y = nn.Conv(self.features, (1, 1), use_bias=False, name="project")(y)
        y = norm()(y)
        return x + y if x.shape == y.shape else y


class MobileNet(nn.Module):
    """A stem, two inverted residuals, hard swish before the head."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(5, (3, 3), (2, 2), name="stem")(x)
        x = nn.hard_swish(x)
        x = InvertedResidual(9, 5)(x)
        x = InvertedResidual(8, 6, (2, 2))(x)
        x = nn.hard_swish(nn.Conv(7, (1, 1), name="last")(x))
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(3, name="classifier")(x)


CONVOLUTIONAL = {
    "resnet": Architecture(
        ResNet, normal((8, 12, 2)), "linen", "Flax's ImageNet example, ResNetBlock"
    ),
    "preact_resnet": Architecture(
        lambda: PreActResNet(nnx.Rngs(0)), normal((6, 10, 2)), "nnx", "ResNet v2"
    ),
    "groupnorm_resnet": Architecture(
        GroupNormResNet,
        normal((6, 10, 2), batch=3),
        "linen",
        "Big Transfer, plain kernels",
    ),
    "bit_resnet": Architecture(
        partial(GroupNormResNet, conv=StdConv),
        normal((6, 10, 2), batch=3),
        "linen",
        "Big Transfer, standardised kernels",
    ),
    "squeeze_excite": Architecture(
        SEConvNet, normal((6, 10, 2)), "linen", "EfficientNet's gates of channels"
    ),
    "densenet": Architecture(
        DenseNet, normal((6, 10, 2), batch=3), "linen", "DenseNet"
    ),
    "mobilenet": Architecture(
        MobileNet,
        # Large enough that rectifiers reach their 6.
        normal((8, 12, 2), scale=30.0),
        "linen",
        "MobileNet v2",
    ),
}
