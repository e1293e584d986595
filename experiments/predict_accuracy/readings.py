"""What is read off a stack of networks before any training, once for all rows.

Everything is a function of the weights alone (of the weights and of probes that hold no
data, where it says so), taken in float64: a logarithm or a singular value in float32
would turn the rounding of moved weights into changes that a metanetwork sees. A moved
copy of the networks is read anew.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from experiments.predict_accuracy.chunks import chunked
from qejax import models, nets
from qejax._typing import Theta

Statistics = Literal["raw", "canonical", "path", "probe"]

NAMES: dict[Statistics, tuple[str, ...]] = {
    "raw": ("raw",),
    "canonical": ("canonical", "log_norms", "spectra"),
    "path": ("paths",),
    "probe": ("outputs", "sensitivity"),
}
"""Names in `models.STATISTICS` behind each kind; all but `raw` are exact invariants.

Those that cannot be taken of an architecture are left out (`models.readings_of`)."""

AT_ONCE = 4
"""Networks that are run on probes together: their activations stay in the cache."""


class Readings:
    """A stack of networks of one architecture and what was read off it.

    Attributes:
        network: the architecture.
        shape: of one input.
        thetas: leaves `[B, ...]`.
        probes: number of smooth random inputs, no data, on which the networks are run.
        mesh: whose devices read.
    """

    def __init__(
        self,
        network: nets.Network,
        shape: tuple[int, ...],
        thetas: Theta,
        probes: int,
        mesh: Mesh | None = None,
    ) -> None:
        self.network = network
        self.shape = shape
        self.thetas = thetas
        self.probes = probes
        self.mesh = mesh

    def replaced(self, thetas: Theta) -> "Readings":
        """Returns the readings of other networks of the same architecture."""
        return Readings(self.network, self.shape, thetas, self.probes, self.mesh)

    @functools.cached_property
    def known(self) -> dict[str, np.ndarray]:
        """Every statistic and sketch by name, float64 `[B, F]`; what rows share."""
        read = _reader(self.network, self.shape, self.probes, self.mesh)
        return read(self.thetas)

    def statistics(self, kinds: Sequence[Statistics]) -> np.ndarray:
        """Returns the statistics of these kinds side by side, `[B, F]`."""
        names = [name for kind in kinds for name in NAMES[kind] if name in self.known]
        return np.concatenate([self.known[name] for name in names], axis=1)


@functools.lru_cache
def _reader(
    network: nets.Network,
    shape: tuple[int, ...],
    num_probes: int,
    mesh: Mesh | None,
) -> Callable[[Theta], Any]:
    """Returns the compiled readings of an architecture, all of them at once."""
    probes = models.probe_inputs(shape, num_probes)

    def read(theta: Theta) -> dict[str, jax.Array]:
        subject = models.Subject(network.spec, theta, network, shape, probes)
        rows = models.readings_of(network)
        return {name: row.read(subject) for name, row in rows.items()}

    return chunked(read, AT_ONCE, mesh=mesh)
