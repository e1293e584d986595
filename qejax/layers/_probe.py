"""The network that is read, run on learned inputs.

Outputs on fixed inputs are invariant to every symmetry of a network, known or not. The
activations of a unit are covariant features of that unit: they permute with it and
scale with it, so in the canonical form they only permute.

Source: Herrmann et al. 2024, arXiv:2403.05821; Kahana et al. 2024, arXiv:2410.10811.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array, Float, PRNGKeyArray, Theta
from qejax.nets import Network


class Frozen(nnx.Variable):
    """State that is kept with a model and never trained."""


class ProbeStream(nnx.Module):
    """Runs a network on `num_probes` inputs and describes what it computes.

    Differentiable in the inputs, which start as smooth random images. Give it weights
    in canonical form: then `units` permutes with the units and nothing else acts on it.

    Args:
        network: the architecture that is read.
        shape: of one input, `[...]` (`[H, W, C]` for images, `[n_0]` for vectors).
        num_probes: number of inputs, `N`.
        learned: whether they are trained; otherwise they are `Frozen`.
        param_dtype: of the inputs.
        rngs: `params` is used.

    Attributes:
        network: as given.
        inputs: `[N, *shape]`.
    """

    def __init__(
        self,
        network: Network,
        shape: tuple[int, ...],
        num_probes: int = 16,
        *,
        learned: bool = True,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if num_probes < 1:
            raise ValueError(
                f"ProbeStream(num_probes=...) should be at least 1, got {num_probes}. "
                f"Leave the stream out to read weights only."
            )
        self.network = network
        images = smooth_inputs(rngs.params(), num_probes, shape, param_dtype)
        self.inputs = nnx.Param(images) if learned else Frozen(images)

    def __call__(self, theta: Theta) -> tuple[Array, dict[str, Array]]:
        """Returns `(outputs [N, n_L], units)` of one network.

        `units[space]: [n_s, N]` is the mean of a unit's activation over positions, one
        channel per probe.
        """
        inputs = self.inputs[...]
        outputs, units = self.network.units(theta, inputs)
        return outputs, {
            name: jnp.mean(x.reshape(x.shape[0], -1, x.shape[-1]), 1).T
            for name, x in units.items()
        }


def smooth_inputs(
    key: PRNGKeyArray,
    num: int,
    shape: tuple[int, ...],
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "N ..."]:
    """Returns smooth random inputs in [-1, 1]; no data is used.

    Spatial axes get a power spectrum `f ** -b` with `b` uniform in [1.5, 3], as natural
    images have; contrast and mean vary from input to input. A vector whose length is a
    square number is taken as an image, row by row; other vectors are white.

    Args:
        key: consumed.
        num: number of inputs, `N`.
        shape: `[H, W, C]`, `[H, W]` or `[n_0]`.
        dtype: of the result.

    Returns:
        `[N, *shape]`.

    Example:
        >>> smooth_inputs(jax.random.key(0), 4, (8, 8, 1)).shape
        (4, 8, 8, 1)
    """
    size = int(np.prod(shape))
    side = int(np.sqrt(size))
    if len(shape) == 1:
        grid = (side, side, 1) if side * side == size else (size, 1, 1)
    else:
        grid = (*shape[:2], int(np.prod(shape[2:])))
    keys = jax.random.split(key, 4)
    noise = jax.random.normal(keys[0], (num, *grid), jnp.float32)
    rows, columns = np.fft.fftfreq(grid[0]), np.fft.fftfreq(grid[1])
    frequency = np.hypot(rows[:, None], columns[None, :])
    frequency[0, 0] = 1 / max(grid[0], grid[1])
    decay = jax.random.uniform(keys[1], (num, 1, 1, 1), jnp.float32, 1.5, 3.0)
    decay = jnp.where(min(grid[:2]) > 1, decay, 0.0)
    power = jnp.asarray(frequency, jnp.float32)[None, :, :, None] ** (-decay / 2)
    spectrum = jnp.fft.fft2(noise, axes=(1, 2)) * power.astype(jnp.complex64)
    smooth = jnp.real(jnp.fft.ifft2(spectrum, axes=(1, 2)))
    over = (1, 2, 3)
    smooth = smooth - smooth.mean(over, keepdims=True)
    smooth = smooth / jnp.maximum(smooth.std(over, keepdims=True), 1e-6)
    contrast = jax.random.uniform(keys[2], (num, 1, 1, 1), jnp.float32, 0.25, 0.65)
    level = 0.3 * jax.random.normal(keys[3], (num, 1, 1, 1), jnp.float32)
    return jnp.clip(smooth * contrast + level, -1, 1).reshape(num, *shape).astype(dtype)
