"""The baseline that knows no symmetry: an MLP on all weights in one vector."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qejax import layers
from qejax._exact import exact
from qejax._typing import Array, Float, PRNGKeyArray, Scalar, Theta
from qejax.spaces import WeightSpec, ravel


class FlatMLP(nnx.Module):
    """An MLP on standardised flat weights; invariant to nothing.

    Has the halves of `Predictor`: `measure`, `calibrate`, `prepare`, `read`.

    Args:
        spec: the weight space.
        widths: of the hidden layers.
        outputs: number of scores.
        dropout: rate after every hidden layer.
        precision: of what is trained, see `qejax.layers.PRECISIONS`.
        rngs: `params` is used.
    """

    def __init__(
        self,
        spec: WeightSpec,
        widths: tuple[int, ...] = (128, 64),
        *,
        outputs: int = 1,
        dropout: float = 0.3,
        precision: layers.PrecisionName = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        self.spec = spec
        self.dropout, self.precision = dropout, precision
        dtype = layers.precision_of(precision).params
        size = spec.num_parameters
        self.mean = layers.Frozen(jnp.zeros(size))
        self.deviation = layers.Frozen(jnp.ones(size))
        self.dense = nnx.Dict()
        for number, width in enumerate((*widths, outputs)):
            self.dense[f"{number:02d}"] = nnx.Linear(
                size, width, param_dtype=dtype, rngs=rngs
            )
            size = width

    @exact
    def measure(self, theta: Theta) -> dict[str, Any]:
        """Returns the flat weights of one network."""
        return {"flat": ravel(self.spec, layers.widened(theta, self.precision))}

    def calibrate(self, measured: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
        """Stores mean and deviation of the training networks, returns them prepared."""
        del labels
        flat = measured["flat"]
        deviation = jnp.std(flat, 0)
        self.mean.set_value(jnp.mean(flat, 0).astype(self.mean[...].dtype))
        safe = jnp.where(deviation > 0, deviation, 1)
        self.deviation.set_value(safe.astype(self.deviation[...].dtype))
        return jax.vmap(self.standardise)(measured)

    @exact
    def standardise(self, measured: dict[str, Any]) -> dict[str, Any]:
        """Returns the flat weights in deviations from the mean, cut off at 6."""
        flat = measured["flat"]
        mean, deviation = (
            x[...].astype(flat.dtype) for x in (self.mean, self.deviation)
        )
        scaled = (flat - mean) / deviation
        return {"flat": jnp.clip(scaled, -6, 6)}

    def prepare(self, theta: Theta) -> dict[str, Any]:
        """Returns what `read` takes of one network."""
        return self.standardise(self.measure(theta))

    def scores(
        self, prepared: dict[str, Any], key: PRNGKeyArray | None = None
    ) -> Float[Array, " outputs"]:
        """Returns all scores; `key` turns dropout on and is consumed."""
        return layers.in_precision(self._scores, self.precision)(prepared, key)

    def _scores(
        self, prepared: dict[str, Any], key: PRNGKeyArray | None
    ) -> Float[Array, " outputs"]:
        x = prepared["flat"]
        *hidden, last = sorted(self.dense)
        for number, name in enumerate(hidden):
            x = jax.nn.silu(self.dense[name](x))
            sub = None if key is None else jax.random.fold_in(key, number)
            x = layers.dropout(sub, x, self.dropout)
        return self.dense[last](x)

    def read(self, prepared: dict[str, Any], key: PRNGKeyArray | None = None) -> Scalar:
        """Returns the first score; `key` turns dropout on and is consumed."""
        return self.scores(prepared, key)[0]

    def __call__(self, theta: Theta, key: PRNGKeyArray | None = None) -> Scalar:
        """Returns the score of one network."""
        return self.read(self.prepare(theta), key)
