"""How fast does the default predictor train, beside the published ones, on one CPU?

One command, one process, one batch of 64 networks of the Small CNN zoo that is already
in memory. Timed is the whole training step: forward, backward and Adam update.
Competitors take turns. Before its times count, a competitor must have its published
number of parameters, give functionally equivalent networks equal answers, and lower the
loss. PyTorch gets the better of one thread and all of them, measured, since the second
can be the slower.

The default predictor has an exact part without parameters (normal form, statistics),
computed once per zoo in its data pipeline: "qejax" trains on networks so prepared, and
"qejax_prepare" is that part alone, to be added once per network and not per epoch.
"qejax" is the model of `experiments.predict_accuracy`, whose tau stands in its results;
"qejax_messages" adds message passing over the normal form.

    python -m benchmarks.bench_predictor --zoo DIR
    python -m benchmarks.bench_predictor --zoo DIR --train

The second trains the peers with their published recipe, three seeds, and writes their
Kendall taus to `results/peers_tau.json`: seed by seed, so that it can be cut off and
goes on where it was. Both need the extra `peers`; what is not installed is reported as
missing and gets no number.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import harness
from benchmarks.harness import Record, Subject
from benchmarks.peers.zoo import Split, Zoo, read_zoo, rewire, split_rows

QUESTION = str(__doc__).splitlines()[0]
BATCH = 64
CHECK_STEPS = 20
FLOAT32_GAP = 1e-4
QEJAX = {"qejax": 0, "qejax_messages": 32}
"""Channels of our predictors: none, as in `experiments.predict_accuracy`, or some."""
PEERS = ("nfn_hnp", "nfn_np", "monomial_torch")
# Positive scales that a peer claims to ignore; 1 means permutations only.
PEER_SCALES = {"nfn_hnp": 1.0, "nfn_np": 1.0, "monomial_torch": 1e4}


def peer_builder(name: str) -> tuple[Callable[[Zoo], Any], int]:
    """What makes a peer from its training networks, and its published size.

    Raises:
        ImportError: if the extra `peers` is not installed.
    """
    if name == "monomial_torch":
        from benchmarks.peers import monomial_torch

        return monomial_torch.MonomialPredictor, monomial_torch.PARAMETERS
    from benchmarks.peers import nfn_cnn

    layer: Literal["HNP", "NP"] = "HNP" if name == "nfn_hnp" else "NP"
    return (
        lambda train: nfn_cnn.NfnPredictor(train, layer),
        nfn_cnn.PARAMETERS[layer],
    )


def peer_subject(name: str, train: Zoo) -> Subject:
    """A peer's training step in PyTorch, on the first `BATCH` training networks."""
    import torch

    from benchmarks.peers import fit

    build, published = peer_builder(name)
    torch.manual_seed(0)
    model = build(train)
    step = fit.training_step(model, fit.Recipe().learning_rate)
    batch = fit.Tensors(train).batch(torch.arange(BATCH))
    threads = _best_threads(lambda: step(*batch))

    def call() -> None:
        torch.set_num_threads(threads)
        step(*batch)

    def check() -> Mapping[str, object]:
        parameters = fit.num_parameters(model)
        assert parameters == published, f"{parameters} parameters, not {published}"
        fresh = build(train)
        # Statistics per weight entry are the recipe's and no part of the layers.
        fresh.standardise = False
        gap = fit.check_invariance(fresh, train.take(slice(BATCH)), PEER_SCALES[name])
        losses = [float(step(*batch)) for _ in range(CHECK_STEPS)]
        assert losses[-1] < losses[0], f"the loss went {losses[0]} -> {losses[-1]}"
        return {"invariance_gap": gap, "losses": [losses[0], losses[-1]]}

    facts = {"parameters": fit.num_parameters(model), "threads": threads}
    return Subject(name=name, call=call, check=check, facts=facts)


def _best_threads(call: Callable[[], object]) -> int:
    """The faster of one thread and PyTorch's default, each after a warm-up call."""
    import torch

    seconds: dict[int, float] = {}
    for threads in {1, torch.get_num_threads()}:
        torch.set_num_threads(threads)
        call()
        start = time.perf_counter()
        for _ in range(3):
            call()
        seconds[threads] = time.perf_counter() - start
    return min(seconds, key=lambda threads: seconds[threads])


def qejax_subjects(name: str, train: Zoo) -> list[Subject]:
    """Our predictor: its training step, and the exact part before it.

    Constants are measured on all training networks, timed is the first `BATCH`.

    Raises:
        ImportError: if the predictor does not exist.
    """
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from qejax import models, nets

    net = nets.cnn(1, (16, 16, 16), windows=3, strides=2)
    model = models.Predictor(net.spec, QEJAX[name], network=net, rngs=nnx.Rngs(0))
    with jax.enable_x64(True):
        # What is exact is read in float64, as in the experiment; training is float32.
        thetas = wide(flax_thetas(train))
        measured = jax.block_until_ready(models.measure_all(model, thetas))
        start = time.perf_counter()
        prepared = jax.block_until_ready(model.calibrate(measured, train.labels))
        calibrate_seconds = time.perf_counter() - start
        raw = jax.tree.map(lambda x: x[:BATCH], thetas)
    inputs = jax.tree.map(lambda x: jnp.asarray(x[:BATCH], jnp.float32), prepared)
    accuracy = jnp.asarray(train.labels[:BATCH])
    graph, params, constants = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adam(1e-3)

    def loss_of(params: Any, inputs: Any, accuracy: Any, key: Any) -> Any:
        read = nnx.merge(graph, params, constants).read
        scores = jax.vmap(read)(inputs, jax.random.split(key, BATCH))
        return optax.sigmoid_binary_cross_entropy(scores, accuracy).mean()

    @jax.jit
    def step(state: Any, inputs: Any, accuracy: Any) -> Any:
        params, moments, key, _ = state
        key, used = jax.random.split(key)
        loss, grads = jax.value_and_grad(loss_of)(params, inputs, accuracy, used)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments, key, loss

    def check_step(state: Any) -> Mapping[str, object]:
        losses = [float(state[-1])]
        for _ in range(CHECK_STEPS):
            state = step(state, inputs, accuracy)
            losses.append(float(state[-1]))
        assert losses[-1] < losses[0], f"the loss went {losses[0]} -> {losses[-1]}"
        return {"losses": [losses[0], losses[-1]]}

    def check_prepare(prepared: Any) -> Mapping[str, object]:
        moved = rewire(train.take(slice(BATCH)), np.random.default_rng(0), 1e4)
        read = jax.jit(jax.vmap(model.read))
        answers = np.asarray(read(prepared))
        again = np.asarray(read(prepare(wide(flax_thetas(moved)))))
        gap = float(np.abs(again - answers).max() / answers.std())
        assert gap <= FLOAT32_GAP, f"an equivalent network moved the answer by {gap}"
        return {"invariance_gap": gap}

    prepare = jax.jit(jax.vmap(model.prepare))
    facts = {"calibrate_seconds": calibrate_seconds}
    with jax.enable_x64(True):
        exact = harness.compile_jitted(
            f"{name}_prepare", prepare, raw, check=check_prepare, facts=facts
        )
    again = {"call": _in_float64(exact.call), "check": _in_float64(exact.check)}
    return [
        harness.compile_jitted(
            name,
            step,
            (params, optimizer.init(params), jax.random.key(0), jnp.zeros(())),
            inputs,
            accuracy,
            check=check_step,
            feed=lambda out, args: (out, *args[1:]),
            facts={"parameters": sum(x.size for x in jax.tree.leaves(params))},
        ),
        dataclasses.replace(exact, **again),
    ]


def wide(thetas: Any) -> Any:
    """The weights in float64."""
    return {
        layer: {leaf: np.asarray(x, np.float64) for leaf, x in leaves.items()}
        for layer, leaves in thetas.items()
    }


def _in_float64(call: Callable[[], Any]) -> Callable[[], Any]:
    import jax

    def called() -> Any:
        with jax.enable_x64(True):
            return call()

    return called


def flax_thetas(zoo: Zoo) -> dict[str, dict[str, np.ndarray]]:
    """The networks as `qejax` reads them: `[B, ...kernel, n_in, n_out]`, by layer."""
    return {
        f"layer_{l:02d}": {
            "kernel": np.moveaxis(w, (2, 1), (-2, -1)),
            "bias": b,
        }
        for l, (w, b) in enumerate(zip(zoo.weights, zoo.biases, strict=True))
    }


def speed(zoo: Zoo, names: list[str], repeats: int) -> Record:
    """Times the competitors that are installed, in turns."""
    train = zoo.take(split_rows(len(zoo.labels)).train)
    stamp = harness.stamp()  # before the benchmark itself raises the load average
    subjects: list[Subject] = []
    missing: dict[str, Record] = {}
    for name in names:
        try:
            if name in QEJAX:
                made = qejax_subjects(name, train)
            else:
                made = [peer_subject(name, train)]
        except ImportError as error:
            # Its message holds the folders of this machine.
            reason = f"{type(error).__name__}: {error.name}"
            missing[name] = {"status": "missing", "reason": reason}
            print(f"{name}: missing: {reason}")
            continue
        subjects += made
    records = harness.time_subjects(subjects, repeats=repeats)
    for record in records.values():
        if record["status"] == "ok":
            record["networks_per_second"] = BATCH / record["median_seconds"]
            record["networks_per_second_best"] = BATCH / record["min_seconds"]
    return {
        "question": QUESTION,
        "stamp": stamp,
        "batch": BATCH,
        "peak_memory_bytes": harness.peak_memory_bytes(),
        "competitors": {**records, **missing},
        "times_faster_than": _ratios(records),
    }


def _ratios(records: Mapping[str, Record]) -> dict[str, dict[str, float]]:
    """How many times faster than each peer ours train, by medians of this run."""
    seconds = {
        name: record["median_seconds"]
        for name, record in records.items()
        if record["status"] == "ok"
    }
    return {
        own: {peer: seconds[peer] / seconds[own] for peer in PEERS if peer in seconds}
        for own in QEJAX
        if own in seconds
    }


def train_peers(
    zoo: Zoo, names: list[str], seeds: int, threads: int, path: Path
) -> Record:
    """Trains each peer with each seed, skipping those that `path` already holds.

    Several processes with different names may share `path`: it is read again before
    a run is added.
    """
    import torch

    from benchmarks.peers import fit

    torch.set_num_threads(threads)
    stamp = harness.stamp(code=("benchmarks/*.py",))
    split, recipe = split_rows(len(zoo.labels)), fit.Recipe()
    for seed in range(seeds):
        for name in names:
            if str(seed) in harness.read_runs(path).get(name, {}):
                continue
            print(f"training {name}, seed {seed}", flush=True)
            run = fit.fit(peer_builder(name)[0], zoo, split, seed, recipe)
            runs = harness.read_runs(path)
            runs.setdefault(name, {})[str(seed)] = {**run, "stamp": stamp}
            _save_runs(runs, split, path)
    return json.loads(path.read_text())


def _save_runs(runs: Record, split: Split, path: Path) -> None:
    record = {
        "question": "How well do the published predictors do on these networks?",
        "networks": dict(zip(Split._fields, map(len, split), strict=True)),
        "summary": {name: _summary(seeds) for name, seeds in runs.items()},
        "runs": runs,
    }
    harness.save(path.stem, record, path.parent)


def _summary(runs: Mapping[str, Record]) -> Record:
    """Mean and spread over seeds; a seed without a tau is counted, not averaged."""
    taus = [run["test_tau"] for run in runs.values() if run["test_tau"] is not None]
    return {
        "seeds": len(runs),
        "seeds_without_tau": len(runs) - len(taus),
        "test_tau_mean": float(np.mean(taus)) if taus else None,
        "test_tau_std": float(np.std(taus, ddof=1)) if len(taus) > 1 else None,
    }


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--zoo", type=Path, required=True, help="public zoo directory")
    parser.add_argument("--only", nargs="+", choices=(*QEJAX, *PEERS), default=None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--train", action="store_true", help="taus of the peers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's, in training")
    parser.add_argument("--out", type=Path, default=harness.RESULTS)
    args = parser.parse_args()
    zoo = read_zoo(args.zoo)
    if args.train:
        names = [name for name in args.only or PEERS if name in PEERS]
        path = args.out / "peers_tau.json"
        record = train_peers(zoo, names, args.seeds, args.threads, path)
        print(json.dumps(record["summary"], indent=1))
        return
    record = speed(zoo, args.only or [*QEJAX, *PEERS], args.repeats)
    path = harness.save("predictor_speed", record, args.out)
    for name, row in record["competitors"].items():
        rate = row.get("networks_per_second")
        print(f"{name:16} {row['status']:8}", f"{rate:9.1f} /s" if rate else "")
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
