"""Does training wait for its input when the zoo is read from disk?

A predictor of 254,000 parameters (strict layers on raw weights) is trained on batches
of 64 networks, as in the prediction experiment, three ways in turns, window by window:

- `stream`: batches of `zoo.stream`, read, decoded and put on the device ahead of time;
- `bare`: the same without reading ahead, to see what a batch costs to read;
- `memory`: one batch that is on the device already; the floor.

Input time is the time that the host spends in `next`, while the device may be busy. The
first batches of a window are not counted, so that what was read ahead before it began
does not count as fast.

`python -m benchmarks.bench_stream [--zoo DIR] [--work DIR]`
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import harness
from benchmarks.bench_import import imported, public_zoo
from qejax import models, zoo

BATCH, PARAMETERS = 64, 254_000
WINDOW, WARM_UP, REPEATS = 20, 4, 5


def take(batch: zoo.Batch) -> dict[str, Any]:
    """Returns what a step reads."""
    return {"theta": batch.thetas, "label": batch.labels["test_accuracy"]}


def training(spec: Any) -> tuple[Any, Callable[..., Any], int]:
    """Returns parameters and optimiser, a jitted step, and the number of parameters."""
    plain = models.PredictorConfig(statistics=(), sketches=())
    channels, config = models.sizes_for(spec, "strict", PARAMETERS, config=plain)

    def build(key: Any) -> models.Predictor:
        rngs = nnx.Rngs(key)
        return models.Predictor(spec, channels, "strict", config=config, rngs=rngs)

    graph, params, rest = nnx.split(build(0), nnx.Param, ...)
    optimizer = optax.adam(1e-3)
    params = nnx.to_pure_dict(params)

    def loss(params: Any, batch: Any) -> jax.Array:
        module = nnx.merge(graph, params, rest)
        score = jax.vmap(module)(batch["theta"])
        return jnp.mean((jax.nn.sigmoid(score) - batch["label"]) ** 2)

    @jax.jit
    def step(state: Any, batch: Any) -> Any:
        params, opt = state
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, opt = optimizer.update(grads, opt, params)
        return (optax.apply_updates(params, updates), opt), value

    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return (params, optimizer.init(params)), step, count


def window(state: Any, step: Callable[..., Any], batches: Iterator[Any]) -> Any:
    """Trains some steps; returns the state, seconds a step, and seconds in `next`."""
    waited, start = 0.0, time.perf_counter()
    for number in range(WARM_UP + WINDOW):
        if number == WARM_UP:
            jax.block_until_ready(state)
            waited, start = 0.0, time.perf_counter()
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        state, value = step(state, batch)
        # One step is under way while the next batch is taken, never more.
        jax.block_until_ready(value)
    return state, (time.perf_counter() - start) / WINDOW, waited / WINDOW


def measure(root: Path) -> harness.Record:
    """Times the three ways in turns."""
    network = zoo.list_prepared(root).listings["relu"].network
    state, step, count = training(network.spec)

    def opened(**options: Any) -> Any:
        return zoo.stream(
            root,
            "train",
            BATCH,
            seed=0,
            epochs=None,
            take=take,
            normal=False,
            **options,
        )

    held = jax.device_put(next(opened()))
    ways: dict[str, Iterator[Any]] = {
        "stream": opened(device=jax.devices()[0]),
        "bare": opened(ahead=0),
        "memory": iter(lambda: held, None),
    }
    # The batches of a stream are those of memory: the answer is right.
    want = next(zoo.batches(zoo.read(root, verify=False), "train", BATCH, seed=0))
    got = jax.device_get(next(opened(device=jax.devices()[0])))
    assert np.array_equal(
        zoo.to_vectors(network.spec, got["theta"]),
        zoo.to_vectors(network.spec, want.thetas),
    )
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, batches in ways.items():
            state, seconds, waited = window(state, step, batches)
            found[name].append((seconds, waited))
    times = {
        name: {
            "step_seconds": statistics.median(one for one, _ in rows),
            "input_seconds": statistics.median(two for _, two in rows),
            "all": rows,
        }
        for name, rows in found.items()
    }
    whole = times["stream"]
    return {
        "parameters": count,
        "batch": BATCH,
        "input_share": whole["input_seconds"] / whole["step_seconds"],
        "over_memory": whole["step_seconds"] / times["memory"]["step_seconds"],
        "networks_per_second": BATCH / whole["step_seconds"],
        "networks_read_per_second": BATCH / times["bare"]["input_seconds"],
        "times": times,
    }


def main() -> None:
    """Measures, prints and writes the JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--networks", type=int, default=4000)
    parser.add_argument("--work", type=Path, default=Path("runs/bench_stream"))
    args = parser.parse_args()
    root = args.zoo or args.work / "zoo"
    if not (root / "manifest.json").exists():
        args.work.mkdir(parents=True, exist_ok=True)
        imported(public_zoo(args.work, args.networks)[0], root, 256)
    found = measure(root)
    print({k: f"{v:.4g}" for k, v in found.items() if isinstance(v, float)})
    harness.save("stream", {"stamp": harness.stamp(), **found})


if __name__ == "__main__":
    main()
