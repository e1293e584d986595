"""Networks that make images and signals, and one that tells them apart."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from tests.derive.architectures.architecture import Architecture, normal


class Encoder(nn.Module):
    """The mean and the logarithm of the variance of a latent vector."""

    latents: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = nn.relu(nn.Dense(7, name="fc1")(x))
        mean = nn.Dense(self.latents, name="fc2_mean")(x)
        logvar = nn.Dense(self.latents, name="fc2_logvar")(x)
        return mean, logvar


class Decoder(nn.Module):
    """Logits of the pixels."""

    pixels: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        z = nn.relu(nn.Dense(8, name="fc1")(z))
        return nn.Dense(self.pixels, name="fc2")(z)


class VAE(nn.Module):
    """Reconstructs from the mean; where it also tells both, they are its outputs."""

    latents: int = 3
    pixels: int = 6
    tells: bool = False

    def setup(self) -> None:
        self.encoder = Encoder(self.latents)
        self.decoder = Decoder(self.pixels)

    def __call__(self, x: jax.Array) -> jax.Array | tuple[jax.Array, ...]:
        mean, logvar = self.encoder(x)
        reconstruction = self.decoder(mean)
        return (reconstruction, mean, logvar) if self.tells else reconstruction


class ConvAutoencoder(nn.Module):
    """Down by strides, up again by transposed convolutions."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels, shape = x.shape[-1], x.shape
        x = nn.relu(nn.Conv(5, (3, 3), strides=(2, 2), name="down_0")(x))
        x = nn.relu(nn.Conv(6, (3, 3), strides=(2, 2), name="down_1")(x))
        inner = x.shape[1:]
        x = nn.Dense(7, name="code")(x.reshape(x.shape[0], -1))
        x = nn.relu(nn.Dense(int(np.prod(inner)), name="decode")(x))
        x = x.reshape(shape[0], *inner)
        x = nn.relu(nn.ConvTranspose(5, (2, 2), strides=(2, 2), name="up_0")(x))
        return nn.ConvTranspose(channels, (3, 3), strides=(2, 2), name="up_1")(x)


class ConvBlock(nn.Module):
    """A convolution, its norm over two groups of channels if told to."""

    features: int
    norm: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(self.features, (3, 3))(x)
        return nn.silu(nn.GroupNorm(num_groups=2)(x)) if self.norm else nn.relu(x)


class UNet(nn.Module):
    """What goes down is put beside what comes up."""

    down: Sequence[int] = (4, 6)
    up: Sequence[int] = (6, 4)
    norms: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels, skips = x.shape[-1], []
        for i, features in enumerate(self.down):
            x = ConvBlock(features, self.norms, name=f"down_{i}")(x)
            skips.append(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Conv(7, (1, 1), name="middle")(x))
        for i, features in reversed(list(enumerate(self.up))):
            n, h, w, c = x.shape
            x = jax.image.resize(x, (n, 2 * h, 2 * w, c), "nearest")
            x = jnp.concatenate([x, skips[i]], axis=-1)
            x = ConvBlock(features, self.norms, name=f"up_{i}")(x)
        return nn.Conv(channels, (1, 1), name="out")(x)


class Generator(nn.Module):
    """A vector becomes an image: transposed convolutions and BatchNorm."""

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        norm = partial(nn.BatchNorm, use_running_average=True)
        x = nn.Dense(2 * 3 * 6, use_bias=False)(z)
        x = nn.relu(norm()(x.reshape(z.shape[0], 2, 3, 6)))
        x = nn.ConvTranspose(5, (3, 3), strides=(2, 2), use_bias=False)(x)
        x = nn.relu(norm()(x))
        return nn.tanh(nn.ConvTranspose(2, (2, 2), strides=(2, 2))(x))


class Discriminator(nn.Module):
    """Strides and leaky rectifiers, one number out."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in (5, 6):
            x = nn.Conv(features, (3, 3), strides=(2, 2))(x)
            x = nn.leaky_relu(x, negative_slope=0.2)
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(1)(x)


class SineLayer(nn.Module):
    """A dense layer, its sine."""

    features: int
    omega: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.sin(self.omega * nn.Dense(self.features)(x))


class Siren(nn.Module):
    """A signal as a function of where one looks."""

    hidden: Sequence[int] = (7, 6)
    # Small, so that random weights give a smooth signal.
    omega: float = 3.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in self.hidden:
            x = SineLayer(features, self.omega)(x)
        return nn.Dense(3)(x)


class NeRF(nn.Module):
    """Density and colour of a place, which is read once more half way."""

    @nn.compact
    def __call__(self, place: jax.Array, view: jax.Array) -> jax.Array:
        waves = jnp.concatenate(
            [f(2.0**i * place) for i in range(2) for f in (jnp.sin, jnp.cos)], axis=-1
        )
        x = nn.relu(nn.Dense(7)(waves))
        x = jnp.concatenate([x, waves], axis=-1)
        x = nn.relu(nn.Dense(8)(x))
        density = nn.softplus(nn.Dense(1, name="sigma")(x))
        x = nn.Dense(5, name="bottleneck")(x)
        x = nn.relu(nn.Dense(6)(jnp.concatenate([x, view], axis=-1)))
        colour = nn.sigmoid(nn.Dense(3, name="rgb")(x))
        return jnp.concatenate([colour, density], axis=-1)


class TimeEmbedding(nnx.Module):
    """Sines of the time of the noise, and a small network of them."""

    def __init__(self, waves: int, width: int, rngs: nnx.Rngs) -> None:
        self.waves = waves
        self.dense_0 = nnx.Linear(2 * waves, width, rngs=rngs)
        self.dense_1 = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, t: jax.Array) -> jax.Array:
        rate = 10.0 ** (-jnp.arange(self.waves) / self.waves)
        angle = t * rate[None]
        x = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
        return self.dense_1(nnx.silu(self.dense_0(x)))


class DenoiserBlock(nnx.Module):
    """A residual MLP, its norm shifted, scaled and gated by the time."""

    def __init__(self, width: int, hidden: int, time: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(width, use_scale=False, use_bias=False, rngs=rngs)
        self.modulation = nnx.Linear(time, 3 * width, rngs=rngs)
        self.dense_0 = nnx.Linear(width, hidden, rngs=rngs)
        self.dense_1 = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x: jax.Array, time: jax.Array) -> jax.Array:
        parts = self.modulation(nnx.silu(time))
        shift, scale, gate = jnp.split(parts, 3, axis=-1)
        y = self.norm(x) * (1 + scale) + shift
        return x + gate * self.dense_1(nnx.gelu(self.dense_0(y)))


class Denoiser(nnx.Module):
    """Tells the noise in a vector, given how much there is."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.time = TimeEmbedding(2, 5, rngs)
        self.embed = nnx.Linear(3, 6, rngs=rngs)
        self.blocks = nnx.List([DenoiserBlock(6, 7, 5, rngs) for _ in range(2)])
        self.out = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        time = self.time(t)
        x = self.embed(x)
        for block in self.blocks:
            x = block(x, time)
        return self.out(x)


class AffineCoupling(nn.Module):
    """Half of a vector scales and shifts the other half."""

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        kept, moved = jnp.split(x, 2, axis=-1)
        h = nn.tanh(nn.Dense(self.hidden)(kept))
        log_scale = nn.tanh(nn.Dense(moved.shape[-1], name="log_scale")(h))
        shift = nn.Dense(moved.shape[-1], name="shift")(h)
        moved = moved * jnp.exp(log_scale) + shift
        return jnp.concatenate([moved, kept], axis=-1), log_scale.sum(axis=-1)


class RealNVP(nn.Module):
    """The logarithm of a density, by couplings that can be inverted."""

    hidden: Sequence[int] = (5, 7)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        total = jnp.zeros(x.shape[0], x.dtype)
        for hidden in self.hidden:
            x, log_det = AffineCoupling(hidden)(x)
            total = total + log_det
        return total - 0.5 * jnp.sum(jnp.square(x), axis=-1)


GENERATIVE = {
    "vae": Architecture(
        VAE,
        normal((6,)),
        "linen",
        "Flax's example vae, its reconstruction only",
        unread=("encoder/fc2_logvar/bias", "encoder/fc2_logvar/kernel"),
    ),
    "vae_with_latents": Architecture(
        lambda: VAE(tells=True), normal((6,)), "linen", "Flax's example vae"
    ),
    "conv_autoencoder": Architecture(
        ConvAutoencoder, normal((8, 12, 2)), "linen", "strides and transposes"
    ),
    "unet": Architecture(
        UNet, normal((8, 12, 2), batch=3), "linen", "U-Net with norms of groups"
    ),
    "plain_unet": Architecture(
        lambda: UNet(norms=False), normal((8, 12, 2), batch=3), "linen", "U-Net"
    ),
    "dcgan_generator": Architecture(Generator, normal((5,)), "linen", "DCGAN"),
    "discriminator": Architecture(
        Discriminator, normal((8, 12, 2)), "linen", "DCGAN without norms"
    ),
    "siren": Architecture(Siren, normal((2,)), "linen", "SIREN, its sine layers"),
    "nerf": Architecture(NeRF, normal((3,), (2,)), "linen", "JaxNeRF"),
    "denoiser": Architecture(
        lambda: Denoiser(nnx.Rngs(0)), normal((3,), (1,)), "nnx", "DiT's modulation"
    ),
    "real_nvp": Architecture(RealNVP, normal((4,), batch=3), "linen", "RealNVP"),
}
