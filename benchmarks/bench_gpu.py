"""How close does training on an accelerator come to what the device can do?

Measured on the first device, whatever it is:

- `ceilings`: flops of a large product of matrices, in each precision as the library
  multiplies (bfloat16 as float32 arrays of rounded numbers) and of bfloat16 arrays, and
  bytes a second of a large copy, counted as read and written;
- `training`: the predictor of 254,000 parameters by the program of `train.fit`, in each
  precision and batch: networks a second; flops and bytes accessed of one step by the
  compiler (`cost_analysis`), a second, as a share of the ceilings;
- `where`: one step cut short: the forward pass, forward and backward, all of it; what
  is left is the optimiser and the gathering of a batch;
- `act`: a million networks moved by group elements, in chunks that fit, against the
  copy: every weight is read and written once.

`--trace DIR` also writes a profile, to be looked at with XProf or Perfetto. Tiny sizes,
for a machine without an accelerator: `--tiny`.

    python -m benchmarks.bench_gpu [--precision float32 bfloat16] [--trace DIR]
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import harness
from benchmarks._predictor_254k import NET, Training, random_networks, training
from benchmarks.harness import Record
from qejax import layers, spaces, train
from qejax.train._step import check_loss, init_state, make_advance, make_step

QUESTION = str(__doc__).splitlines()[0]
REPEATS = 7


class Sizes(NamedTuple):
    """How much of everything.

    Attributes:
        matrix: side of the matrices of the product.
        copy: numbers that are copied, float32.
        examples: networks in memory to train on.
        batches: networks a step.
        steps: in a dispatch.
        parameters: of the predictor.
        networks: that are moved.
        chunk: of them, at once.
    """

    matrix: int = 8192
    copy: int = 2**28
    examples: int = 16384
    batches: tuple[int, ...] = (64, 512, 4096)
    steps: int = 20
    parameters: int = 254_000
    networks: int = 1_000_000
    chunk: int = 100_000


TINY = Sizes(256, 2**20, 64, (8, 16), 2, 20_000, 200, 100)


def seconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Returns the median seconds of a call, after two that do not count."""
    found = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(time.perf_counter() - start)
    return statistics.median(found[2:])


def ceilings(sizes: Sizes, precisions: list[str]) -> Record:
    """Returns what this device can do: flops by precision, and bytes a second."""
    side = sizes.matrix

    def rate(dtype: str, dot: Any) -> float:
        x = jnp.ones((side, side), dtype)
        product = jax.jit(
            functools.partial(
                jnp.matmul, precision=dot, preferred_element_type=jnp.float32
            )
        )
        return 2 * side**3 / seconds(lambda: product(x, x))

    # What the library multiplies: factors that were rounded stay float32.
    flops = {name: rate("float32", layers.PRECISIONS[name].dot) for name in precisions}
    many = jnp.ones(sizes.copy, jnp.float32)
    copy = jax.jit(lambda x: x + 1.0)
    return {
        "flops": flops,
        "flops_of_bfloat16_arrays": rate("bfloat16", "default"),
        "bytes_per_second": 2 * many.nbytes / seconds(lambda: copy(many)),
        "matrix": side,
        "copied_bytes": many.nbytes,
    }


def trained(made: Training, sizes: Sizes, batch: int, trace: Path | None) -> Record:
    """Trains by the program of `train.fit`; returns rates and what a step costs."""
    data: Any = jax.device_put(random_networks(sizes.examples))
    optimizer = optax.adam(1e-3)
    config = train.FitConfig(steps=10**6, batch_size=batch, eval_every=10**6)
    shapes = check_loss(made.loss_fn, made.params, data, batch)
    state: Any = init_state(made.params, optimizer, config, shapes)
    few = jax.tree.map(lambda x: x[:batch], data)
    step = make_step(made.loss_fn, optimizer, config)
    costs = harness.compiled_costs(jax.jit(step).lower(state, few).compile())
    advance = make_advance(made.loss_fn, optimizer, config, sizes.examples)
    start = time.perf_counter()
    program = jax.jit(advance, donate_argnums=0).lower(state, data, np.int32(0))
    program = program.compile()
    compile_seconds = time.perf_counter() - start
    held = {"state": state, "until": 0}

    def call() -> Any:
        held["until"] += sizes.steps
        held["state"] = program(held["state"], data, np.int32(held["until"]))
        return held["state"]

    one = seconds(call) / sizes.steps
    if trace is not None:
        with jax.profiler.trace(str(trace)):
            jax.block_until_ready(call())
    assert int(held["state"]["step"]) == held["until"], "a loss was not finite"
    return {
        "batch": batch,
        "parameters": made.size,
        "compile_seconds": compile_seconds,
        "step_seconds": one,
        "networks_per_second": batch / one,
        "flops_per_second": (costs["flops"] or 0.0) / one,
        "bytes_per_second": (costs["bytes_accessed"] or 0.0) / one,
        "one_step": costs,
        "where": parts(made, few, one),
    }


def parts(made: Training, batch: Any, whole: float) -> Record:
    """Returns the seconds of the forward pass, of both, and of what is left."""
    key = jax.random.key(0)

    def loss_of(params: Any, batch: Any) -> Any:
        return made.loss_fn(params, batch, key)[0]

    params = jax.device_put(made.params)
    forward, both = jax.jit(loss_of), jax.jit(jax.value_and_grad(loss_of))
    one, two = (seconds(lambda f=f: f(params, batch)) for f in (forward, both))
    return {
        "forward_seconds": one,
        "backward_seconds": two - one,
        "optimizer_and_batch_seconds": whole - two,
    }


def moved(sizes: Sizes) -> Record:
    """Moves networks by group elements, chunk by chunk."""
    keys = jax.random.split(jax.random.key(0), sizes.chunk)
    elements = jax.jit(jax.vmap(lambda key: spaces.sample(key, NET.spec, 10.0)))(keys)
    thetas = jax.jit(jax.vmap(NET.init))(keys)
    act = jax.jit(jax.vmap(functools.partial(spaces.act, NET.spec)))
    chunks = -(-sizes.networks // sizes.chunk)

    def call() -> Any:
        for _ in range(chunks - 1):
            act(elements, thetas)
        return act(elements, thetas)

    took = seconds(call)
    size = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(thetas)) * chunks
    return {
        "networks": chunks * sizes.chunk,
        "chunk": sizes.chunk,
        "weights": NET.spec.num_parameters,
        "seconds": took,
        "networks_per_second": chunks * sizes.chunk / took,
        "bytes_per_second": size / took,
    }


def shares(row: Record, limits: Record, precision: str) -> Record:
    """Returns what a training run reaches of the ceilings."""
    return {
        "share_of_flops": row["flops_per_second"] / limits["flops"][precision],
        "share_of_bytes": row["bytes_per_second"] / limits["bytes_per_second"],
    }


def main() -> None:
    """Measures, prints and writes the JSON."""
    parser = argparse.ArgumentParser(description=QUESTION)
    known = ("float32", "bfloat16")
    parser.add_argument("--precision", nargs="+", choices=known, default=list(known))
    parser.add_argument("--tiny", action="store_true", help="to see that it works")
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--out", type=Path, default=harness.RESULTS)
    args = parser.parse_args()
    sizes, stamp = TINY if args.tiny else Sizes(), harness.stamp()
    print(stamp["device"])
    limits = ceilings(sizes, args.precision)
    print(limits, flush=True)
    rows: dict[str, list[Record]] = {}
    for name in args.precision:
        made = training(size=sizes.parameters, precision=name)
        for batch in sizes.batches:
            row = trained(made, sizes, batch, args.trace)
            row |= shares(row, limits, name)
            rows.setdefault(name, []).append(row)
            print(
                f"{name}, batch {batch}: {row['networks_per_second']:.0f} networks/s, "
                f"{row['share_of_flops']:.1%} of flops, {row['share_of_bytes']:.1%} of "
                f"bytes, {row['where']}",
                flush=True,
            )
    found = moved(sizes)
    found["share_of_copy"] = found["bytes_per_second"] / limits["bytes_per_second"]
    print(found)
    record = {"question": QUESTION, "stamp": stamp, "sizes": sizes._asdict()}
    record |= {"ceilings": limits, "training": rows, "act": found}
    harness.save("gpu", record, args.out)


if __name__ == "__main__":
    main()
