"""What is read off a stack of networks before any training: vectors of statistics.

Computed once per stack and kept, so that the baselines share them. Everything here is
a function of the weights alone; a moved copy of the networks is read anew.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from experiments.predict_accuracy.chunks import UNOPTIMISED, chunked
from qejax import models, nets
from qejax._typing import Theta

Statistics = Literal["raw", "canonical", "path", "probe"]

READINGS: dict[Statistics, tuple[str, ...]] = {
    "raw": ("raw",),
    "canonical": ("canonical", "log_norms"),
    "path": ("paths",),
    "probe": ("outputs", "sensitivity"),
}
"""Names in `models.STATISTICS` behind each kind; all but `raw` are exact invariants."""

PROBES = 64
"""Smooth random images behind the probe statistics of the baselines; no data."""


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
        self._read: dict[Statistics, np.ndarray] = {}

    def replaced(self, thetas: Theta) -> "Readings":
        """Returns the readings of other networks of the same architecture."""
        return Readings(self.network, self.shape, thetas)

    def statistics(self, names: Sequence[Statistics]) -> np.ndarray:
        """Returns the named statistics side by side, `[B, F]`."""
        if not self._read:
            self._read = _reader(self.network, self.shape)(self.thetas)
        return np.concatenate([self._read[name] for name in names], axis=1)


@functools.lru_cache
def _reader(network: nets.Network, shape: tuple[int, ...]) -> Callable[[Theta], Any]:
    """Returns the compiled readings of an architecture, all kinds at once."""
    probes = models.probe_inputs(shape, PROBES)

    def read(theta: Theta) -> dict[Statistics, Any]:
        subject = models.Subject(network.spec, theta, network, shape, probes)
        return {
            kind: jnp.concatenate(
                [models.STATISTICS[name].read(subject) for name in names]
            )
            for kind, names in READINGS.items()
        }

    return chunked(read, options=UNOPTIMISED)
