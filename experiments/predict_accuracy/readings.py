"""What is read off a stack of networks before any training: vectors of statistics.

Computed once per stack and kept, so that the baselines share them. Everything here is
a function of the weights alone; a moved copy of the networks is read anew.
"""

from collections.abc import Sequence
from functools import cached_property

import jax
import numpy as np

from qejax import models, nets, spaces
from qejax._typing import Theta

PROBE_KEY = 5
"""Seed of the random images behind the probe statistics; no data is used."""


class Readings:
    """A stack of networks of one architecture and what was read off it.

    Attributes:
        network: the architecture.
        thetas: leaves `[B, ...]`.
    """

    def __init__(self, network: nets.Network, thetas: Theta) -> None:
        self.network = network
        self.thetas = thetas

    def replaced(self, thetas: Theta) -> "Readings":
        """Returns the readings of other networks of the same architecture."""
        return Readings(self.network, thetas)

    def statistics(self, names: Sequence[str]) -> np.ndarray:
        """Returns the named statistics side by side, `[B, F]`.

        Args:
            names: of `raw`, `canonical`, `probe`.
        """
        return np.concatenate([getattr(self, name) for name in names], axis=1)

    @cached_property
    def flat(self) -> np.ndarray:
        """All weights in one vector, `[B, P]`."""
        return _map(lambda theta: spaces.ravel(self.network.spec, theta), self.thetas)

    @cached_property
    def raw(self) -> np.ndarray:
        """Mean, variance and quantiles of every leaf, `[B, F]`; no invariant."""
        spec = self.network.spec
        return _map(lambda theta: models.raw_statistics(spec, theta), self.thetas)

    @cached_property
    def canonical(self) -> np.ndarray:
        """The same of the canonical form, and its log norms: exact invariants."""
        spec = self.network.spec
        return _map(lambda theta: models.canonical_statistics(spec, theta), self.thetas)

    @cached_property
    def probe(self) -> np.ndarray:
        """Statistics of the outputs on 64 smooth random images: exact invariants."""
        network, key = self.network, jax.random.key(PROBE_KEY)
        images = models.smooth_images(key, network.config)
        return _map(
            lambda theta: models.probe_statistics(network, theta, images), self.thetas
        )


def _map(function, thetas: Theta) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(function))(thetas))
