"""Every exported layer and model as a pure function of a batch of its inputs.

`python -m tests.compositions RESULT [NAMES]` traces all of them under `shard_map` and
computes some, with gradients through rematerialised functions, on the devices that
there are, and writes the numbers.
"""

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.layer_specs import fast_jit, random_module
from tests.test_linen import CASES

BATCH = 8
DIFFERENTIATED = (
    "MonomialLinear",
    "QuasiEquivariant, relative",
    "InvariantPool",
    "MessagePassing",
    "SignedTransport",
    "ProbeStream",
    "Predictor, strict",
)
"""Of every family one; compiling the gradients of all takes minutes."""


RUN = (*DIFFERENTIATED, "MixedPredictor", "Gauge, gauge", "Predictor, bfloat16")
"""What is run on many devices, and exported."""


class Pure(NamedTuple):
    """One case.

    Attributes:
        fn: of the floating inputs of one network, a list, to a scalar.
        inputs: `[BATCH, ...]` each, different networks.
    """

    fn: Callable[[list[jax.Array]], jax.Array]
    inputs: list[jax.Array]


@functools.cache
def pure(name: str) -> Pure:
    """Returns a case, parameters inside of it."""
    case = CASES[name]
    module = random_module(
        lambda: case.make(*case.args, **dict(case.options), rngs=nnx.Rngs(0))
    )
    leaves, structure = jax.tree.flatten(case.inputs)
    live = [jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in leaves]
    rng = np.random.default_rng(0)

    def fn(floats: list[jax.Array]) -> jax.Array:
        rest = iter(floats)
        both = [next(rest) if own else x for x, own in zip(leaves, live, strict=True)]
        out = module(*jax.tree.unflatten(structure, both))
        return sum((jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(out)), jnp.zeros(()))

    def several(x: Any) -> jax.Array:
        # Entry by entry: what only scales is the same network to some layers.
        scale = rng.uniform(0.5, 1.5, (BATCH, *np.shape(x)))
        return jnp.asarray(scale * np.asarray(x)[None], jnp.result_type(x))

    return Pure(fn, [several(x) for x, own in zip(leaves, live, strict=True) if own])


def inputs_of(names: Iterable[str]) -> dict[str, list[jax.Array]]:
    """Returns the inputs of cases."""
    return {name: pure(name).inputs for name in names}


def of_all(inputs: dict[str, list[jax.Array]]) -> dict[str, jax.Array]:
    """Returns the values of cases, `[B]` each: one program."""
    return {name: jax.vmap(pure(name).fn)(x) for name, x in inputs.items()}


def gradients_of_some(
    inputs: dict[str, list[jax.Array]],
) -> dict[str, list[jax.Array]]:
    """Returns the gradients of `DIFFERENTIATED`, rematerialised."""
    return {
        name: jax.vmap(jax.grad(jax.checkpoint(pure(name).fn)))(inputs[name])
        for name in DIFFERENTIATED
    }


def main(path: str, *names: str) -> None:
    """Writes values and gradients, each device with its part of the batch."""
    mesh = jax.make_mesh(
        (jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    rows = jax.P("data")
    across = functools.partial(jax.shard_map, mesh=mesh, in_specs=rows, out_specs=rows)
    # What varies where is checked when it is traced; compiling all takes minutes.
    jax.eval_shape(across(of_all), inputs_of(CASES))
    run = fast_jit(across(lambda xs: (of_all(xs), gradients_of_some(xs))))
    values, gradients = found = run(inputs_of(names or RUN))
    held = {len(x.sharding.device_set) for x in jax.tree.leaves(found)}
    numbers: dict[str, Any] = {name: np.asarray(x) for name, x in values.items()} | {
        f"{name}|{number:03d}": np.asarray(x)
        for name, xs in gradients.items()
        for number, x in enumerate(xs)
    }
    numbers["devices"] = np.asarray(sorted(held))
    np.savez(path, **numbers)


if __name__ == "__main__":
    main(*sys.argv[1:])
