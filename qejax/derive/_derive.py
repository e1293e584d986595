"""`derive_spec`: the weight space of any function of weights and inputs."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qejax import _trees
from qejax.derive._arrays import fix_value
from qejax.derive._emit import emit
from qejax.derive._interpret import interpret
from qejax.derive._ledger import Ledger
from qejax.derive._parts import parts_of
from qejax.derive._units import Reason, fixed
from qejax.derive._value import Value
from qejax.derive._graph import Graph
from qejax.derive._routes import shifts_of
from qejax.derive._shifts import free_addends, own_marks
from qejax.spaces import WeightSpec


def traced(apply, theta, *inputs):
    with jax.enable_x64(True):
        theta = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.float64), theta)
        inputs = [jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(x), x) for x in inputs]
        return jax.make_jaxpr(apply)(theta, *inputs)


def derive(apply, theta, *inputs):
    closed = traced(apply, theta, *inputs)
    ledger = Ledger()
    leaves = {}
    given = {}
    draw = np.random.default_rng(0)
    for path, leaf in _trees.flatten(theta).items():
        axes = tuple(ledger.new_axis(n, tagged=True) for n in np.shape(leaf))
        leaves[path] = Value(axes, ledger.equations.unknown(), True, leaf=path, bias=(path, 1.0))
        x = np.asarray(leaf, np.float64)
        given[id(leaves[path])] = x * (1 + 0.1 * draw.normal(size=x.shape)) + 0.1 * draw.uniform(size=x.shape)
        ledger.note(axes)
    arguments = [*leaves.values()]
    flat = jax.tree.leaves(inputs)
    for var, x in zip(closed.jaxpr.invars[len(leaves):], flat, strict=True):
        arguments.append(Value(tuple(map(fixed, var.aval.shape))))
        given[id(arguments[-1])] = np.asarray(x)
    with jax.enable_x64(True):
        outs = interpret(ledger, closed, arguments)
        ledger.reason = Reason("output", "")
        for out in outs:
            fix_value(ledger, out)
        parts = parts_of(ledger, leaves)
        parts = parts_of(ledger, leaves)
        found = emit(ledger, parts, set())
        graph = Graph(ledger.nodes, outs, given)
        marks = {path: m for path, v in leaves.items() if (m := own_marks(ledger, path, v)) is not None}
        free = free_addends(graph, leaves, marks)
    by = {leaf.path: leaf for leaf in found.leaves}
    shifts = shifts_of(free, by, found.labels, {s.name: s.group for s in found.spaces})
    return WeightSpec(found.spaces, found.leaves, shifts), found, ledger
