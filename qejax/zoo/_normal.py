"""Normal forms of stacked networks, computed once and stored beside their weights.

Scales and signs are fixed in float64, whatever the precision of the program that
reads them later: functionally equivalent networks have equal statistics to the
rounding of their float32 weights. See `spaces.canonical_form`.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qejax import spaces
from qejax._typing import Float
from qejax.spaces import WeightSpec

NETWORKS_AT_ONCE, ENTRIES_AT_ONCE = 256, 1 << 18
"""Most networks, and most weights of them all, in one call of the program.

It works on a few times 10 MB then. The number depends on the spec only: so do the
compiled program and, for a network, what it returns.
"""


RECORD_FIELDS = {
    "vectors": "normal",
    "log_norm": "log_norm",
    "statistics": "statistics",
}
"""Names of the arrays of a `NormalForm` in the records of a prepared zoo."""

WHICH = "which"
"""What records have instead where architectures are mixed: the place of theirs."""


class NormalForm(NamedTuple):
    """The normal forms of `B` networks, as NumPy arrays.

    Attributes:
        vectors: `[B, P]` float32, weights in normal form, leaves in the order of the
            spec; only permutations of units are left. Values beyond the range of
            float32 are the largest of it.
        log_norm: `[B, l]` float64, see `spaces.log_norms`.
        statistics: `[B, F]` float64, see `spaces.canonical_statistics`; taken before
            weights are rounded to float32.
    """

    vectors: Float[np.ndarray, "B P"]
    log_norm: Float[np.ndarray, "B l"]
    statistics: Float[np.ndarray, "B F"]

    def take(self, rows: np.ndarray) -> "NormalForm":
        """Returns the normal forms of these rows, in this order."""
        return NormalForm(*(column[rows] for column in self))


def from_records(stacked: Mapping[str, Any]) -> NormalForm:
    """Returns the normal forms of stacked records."""
    return NormalForm(**{name: stacked[key] for name, key in RECORD_FIELDS.items()})


def normal_forms(spec: WeightSpec, thetas: Any) -> NormalForm:
    """Returns the normal forms of stacked networks, in one compiled program.

    In float64 on the CPU, where there is one, so that they do not depend on the device
    that trains; memory for some networks at a time.

    Args:
        spec: of the weights.
        thetas: stacked weights, float32, finite; every leaf has a leading axis `B`.

    Returns:
        `B` normal forms; finite at any scale, for dead units too.

    Raises:
        ValueError: if a network does not fit `spec`.
    """
    thetas = jax.device_get(thetas)
    if not len(jax.tree.leaves(thetas)[0]):
        return NormalForm(*(np.zeros((0, n), t) for n, t in columns(spec).values()))
    batch_size = networks_at_once(spec)
    with float64_on_the_host():
        found = spaces.in_batches(_of_float32(spec), thetas, batch_size=batch_size)
        return NormalForm(*(np.asarray(column) for column in found))


def networks_at_once(spec: WeightSpec) -> int:
    """Returns how many networks one call of the program takes; fewer cost as much."""
    entries = max(1, spec.num_parameters)
    return max(1, min(NETWORKS_AT_ONCE, ENTRIES_AT_ONCE // entries))


def _of_float32(spec: WeightSpec) -> Callable[[Any], tuple[jax.Array, ...]]:
    """The program on float32 weights: NumPy widens them, XLA would flush small ones."""

    def widened(thetas: Any) -> tuple[jax.Array, ...]:
        return _program(spec)(jax.tree.map(np.float64, thetas))

    return widened


@functools.lru_cache(maxsize=16)
def _program(spec: WeightSpec) -> Callable[[Any], tuple[jax.Array, ...]]:
    """From stacked float64 weights to the arrays of a `NormalForm`, compiled once."""
    limit = float(np.finfo(np.float32).max)
    free = spaces.settled_spec(spec)

    def one(theta: Any) -> tuple[jax.Array, ...]:
        normal = spaces.canonical_form(spec, theta)
        log_norm = spaces.log_norms(normal)
        raw = spaces.raw_statistics(free, spaces.reduced(spec, normal.theta))
        vector = jnp.clip(spaces.ravel(spec, normal.theta), -limit, limit)
        statistics = jnp.concatenate([raw, log_norm])
        return vector.astype(jnp.float32), log_norm, statistics

    return jax.jit(jax.vmap(one))


def columns(spec: WeightSpec) -> dict[str, tuple[int, type]]:
    """Returns width and dtype of the arrays of a `NormalForm`, by name."""
    return {
        "vectors": (spec.num_parameters, np.float32),
        "log_norm": (len(spaces.log_norm_paths(spec)), np.float64),
        "statistics": (len(spaces.statistic_names(spec)), np.float64),
    }


@contextmanager
def float64_on_the_host() -> Iterator[None]:
    """Programs inside are of float64, on the CPU where there is one."""
    with ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        try:
            cpu = jax.local_devices(backend="cpu")[0]
        except RuntimeError:  # This process was started without a CPU backend.
            cpu = None
        if cpu is not None:
            stack.enter_context(jax.default_device(cpu))
        yield
