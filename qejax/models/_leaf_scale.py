"""The size of every leaf over the training networks: a constant of a model."""

import jax.numpy as jnp
from flax import nnx

from qejax import layers
from qejax._typing import Array, Leaves
from qejax.spaces import WeightSpec


class LeafScale(nnx.Module):
    """Root mean squares of the leaves of a spec; one each until `fit`.

    Args:
        spec: the weight space.
    """

    def __init__(self, spec: WeightSpec) -> None:
        names = [layers.key_of(leaf.path) for leaf in spec.leaves]
        self.root = nnx.Dict({name: layers.Frozen(jnp.ones(())) for name in names})

    def fit(self, features: Leaves) -> None:
        """Stores the root mean square of every leaf; of a leaf of zeros one.

        Args:
            features: by path, stacked, `[B, *leaf.view]`.
        """
        for path, x in features.items():
            square = jnp.mean(jnp.square(x))
            root = jnp.sqrt(jnp.where(square > 0, square, 1)).astype(jnp.float32)
            self.root[layers.key_of(path)].set_value(root)

    def of(self, path: str, x: Array) -> Array:
        """Returns the size of a leaf in the dtype of `x`."""
        return self.root[layers.key_of(path)][...].astype(x.dtype)

    def __call__(self, features: Leaves) -> Leaves:
        """Returns the leaves over their sizes."""
        return {path: x / self.of(path, x) for path, x in features.items()}
