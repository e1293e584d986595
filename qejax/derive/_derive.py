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
    for path, leaf in _trees.flatten(theta).items():
        axes = tuple(ledger.new_axis(n, tagged=True) for n in np.shape(leaf))
        leaves[path] = Value(axes, ledger.equations.unknown(), True, leaf=path, bias=(path, 1.0))
        ledger.note(axes)
    arguments = [*leaves.values()]
    for var in closed.jaxpr.invars[len(leaves):]:
        arguments.append(Value(tuple(map(fixed, var.aval.shape))))
    with jax.enable_x64(True):
        outs = interpret(ledger, closed, arguments)
    ledger.reason = Reason("output", "")
    for out in outs:
        fix_value(ledger, out)
    parts = parts_of(ledger, leaves)
    parts = parts_of(ledger, leaves)
    found = emit(ledger, parts, set())
    return WeightSpec(found.spaces, found.leaves), found, ledger
