"""A training run on so many devices of the host, in a process of its own.

`python -m tests.train.on_a_mesh OUT RESULT --devices N --mesh data=-1,model=1 [--stop
STEP] [--fail STEP] [--raise-signal STEP] [--pause SECONDS] [--predictor]`: the run of
`killed_run`, 50 steps, or that of `predictor_run`; writes losses, parameters and where
they lie as JSON. One of many processes, if the environment says so. JAX is imported
late: the number of devices comes first. `model` cuts arrays of any size here.
"""

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

STOPPED = 3
"""The exit status of a run that ended at `--stop` without saving."""


class Stop(Exception):
    """Stands for whatever ends a process without saving."""


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Trains, and returns what is told of the run."""
    import jax

    from qejax import train
    from qejax._devices import fetch
    from qejax.train import _mesh
    from tests.train import killed_run, predictor_run

    _mesh.SMALLEST = 0
    print(train.start_processes(args.heartbeat), flush=True)

    def stop(report: train.Progress) -> None:
        print(f"step {report.step}", flush=True)
        if args.stop and report.step >= args.stop:
            raise Stop
        last = jax.process_index() == jax.process_count() - 1
        if args.fail and report.step >= args.fail and last:
            raise ArithmeticError("of this process alone")
        if args.raise_signal and report.step >= args.raise_signal and last:
            args.raise_signal = 0
            signal.raise_signal(signal.SIGTERM)

    mesh = args.mesh and train.make_mesh(args.mesh)
    if args.predictor:
        found = predictor_run.run(mesh or None)
    else:
        found = killed_run.run(
            args.out,
            steps=50,
            batch_size=16,
            mesh=mesh or None,
            progress=stop,
            stream=args.stream,
            pause=args.pause,
        )
    leaves = jax.tree.leaves(found.params)
    return {
        "devices": len(jax.devices()),
        "losses": [row["train"]["loss"] for row in found.history[1:]],
        "params": [fetch(leaf).tolist() for leaf in leaves],
        "over": [str(leaf.sharding.spec) for leaf in leaves] if mesh else [],
        "resumed_from": found.resumed_from,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--mesh", default=None)
    parser.add_argument("--stop", type=int, default=0)
    parser.add_argument("--fail", type=int, default=0)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--predictor", action="store_true")
    parser.add_argument("--raise-signal", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--heartbeat", type=int, default=100)
    options = parser.parse_args()
    flag = f"--xla_force_host_platform_device_count={options.devices}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    try:
        told = main(options)
    except Stop:
        raise SystemExit(STOPPED) from None
    options.result.write_text(json.dumps(told))
