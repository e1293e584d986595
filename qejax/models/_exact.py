"""Everything exact that is read off one network, by name.

A name is a row of `STATISTICS` (pooled, the order of outputs forgotten) or `SKETCHES`
(kept). Rows that run the network on probes say so: a network read by its weights alone
and one read with probes are never mixed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp

from qejax._typing import Array, Float, Theta
from qejax.models import _sketches, _statistics
from qejax.models._composed import COMPOSED
from qejax.models._paths import (
    Paths,
    all_path_sums,
    receptive_field,
    summarise_paths,
)
from qejax.nets import Network
from qejax.spaces import (
    Canonical,
    Leaf,
    WeightSpec,
    canonical_form,
    has_matrices,
    log_norms,
    raw_statistics,
    reduced,
    restore,
    settled,
    settled_spec,
    views,
)


class Row(NamedTuple):
    """One named reading.

    Attributes:
        read: from the subject to a vector.
        probes: whether the network is run.
        network: whether it needs the network and not only its spec.
        fits: what a network lacks for it; empty if nothing.
    """

    read: Callable[["Subject"], Array]
    probes: bool = False
    network: bool = False
    fits: Callable[[Network], str] = lambda network: ""


@dataclass(frozen=True)
class Subject:
    """One network, and what its readings share, computed at most once.

    Attributes:
        spec: of the weights.
        theta: weights of one network.
        network: the architecture, if known.
        shape: of one input.
        probes: `[2, N, ...]`: inputs, and the same a little changed.
    """

    spec: WeightSpec
    theta: Theta
    network: Network | None = None
    shape: tuple[int, ...] = ()
    probes: Float[Array, "2 N ..."] | None = None

    @cached_property
    def normal(self) -> Canonical:
        """The normal form."""
        return canonical_form(self.spec, self.theta)

    @cached_property
    def free(self) -> WeightSpec:
        """Of settled weights."""
        return settled_spec(self.spec)

    @cached_property
    def settled(self) -> Theta:
        """Settled weights."""
        return settled(self.spec, self.theta)

    @cached_property
    def reduced(self) -> Canonical:
        """The normal form without the leaves that are constant in it."""
        return self.normal._replace(theta=reduced(self.spec, self.normal.theta))

    @cached_property
    def scale(self) -> Array:
        """Logarithm of the product of all norms."""
        return jnp.sum(log_norms(self.normal))

    @cached_property
    def sums(self) -> tuple[Paths, Paths, Paths]:
        """Signed, absolute and squared path sums of the normal form."""
        assert self.network is not None
        shape = receptive_field(self.network, self.shape)
        return all_path_sums(self.network, self.normal.theta, shape)

    @cached_property
    def composed(self) -> Array:
        """What reaches each output from each input, `[n_L, ...]`."""
        assert self.network is not None
        if self.network.layers:
            return self.sums[0].outputs
        compose = COMPOSED[self.network.config.kind]
        return compose(self.network, self.normal.theta)

    @cached_property
    def outputs(self) -> Float[Array, "2 N n_L"]:
        """Outputs of the normal form on the probes and on the changed ones."""
        assert self.network is not None
        assert self.probes is not None
        # Without the barrier a compiler computes all patches of the probes by itself.
        probes = jax.lax.optimization_barrier(self.probes)
        both = probes.reshape(-1, *probes.shape[2:])
        theta = restore(self.spec, self.normal)
        outputs = self.network.apply(theta, both.astype(self._dtype()))
        return outputs.reshape(2, -1, outputs.shape[-1])

    @cached_property
    def last_kernel(self) -> Array:
        """The kernel that writes the outputs, in normal form, `[m, n_L]`."""
        leaves = views(self.spec, self.normal.theta)
        last = [leaf for leaf in self.spec.leaves if len(leaf.axes) > 1][-1]
        # Behind a concatenation it is cut into what reads each side.
        rows = [
            leaves[leaf.path].reshape(-1, last.view[-1])
            for leaf in self.spec.leaves_by_array[last.array]
            if leaf.view[-1] == last.view[-1] and _column(leaf) == _column(last)
        ]
        return jnp.concatenate(rows)

    def _dtype(self) -> jnp.dtype:
        return jnp.result_type(*jax.tree.leaves(self.theta))


def _column(leaf: Leaf) -> int:
    """Where a leaf begins along the last axis of its array."""
    return 0 if leaf.cut is None else leaf.cut.starts[-1]


def _canonical(subject: Subject) -> Array:
    return raw_statistics(subject.free, subject.reduced.theta)


def _log_norms(subject: Subject) -> Array:
    return log_norms(subject.normal)


def _paths(subject: Subject) -> Array:
    signed, absolute, squared = subject.sums
    return summarise_paths(signed, absolute, squared, subject.scale)


def _raw(subject: Subject) -> Array:
    return raw_statistics(subject.spec, subject.theta)


def _chain(network: Network) -> str:
    return "" if network.layers else "follows paths through a chain of layers"


def _linear(network: Network) -> str:
    dense = network.config.kind in COMPOSED and not _vocabulary(network)
    return "" if network.layers or dense else "composes a linear map of dense inputs"


def _few(network: Network) -> str:
    outputs = network.spec.leaves[-1].axes[-1].size
    if outputs <= MAX_OUTPUTS:
        return ""
    return f"compares at most {MAX_OUTPUTS} outputs with one another, not {outputs},"


def _vocabulary(network: Network) -> int:
    return int(getattr(network.config, "vocabulary", None) or 0)


MAX_OUTPUTS = 256
"""Beyond, a sketch of every pair of outputs would be longer than most networks."""


STATISTICS: dict[str, Row] = {
    "raw": Row(_raw),
    "canonical": Row(_canonical),
    "log_norms": Row(_log_norms),
    "paths": Row(_paths, network=True, fits=_chain),
    "spectra": Row(lambda s: _statistics.spectra(s.free, s.reduced.theta)),
    "outputs": Row(
        lambda s: _statistics.output_statistics(s.outputs[0]), probes=True, network=True
    ),
    "sensitivity": Row(
        lambda s: _statistics.sensitivity_statistics(s.outputs[0], s.outputs[1]),
        probes=True,
        network=True,
    ),
}
"""Pooled readings; all but `raw` are invariant to the whole group."""

SKETCHES: dict[str, Row] = {
    "filters": Row(
        lambda s: _sketches.filter_sketch(s.composed), network=True, fits=_linear
    ),
    "classes": Row(lambda s: _sketches.class_sketch(s.last_kernel), fits=_few),
    "logits": Row(
        lambda s: _sketches.output_sketch(s.outputs[0]), probes=True, network=True
    ),
    "probabilities": Row(
        lambda s: _sketches.probability_sketch(s.outputs[0]), probes=True, network=True
    ),
}
"""Readings that keep the order of outputs, for templates."""


def readings_of(network: Network) -> dict[str, Row]:
    """Returns the rows of `STATISTICS` and `SKETCHES` that a network has.

    Paths need a chain of layers, spectra are taken where matrices act.

    Example:
        >>> from qejax import nets
        >>> sorted(set(STATISTICS) - set(readings_of(nets.mlp((4, 3, 2)))))
        ['spectra']
    """
    rows = {**STATISTICS, **SKETCHES}
    if not has_matrices(network.spec):
        del rows["spectra"]
    return {name: row for name, row in rows.items() if not row.fits(network)}


def check_names(
    statistics: tuple[str, ...],
    sketches: tuple[str, ...],
    network: Network | None,
    probes: int,
) -> None:
    """Raises unless every named reading exists and can be taken.

    Raises:
        ValueError: names the reading and what it needs.
    """
    for table, names, what in (
        (STATISTICS, statistics, "statistics"),
        (SKETCHES, sketches, "sketches"),
    ):
        for name in names:
            if name not in table:
                raise ValueError(
                    f"Predictor({what}=...): {name!r} is unknown, expected names of "
                    f"{list(table)}."
                )
            if table[name].network and network is None:
                raise ValueError(
                    f"Predictor({what}=...): {name!r} needs the network and not only "
                    f"its spec, got network=None. Pass network=..., or leave it out."
                )
            lack = "" if network is None else table[name].fits(network)
            if network is not None and lack:
                raise ValueError(
                    f"Predictor({what}=...): {name!r} {lack} and cannot be taken of "
                    f"this network of kind {network.config.kind!r}. Leave it out."
                )
            if table[name].probes and not probes:
                raise ValueError(
                    f"Predictor({what}=...): {name!r} runs the network on probes, got "
                    f"probes={probes}. Pass their number, or leave it out."
                )
