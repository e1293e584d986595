"""What does training on 1, 2, 4, 8 devices cost, and what is sent between them?

The predictor of 254,000 parameters, trained by the program of `train.fit` on devices of
the host, a process for each number of them. They share its cores: with two cores no
rate can double beyond two devices, and what is seen is what cutting a batch costs.

- `same_batch`: batches of 64 networks, cut over the devices;
- `same_per_device`: 64 networks for each device;
- `model`: eight devices as `data=4,model=2`, batches of 64; no array of this predictor
  is large enough to be cut;
- `large`: a predictor of 4 million parameters, batches of 16, whole on every device and
  cut over `model`.

In each the collectives of the compiled program are counted: in data-parallel training
one all-reduce a step, of the gradients and the loss, and nothing else; its bytes are
held against the floor, 4 bytes a parameter. `pod` is an estimate on paper for 256 chips
of TPU v5e; its method is in the record.

    python -m benchmarks.bench_mesh [--repeats 7]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import _collectives, harness
from benchmarks._predictor_254k import PARAMETERS
from benchmarks.harness import Record

QUESTION = str(__doc__).splitlines()[0]
DEVICES = (1, 2, 4, 8)
BATCH, STEPS, EXAMPLES = 64, 3, 1024
LARGE, LARGE_BATCH = 4_000_000, 16
POD_SIDE, POD_BATCHES = 16, (64, 512)


def measured(mesh: str, batch: int, repeats: int, size: int) -> Record:
    """Times the training program on the devices of this process."""
    import jax
    import numpy as np
    import optax

    from benchmarks._predictor_254k import random_networks, training
    from qejax import train
    from qejax._devices import replicated, spread
    from qejax.train._step import check_loss, init_state, make_advance

    made, data = training(size=size), random_networks(EXAMPLES)
    optimizer = optax.adam(1e-3)
    config = train.FitConfig(steps=10**6, batch_size=batch, eval_every=10**6)
    shapes = check_loss(made.loss_fn, made.params, data, batch)
    placed = train.make_mesh(mesh)
    state = init_state(made.params, optimizer, config, shapes)
    where = train.state_shardings(placed, state)
    state, data = spread(state, where), spread(data, replicated(placed))
    advance = make_advance(made.loss_fn, optimizer, config, EXAMPLES, placed)
    start = time.perf_counter()
    jitted = jax.jit(advance, donate_argnums=0, out_shardings=where)
    program = jitted.lower(state, data, np.int32(0)).compile()
    compile_seconds = time.perf_counter() - start
    seconds, until = [], 0
    for _ in range(repeats + 2):
        until += STEPS
        start = time.perf_counter()
        state = jax.block_until_ready(program(state, data, np.int32(until)))
        seconds.append((time.perf_counter() - start) / STEPS)
    assert int(state["step"]) == until, "the program stopped early"
    step = statistics.median(seconds[2:])
    leaves = jax.tree.leaves(state)
    resident: dict[Any, int] = {}
    for piece in (one for leaf in leaves for one in leaf.addressable_shards):
        resident[piece.device] = resident.get(piece.device, 0) + piece.data.nbytes
    sent = _collectives.collectives(program.as_text() or "")
    floor = 4 * made.size
    return {
        "devices": jax.device_count(),
        "mesh": mesh,
        "batch": batch,
        "parameters": made.size,
        "cut": sum("model" in str(leaf.sharding.spec) for leaf in leaves),
        "bytes_per_device": max(resident.values()),
        "compile_seconds": compile_seconds,
        "step_seconds": step,
        "repeat_seconds": seconds[2:],
        "networks_per_second": batch / step,
        "loss": float(state["window"]["loss"]) / until,
        "collectives": sent,
        "collective_count": sum(row["count"] for row in sent.values()),
        "bytes": sum(row["bytes"] for row in sent.values()),
        "floor_bytes": floor,
        "bytes_over_floor": sum(row["bytes"] for row in sent.values()) / floor,
    }


def step_costs(batch: int) -> Record:
    """Returns what the compiler says of one step on one device."""
    import jax
    import optax

    from benchmarks._predictor_254k import random_networks, training
    from qejax import train
    from qejax.train._step import check_loss, init_state, make_step

    made, data = training(precision="bfloat16"), random_networks(batch)
    optimizer = optax.adam(1e-3)
    config = train.FitConfig(steps=1, batch_size=batch, eval_every=1)
    shapes = check_loss(made.loss_fn, made.params, data, batch)
    state = init_state(made.params, optimizer, config, shapes)
    step = jax.jit(make_step(made.loss_fn, optimizer, config), donate_argnums=0)
    costs = harness.compiled_costs(step.lower(state, data).compile())
    return {**costs, "gradient_bytes": 4 * made.size, "batch": batch}


def in_process(devices: int, *arguments: str) -> Record:
    """Runs this file with so many devices; returns what it prints."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    before = os.environ.get("XLA_FLAGS", "")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_mesh", "--worker", *arguments],
        cwd=harness.ROOT,
        env={**os.environ, "XLA_FLAGS": f"{before} {flags}".strip()},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def estimated(costs: Record) -> Record:
    """Returns the estimate for a pod from the costs of one step."""
    return {
        **_collectives.pod_estimate(
            costs["flops"],
            costs["bytes_accessed"],
            costs["gradient_bytes"],
            costs["batch"],
            POD_SIDE,
        ),
        "one_chip": costs,
    }


def worker(arguments: list[str]) -> Record:
    """Measures what the arguments say, in this process."""
    if arguments[0] == "costs":
        return step_costs(int(arguments[1]))
    return measured(arguments[0], *map(int, arguments[1:]))


def run(repeats: int) -> Record:
    """Measures everything, each in a process of its own."""

    def timed(
        name: str, devices: int, mesh: str, batch: int, size: int = PARAMETERS
    ) -> Record:
        found = in_process(devices, mesh, str(batch), str(repeats), str(size))
        print(
            f"{name:16} {devices} devices, {mesh}, batch {batch}: "
            f"{found['step_seconds']:.4f} s, {found['networks_per_second']:.0f} "
            f"networks/s, {found['collectives']}, {found['bytes_over_floor']:.3f} of "
            f"the floor",
            flush=True,
        )
        return found

    data = "data=-1"
    record = {
        "same_batch": [timed("same_batch", n, data, BATCH) for n in DEVICES],
        "same_per_device": [
            timed("same_per_device", n, data, BATCH * n) for n in DEVICES
        ],
        "model": timed("model", 8, "data=4,model=2", BATCH),
        "large": [
            timed("large", 8, mesh, LARGE_BATCH, LARGE)
            for mesh in (data, "data=4,model=2")
        ],
        "pod": {
            "chip": _collectives.V5E._asdict(),
            "hop_seconds": _collectives.HOP_SECONDS,
            "method": _collectives.METHOD,
            "estimates": [
                estimated(in_process(1, "costs", str(batch))) for batch in POD_BATCHES
            ],
        },
    }
    _check(record)
    return record


def _check(record: Record) -> None:
    """Fails unless the numbers are those of one device, and what is sent is the least.

    The program trains one predictor; where several are trained in turn inside of a
    step, such as seeds, each sends its own gradients.
    """
    cut = record["same_batch"][1:] + record["same_per_device"][1:]
    for row in [*cut, record["model"]]:
        sent = {kind: one["count"] for kind, one in row["collectives"].items()}
        assert sent == {"all-reduce": 1}, row["collectives"]
        assert 1 <= row["bytes_over_floor"] < 1.001, row["bytes_over_floor"]
    for rows in (record["same_batch"], record["large"]):
        losses = [row["loss"] for row in rows]
        assert max(losses) - min(losses) < 1e-5, losses
        assert losses[0] > 1e-3, losses
    whole, parts = record["large"]
    assert parts["cut"] > whole["cut"] == 0
    assert parts["bytes_per_device"] < whole["bytes_per_device"]


def main() -> None:
    """Measures, prints and writes the JSON."""
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(worker(sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=harness.RESULTS)
    args = parser.parse_args()
    stamp = harness.stamp()
    found: dict[str, Any] = run(args.repeats)
    for one in found["pod"]["estimates"]:
        print({key: value for key, value in one.items() if key != "one_chip"})
    record = {"question": QUESTION, "stamp": stamp, "steps_a_repeat": STEPS, **found}
    harness.save("mesh", record, args.out)


if __name__ == "__main__":
    main()
