"""How does the predictor's training step grow with batch, width, depth and channels?

One number is varied at a time, the others stay at those of the public zoo: batches of
64 convolutional networks with three layers of 16 channels, read with the default number
of feature channels. Timed is the whole step on prepared networks: forward, backward and
Adam update; the exact part of reading (`prepare`) is done once per zoo, not per step.
Writes `results/scaling.json` and, with the extra `experiments`, `results/scaling.png`.

    python -m benchmarks.bench_scaling
"""

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import harness
from benchmarks.harness import Record, Subject
from qejax import nets
from qejax.models import Predictor, measure_all

QUESTION = str(__doc__).splitlines()[0]
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Point:
    """One configuration.

    Attributes:
        batch: networks per step.
        width: channels of every hidden layer of the networks that are read.
        depth: their number of convolutions.
        channels: feature channels of the predictor.
    """

    batch: int = 64
    width: int = 16
    depth: int = 3
    channels: int = 32


SWEEPS: dict[str, tuple[int, ...]] = {
    "batch": (16, 32, 64, 128, 256),
    "width": (8, 16, 32, 64),
    "depth": (1, 2, 3, 5, 8),
    "channels": (8, 16, 32, 64, 128),
}


def subject(name: str, point: Point) -> Subject:
    """The training step at one point, on random networks with random labels."""
    net = nets.cnn(1, (point.width,) * point.depth, windows=3, strides=1)
    keys = jax.random.split(jax.random.key(0), point.batch)
    thetas = jax.vmap(net.init)(keys)
    labels = jax.random.uniform(jax.random.key(1), (point.batch,))
    model = Predictor(net.spec, point.channels, rngs=nnx.Rngs(0))
    prepared = model.calibrate(measure_all(model, thetas), np.asarray(labels))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    # Small: the check wants the very first step to go down, at 128 channels too.
    optimizer = optax.adam(1e-4)

    def loss_of(params: Any, prepared: Any, labels: Any) -> Any:
        scores = jax.vmap(lambda p: nnx.merge(graph, params, rest).read(p))(prepared)
        return optax.sigmoid_binary_cross_entropy(scores, labels).mean()

    def step(state: Any, prepared: Any, labels: Any) -> Any:
        params, moments, _ = state
        loss, grads = jax.value_and_grad(loss_of)(params, prepared, labels)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments, loss

    def check(state: Any) -> Mapping[str, object]:
        before = float(loss_of(params, prepared, labels))
        after = float(loss_of(state[0], prepared, labels))
        assert after < before, f"the loss went {before} -> {after}"
        return {"losses": [before, after]}

    return harness.compile_jitted(
        name,
        step,
        (params, optimizer.init(params), jnp.zeros(())),
        prepared,
        labels,
        check=check,
        feed=lambda out, args: (out, *args[1:]),
        facts={
            **dataclasses.asdict(point),
            "parameters": sum(int(x.size) for x in jax.tree.leaves(params)),
            "weights": net.spec.num_parameters,
        },
    )


def run(repeats: int) -> Record:
    """Times every sweep; points of one sweep take turns."""
    stamp = harness.stamp()
    sweeps = {}
    for axis, values in SWEEPS.items():
        subjects = [
            subject(f"{axis}={value}", dataclasses.replace(Point(), **{axis: value}))
            for value in values
        ]
        sweeps[axis] = harness.time_subjects(subjects, repeats=repeats)
    return {"question": QUESTION, "stamp": stamp, "sweeps": sweeps}


def draw(record: Record, path: Path) -> None:
    """Draws step time against each axis, both logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SWEEPS), figsize=(12, 3), sharey=True)
    for (axis, values), panel in zip(SWEEPS.items(), axes, strict=True):
        points = [record["sweeps"][axis][f"{axis}={value}"] for value in values]
        right = [p["status"] == "ok" for p in points]
        x = [v for v, ok in zip(values, right, strict=True) if ok]
        y = [1e3 * p["median_seconds"] for p in points if p["status"] == "ok"]
        panel.loglog(x, y, "o-")
        panel.set_xlabel(axis)
        panel.set_xticks(x, [str(v) for v in x])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("training step, ms")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Runs the sweeps, writes the record and the plot."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    record = run(args.repeats)
    harness.save("scaling", record)
    draw(record, RESULTS / "scaling.png")


if __name__ == "__main__":
    main()
