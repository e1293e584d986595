"""A metanetwork with its constants as pure functions, trained here or read again."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from experiments.predict_accuracy.chunks import UNOPTIMISED, cast, chunked, in_chunks
from qejax._typing import Array, PRNGKeyArray

Scores = Callable[[Any, Any], np.ndarray]
"""`(params [S, ...], inputs [B, ...]) -> [S, B]`."""

OneScores = Callable[[Any, Any, PRNGKeyArray | None], Array]
"""`(module, prepared, key) -> [K]`, of one network."""


class Functions(NamedTuple):
    """What a module does.

    Attributes:
        scores: `(params, inputs [B, ...], key) -> [B, K]`; no dropout if the key is
            None.
        inputs: what it reads of a stack of networks, as `measure` takes them, leaves
            `[B, ...]`; exact, nothing trained.
        module: `params -> module`, with the constants that go with them.
    """

    scores: Callable[[Any, Any, PRNGKeyArray | None], Array]
    inputs: Callable[[Any], Any]
    module: Callable[[Any], Any]


def functions_of(
    module: Any,
    measure: Callable[[Any], Any],
    one: OneScores,
    mesh: Mesh | None = None,
) -> Functions:
    """Returns the functions of a module.

    Args:
        module: its constants are fitted.
        measure: `module.measure` of stacks of networks, in float64.
        one: its scores of one network.
        mesh: whose devices read.
    """
    graph, _, constants = nnx.split(module, nnx.Param, ...)
    standardise = chunked(module.standardise, options=UNOPTIMISED, mesh=mesh)

    def scores(params: Any, inputs: Any, key: PRNGKeyArray | None) -> Array:
        model = nnx.merge(graph, params, constants)
        if key is None:
            return jax.vmap(lambda x: one(model, x, None))(inputs)
        keys = jax.random.split(key, len(jax.tree.leaves(inputs)[0]))
        return jax.vmap(lambda x, sub: one(model, x, sub))(inputs, keys)

    return Functions(
        scores=scores,
        inputs=lambda networks: cast(standardise(measure(networks)), np.float32),
        module=lambda params: nnx.merge(graph, params, constants),
    )


def scorer(
    scores: Callable[[Any, Any, PRNGKeyArray | None], Array], mesh: Mesh | None = None
) -> Scores:
    """Returns the compiled function `(params [S, ...], inputs) -> scores [S, B]`.

    Args:
        scores: of `Functions`.
        mesh: whose devices score.
    """

    @jax.jit
    def chunk(params: Any, inputs: Any) -> Array:
        one = jax.lax.map(lambda p: scores(p, inputs, None).mean(1), params)
        return one.T

    def scored(params: Any, inputs: Any) -> np.ndarray:
        return in_chunks(lambda x: chunk(params, x), inputs, mesh=mesh).T

    return scored
