"""What do heads cost: invariants by width, a training step by kind, normal forms?

Three questions, one record:

- `width`: invariants of one attention layer of width `D`, two heads of 16 units, 8
  channels, forwards and backwards: dense products (`Q K^T`, `D * D` entries a head)
  against probed ones (`Q (K^T v)`), times and the compiler's peak memory;
- `step`: a training step on batches of 32 encoders of the Small Transformer Zoo's
  shape (two blocks, width 32, two heads), every kind of predictor as large as the
  strict one to 5 %;
- `normal_form`: settling and canonical form of 1,000 such encoders.

Writes `results/attention.json` and, with the extra `experiments`,
`results/attention.png`.

    python -m benchmarks.bench_attention
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import harness
from benchmarks.harness import Record, Subject
from qejax import models, nets, spaces
from qejax.layers import Bonds, invariants
from qejax.models import Predictor, measure_all
from qejax.spaces import Wire

QUESTION = str(__doc__).splitlines()[0]
RESULTS = Path(__file__).parent / "results"
WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096)
MAX_DENSE_WIDTH = 1024
"""Above, dense products of 8 channels and their gradients need gigabytes."""
FIRST_FIT = 512
"""Slopes are fitted from here: below, a call costs more than what grows."""

CHANNELS, PROBES, BATCH, ZOO = 8, 8, 32, 1000
KINDS: tuple[models.Quasi, ...] = ("strict", "gauge", "relative", "canonical")


def encoder() -> nets.Network:
    """The encoder of the Small Transformer Zoo, for images of 28 x 28."""
    return nets.transformer(
        32,
        2,
        2,
        64,
        image=(28, 28, 1),
        patch=4,
        activation="relu",
        affine=False,
        residual=False,
        position="sine",
        attention_bias=False,
        head_hidden=32,
    )


def width_subject(width: int, dense: bool) -> Subject:
    """Value and gradient of a sum of invariants of one attention layer."""
    spec = spaces.attention(
        "", Wire(width), Wire(width), heads=2, head_dim=16, use_bias=False
    ).spec()
    limit = 2 * width * width if dense else 1
    bonds = Bonds(spec, CHANNELS, probes=PROBES, max_dense=limit, rngs=nnx.Rngs(0))
    graph, params = nnx.split(bonds, nnx.Param)
    keys = jax.random.split(jax.random.key(0), len(spec.leaves))
    feats = {
        leaf.path: jax.random.normal(key, (*leaf.view, CHANNELS)) / width**0.5
        for key, leaf in zip(keys, spec.leaves, strict=True)
    }
    g = spaces.sample(jax.random.key(1), spec, spread=10.0)

    def total(params: Any, feats: Any) -> Any:
        found = invariants(bonds.spec, nnx.merge(graph, params)(feats))
        return sum(jnp.mean(x**2) for x in found.entries.values())

    def check(out: Any) -> Mapping[str, object]:
        moved = total(params, spaces.act_features(spec, g, feats))
        gap = float(abs(moved - out[0]) / abs(out[0]))
        assert gap < 1e-3, f"not invariant: {gap}"
        return {"gap": gap}

    name = f"{'dense' if dense else 'probed'} {width}"
    both = jax.value_and_grad(total, argnums=(0, 1))
    facts = {"width": width, "products": [p.view for p in bonds.spec.leaves]}
    return harness.compile_jitted(name, both, params, feats, check=check, facts=facts)


def step_subject(kind: models.Quasi, size: int, thetas: Any) -> Subject:
    """A training step of one kind of predictor on prepared networks."""
    net = encoder()
    config = models.PredictorConfig(statistics=(), sketches=())
    channels, config = models.sizes_for(net.spec, kind, size, config=config)
    model = Predictor(net.spec, channels, kind, config=config, rngs=nnx.Rngs(0))
    labels = jax.random.uniform(jax.random.key(1), (BATCH,))
    prepared = model.calibrate(measure_all(model, thetas), np.asarray(labels))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adam(1e-4)

    def loss_of(params: Any, prepared: Any, labels: Any) -> Any:
        scores = jax.vmap(lambda p: nnx.merge(graph, params, rest).read(p))(prepared)
        return optax.sigmoid_binary_cross_entropy(scores, labels).mean()

    def step(state: Any, prepared: Any, labels: Any) -> Any:
        params, moments, _ = state
        loss, grads = jax.value_and_grad(loss_of)(params, prepared, labels)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments, loss

    subject = harness.compile_jitted(
        kind,
        step,
        (params, optimizer.init(params), jnp.zeros(())),
        prepared,
        labels,
        feed=lambda out, args: (out, *args[1:]),
        facts={
            "parameters": sum(int(x.size) for x in jax.tree.leaves(params)),
            "channels": channels,
            "hidden": config.hidden,
            "networks": BATCH,
        },
    )

    def check() -> Mapping[str, object]:
        # Each step returns the loss before it.
        before, after = (float(call()[2]) for _ in range(2))
        assert after < before, f"the loss went {before} -> {after}"
        return {"losses": [before, after]}

    call: Callable[[], Any] = subject.call
    return dataclasses.replace(subject, check=check)


def normal_form_subjects(thetas: Any) -> list[Subject]:
    """Settling and canonical forms of a zoo."""
    spec = encoder().spec
    g = spaces.sample(jax.random.key(3), spec, spread=10.0)
    first = jax.tree.map(lambda x: x[0], thetas)
    moved = spaces.act(spec, g, first)
    statistics = jax.jit(lambda theta: spaces.canonical_statistics(spec, theta))

    def check(_: Any) -> Mapping[str, object]:
        a, b = statistics(first), statistics(moved)
        gap = float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(a)))
        assert gap < 1e-2, f"not invariant: {gap}"
        return {"gap_float32": gap}

    return [
        harness.compile_jitted(
            name,
            lambda t, form=form: jax.lax.map(lambda one: form(spec, one), t),
            thetas,
            check=check,
            facts={"networks": ZOO, "weights": spec.num_parameters},
        )
        for name, form in (
            ("settled", spaces.settled),
            ("canonical_form", spaces.canonical_form),
        )
    ]


def run(repeats: int) -> Record:
    """Times everything; competitors take turns."""
    stamp = harness.stamp()
    widths = [width_subject(width, dense=False) for width in WIDTHS]
    widths += [width_subject(w, dense=True) for w in WIDTHS if w <= MAX_DENSE_WIDTH]
    record: Record = {"question": QUESTION, "stamp": stamp}
    record["width"] = harness.time_subjects(widths, repeats=repeats, seconds=0.25)
    record["width_slopes"] = {"from_width": FIRST_FIT, **slopes(record["width"])}
    net = encoder()
    thetas = jax.jit(jax.vmap(net.init))(jax.random.split(jax.random.key(0), ZOO))
    batch = jax.tree.map(lambda x: x[:BATCH], thetas)
    config = models.PredictorConfig(statistics=(), sketches=())
    size = models.num_parameters(
        lambda: Predictor(net.spec, 8, "strict", config=config, rngs=nnx.Rngs(0))
    )
    steps = [step_subject(kind, size, batch) for kind in KINDS]
    record["step"] = harness.time_subjects(steps, repeats=repeats)
    strict = record["step"]["strict"].get("median_seconds")
    for entry in record["step"].values():
        if entry["status"] == "ok":
            entry["networks_per_second"] = BATCH / entry["median_seconds"]
            if strict is not None:
                entry["speed_of_strict"] = strict / entry["median_seconds"]
    forms = normal_form_subjects(thetas)
    record["normal_form"] = harness.time_subjects(forms, repeats=repeats, warm_up=1)
    return record


def slopes(entries: Mapping[str, Record]) -> dict[str, dict[str, float]]:
    """Powers of the width from `FIRST_FIT` up, by kind: 1 is linear, 2 quadratic.

    Of the time, of the compiler's temporary memory and of its count of operations.
    """
    found = {}
    for kind in ("probed", "dense"):
        points = [
            p
            for name, p in entries.items()
            if name.startswith(kind) and p["status"] == "ok" and p["width"] >= FIRST_FIT
        ]
        columns = {
            "time": [p["median_seconds"] for p in points],
            "memory": [p["compiled_memory"]["temp_bytes"] for p in points],
            "flops": [p["flops"] for p in points],
        }
        if len(points) < 2:
            continue
        logs = np.log([p["width"] for p in points])
        found[kind] = {
            name: float(np.polyfit(logs, np.log(values), 1)[0])
            for name, values in columns.items()
        }
    return found


def draw(record: Record, path: Path) -> None:
    """Draws time and memory of invariants against width, both logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for kind in ("dense", "probed"):
        points = [p for n, p in record["width"].items() if n.startswith(kind)]
        points = [p for p in points if p["status"] == "ok"]
        x = [p["width"] for p in points]
        axes[0].loglog(x, [1e3 * p["median_seconds"] for p in points], "o-", label=kind)
        peak = [p["compiled_memory"]["temp_bytes"] / 2**20 for p in points]
        axes[1].loglog(x, peak, "o-", label=kind)
    for panel, label in zip(
        axes, ("value and gradient, ms", "memory, MiB"), strict=True
    ):
        panel.set_xlabel("width D")
        panel.set_ylabel(label)
        panel.set_xticks(WIDTHS, [str(w) for w in WIDTHS])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Runs everything, writes the record and the plot."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    record = run(args.repeats)
    harness.save("attention", record)
    draw(record, RESULTS / "attention.png")


if __name__ == "__main__":
    main()
