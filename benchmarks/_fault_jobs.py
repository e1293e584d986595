"""What the faults are done to: jobs that train, make or import a zoo, or save.

    python -m benchmarks._fault_jobs train OUT [--save-seconds S] [--pause S]
    python -m benchmarks._fault_jobs generate OUT
    python -m benchmarks._fault_jobs save OUT --seed N

Training tells every dispatch as `step N`, then, as one line of JSON, the step that it
went on from and digests of all its numbers. The import is the command line's own.
"""

import argparse
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STEPS, EVAL_EVERY, BATCH, EXAMPLES = 400, 20, 64, 512
WIDTHS = (64, 512, 384, 1)
"""230,000 parameters: a checkpoint is 5 MB, so that a kill can hit its writing."""
NETWORKS, CHUNK = 64, 8


def digest(arrays: Any) -> str:
    """Returns the SHA-256 of the bits of arrays, their shapes and dtypes."""
    total = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        total.update(f"{array.shape} {array.dtype}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def log_rows(out: Path) -> list[Any]:
    """Returns the rows of a run's log but for the wall clock."""
    lines = (out / "log.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


def train(
    out: Path,
    *,
    save_seconds: float = 0.0,
    tell: Callable[[int], None] = lambda step: None,
    mesh: Any = None,
) -> dict[str, Any]:
    """Trains an MLP on made-up examples; the same run whenever and however often."""
    import jax
    import jax.numpy as jnp
    import optax

    from qejax import train

    draw = np.random.default_rng(0)
    x = draw.normal(size=(EXAMPLES, WIDTHS[0])).astype(np.float32)
    data = {"x": x, "y": np.sin(x @ draw.normal(size=WIDTHS[0])).astype(np.float32)}
    params = {
        f"layer_{number:02d}": {
            "kernel": (draw.normal(size=shape) / shape[0] ** 0.5).astype(np.float32),
            "bias": np.zeros(shape[1], np.float32),
        }
        for number, shape in enumerate(itertools.pairwise(WIDTHS))
    }

    def loss_fn(params: Any, batch: Any, key: Any) -> Any:
        hidden = batch["x"] + 0.01 * jax.random.normal(key, batch["x"].shape)
        for name in sorted(params)[:-1]:
            layer = params[name]
            hidden = jax.nn.tanh(hidden @ layer["kernel"] + layer["bias"][None])
        last = params[sorted(params)[-1]]
        error = (hidden @ last["kernel"])[:, 0] + last["bias"] - batch["y"]
        return jnp.mean(error**2), {}

    key = jax.random.key(0)
    loss_of = jax.jit(lambda params: loss_fn(params, data, key)[0])
    found = train.fit(
        loss_fn,
        params,
        data,
        train.FitConfig(
            steps=STEPS,
            batch_size=BATCH,
            eval_every=EVAL_EVERY,
            seed=3,
            select="loss",
            mode="min",
            ema=0.9,
        ),
        optimizer=optax.adam(1e-3),
        evaluate=lambda params: {"loss": float(loss_of(params))},
        out=out,
        progress=lambda report: tell(report.step),
        save_seconds=save_seconds,
        mesh=mesh,
    )
    leaves = jax.tree.leaves((found.params, found.last_params))
    return {
        "step": found.step,
        "resumed_from": found.resumed_from,
        "params": digest(leaves),
        "best": [found.best_step, found.best_metrics],
        "log": log_rows(out) if train.is_first() else [],
    }


def generate(out: Path) -> None:
    """Makes a small zoo, chunk by chunk."""
    from benchmarks.bench_import import digits
    from qejax import nets, zoo

    config = zoo.ZooConfig(
        buckets={"relu": nets.cnn(1, (8, 8), 3, 2).config},
        count=NETWORKS,
        steps=(20, 60),
        batch=16,
        chunk=CHUNK,
    )
    zoo.generate(
        config,
        digits(),
        out,
        progress=lambda report: print(f"networks {report.networks}", flush=True),
    )


def network() -> Any:
    """Returns the architecture of which the saved predictor is one."""
    from qejax import nets

    return nets.mlp((64, 32, 10))


def save(out: Path, seed: int) -> None:
    """Saves a predictor over the one that is there, and tells how long it took."""
    from flax import nnx

    from qejax import models

    net = network()
    config = models.PredictorConfig(depth=2, embed=64, hidden=512)
    model = models.Predictor(
        net.spec, 64, network=net, config=config, rngs=nnx.Rngs(seed)
    )
    print("saving", flush=True)
    begin = time.perf_counter()
    models.save(model, out, overwrite=True)
    print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


def main() -> int:
    """Does one job; what a user would see of an error goes to standard error."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("job", choices=("train", "generate", "save"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--save-seconds", type=float, default=0.0)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", action="store_true", help="one of many")
    args = parser.parse_args()
    if args.job == "generate":
        generate(args.out)
        return 0
    if args.job == "save":
        save(args.out, args.seed)
        return 0
    mesh = None
    if args.processes:
        from qejax import train as training

        print(training.start_processes(heartbeat_seconds=10), flush=True)
        mesh = training.make_mesh("data=-1")

    def tell(step: int) -> None:
        print(f"step {step}", flush=True)
        time.sleep(args.pause)

    told = train(args.out, save_seconds=args.save_seconds, tell=tell, mesh=mesh)
    print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
