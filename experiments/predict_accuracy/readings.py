"""What is read off a stack of networks before any training: vectors of statistics.

Computed once per stack and kept, so that the baselines share them. Everything here is
a function of the weights alone; a moved copy of the networks is read anew.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import jax
import numpy as np

from qejax import models, nets, spaces
from qejax._typing import Theta

Statistics = Literal["raw", "canonical", "path", "probe"]

PROBE_KEY = 5
"""Seed of the random images behind the probe statistics; no data is used."""


class Readings:
    """A stack of networks of one architecture and what was read off it.

    Attributes:
        network: the architecture.
        shape: of one input.
        thetas: leaves `[B, ...]`.
    """

    def __init__(
        self, network: nets.Network, shape: tuple[int, ...], thetas: Theta
    ) -> None:
        self.network = network
        self.shape = shape
        self.thetas = thetas

    def replaced(self, thetas: Theta) -> "Readings":
        """Returns the readings of other networks of the same architecture."""
        return Readings(self.network, self.shape, thetas)

    def statistics(self, names: Sequence[Statistics]) -> np.ndarray:
        """Returns the named statistics side by side, `[B, F]`."""
        return np.concatenate([getattr(self, name) for name in names], axis=1)

    @cached_property
    def flat(self) -> np.ndarray:
        """All weights in one vector, `[B, P]`."""
        spec = self.network.spec
        return np.asarray(jax.vmap(lambda t: spaces.ravel(spec, t))(self.thetas))

    @cached_property
    def raw(self) -> np.ndarray:
        """Mean, variance and quantiles of every leaf, `[B, F]`; no invariant."""
        spec = self.network.spec
        return self._map(lambda theta: models.raw_statistics(spec, theta))

    @cached_property
    def canonical(self) -> np.ndarray:
        """The same of the canonical form, and its log norms: exact invariants."""
        spec = self.network.spec
        return self._map(lambda theta: models.canonical_statistics(spec, theta))

    @cached_property
    def path(self) -> np.ndarray:
        """Statistics of products of weights along all paths: exact invariants."""
        network = self.network
        shape = models.receptive_field(network, self.shape)
        return self._map(lambda theta: models.path_statistics(network, theta, shape))

    @cached_property
    def probe(self) -> np.ndarray:
        """Statistics of the outputs on 64 smooth random images: exact invariants."""
        network, key = self.network, jax.random.key(PROBE_KEY)
        images = models.smooth_images(key, self.shape)
        return self._map(lambda theta: models.probe_statistics(network, theta, images))

    def _map(self, function) -> np.ndarray:
        return np.asarray(models.map_networks(function, self.thetas))
