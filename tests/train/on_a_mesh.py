"""A training run on so many devices of the host, in a process of its own.

`python on_a_mesh.py OUT RESULT --devices N --mesh data=-1,model=1 [--stop STEP]`: the
run of `killed_run`, 50 steps; writes losses, parameters and the collectives of the
compiled program as JSON.
"""

import argparse
import json
import os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("out", type=Path)
parser.add_argument("result", type=Path)
parser.add_argument("--devices", type=int, default=1)
parser.add_argument("--mesh", default=None)
parser.add_argument("--stop", type=int, default=0)
parser.add_argument("--stream", action="store_true")
args = parser.parse_args()
flag = f"--xla_force_host_platform_device_count={args.devices}"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"

import jax  # noqa: E402  (flags come first)
import numpy as np  # noqa: E402

from qejax import train  # noqa: E402
from tests.train import killed_run  # noqa: E402


class Stop(Exception):
    """Stands for whatever ends a process without saving."""


def stop(report: train.Progress) -> None:
    if args.stop and report.step >= args.stop:
        raise Stop


mesh = args.mesh and train.make_mesh(args.mesh)
try:
    found = killed_run.run(
        args.out,
        steps=50,
        batch_size=16,
        mesh=mesh or None,
        progress=stop,
        stream=args.stream,
    )
except Stop:
    raise SystemExit(3) from None
told = {
    "devices": len(jax.devices()),
    "losses": [row["train"]["loss"] for row in found.history[1:]],
    "params": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(found.params)],
    "over": [str(leaf.sharding.spec) for leaf in jax.tree.leaves(found.params)]
    if mesh
    else [],
    "resumed_from": found.resumed_from,
}
args.result.write_text(json.dumps(told))
