"""How well do the layers of `nfn` classify coordinate networks, by how many they saw?

    python -m benchmarks.peers.inr_curve --zoo DIR

DIR is a zoo of `python -m experiments.make_zoo --task inr inr_mnist`. The first `n`
training networks, no extra fits of an image, no probes, no augmentation. Settings are
those that `benchmarks.peers.inr_search` found. Run by run into
`results/peers_inr.json`, so that it can be cut off and goes on where it was; the test
networks are read once a run, at the epoch with the best validation accuracy.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from benchmarks import harness
from benchmarks.harness import Record
from benchmarks.peers import classify
from benchmarks.peers.inr_zoo import read_fits
from benchmarks.peers.nfn_stack import Layer

QUESTION = str(__doc__).splitlines()[0]
COMMAND = "python -m benchmarks.peers.inr_curve --zoo DIR"
SIZES = (1_000, 3_000, 10_000)
STEPS = 750  # of a run, as far as that is between the fewest and the most epochs
EPOCHS = (8, 30)
CHOSEN = classify.START.changed("scale", 10.0).changed("channels", 16)
"""What the search found, in 16 channels, not 24, so that a run takes minutes."""


def trial_of(size: int) -> classify.Trial:
    """The settings, with the epochs of this many training networks."""
    fewest, most = EPOCHS
    epochs = round(STEPS / math.ceil(size / CHOSEN.recipe.batch))
    return CHOSEN.changed("epochs", min(max(epochs, fewest), most))


def run(
    folder: Path, path: Path, layers: list[Layer], sizes: list[int], seeds: int
) -> Record:
    """Trains what `path` does not hold yet; returns the accuracies."""
    zoo, split = read_fits(folder)
    val, test = zoo.take(split.val), zoo.take(split.test)
    stamp = harness.stamp(code=("benchmarks/*.py",))
    counts = {"val": len(split.val), "test": len(split.test)}
    for seed in range(seeds):
        for layer in layers:
            for size in sizes:
                name = f"{layer} {size}"
                if str(seed) in harness.read_runs(path).get(name, {}):
                    continue
                print(f"training {name}, seed {seed}", flush=True)
                done = classify.fit(
                    layer,
                    zoo.take(split.train[:size]),
                    val,
                    test,
                    trial_of(size),
                    seed,
                    print,
                )
                runs = harness.read_runs(path)
                runs.setdefault(name, {})[str(seed)] = {**done, "stamp": stamp}
                _save(path, runs, counts)
    return {name: summary(records) for name, records in harness.read_runs(path).items()}


def summary(records: Mapping[str, Record]) -> Record:
    """Mean and spread over seeds; how long, and whether it was still getting better."""
    runs = list(records.values())
    test = [run["test_accuracy"] for run in runs]
    return {
        "seeds": len(runs),
        "parameters": runs[0]["parameters"],
        "epochs": runs[0]["recipe"]["epochs"],
        "steps": runs[0]["steps"],
        "train_seconds_mean": float(np.mean([run["train_seconds"] for run in runs])),
        "val_accuracy_mean": float(np.mean([max(run["val_accuracy"]) for run in runs])),
        "test_accuracy_mean": float(np.mean(test)),
        "test_accuracy_std": float(np.std(test, ddof=1)) if len(test) > 1 else None,
        "best_in_last_epoch": sum(
            run["best_epoch"] == run["recipe"]["epochs"] - 1 for run in runs
        ),
    }


def _save(path: Path, runs: Record, counts: Record) -> None:
    record = {
        "question": QUESTION,
        "command": COMMAND,
        "networks": counts,
        "summary": {name: summary(records) for name, records in runs.items()},
        "runs": runs,
    }
    harness.save(path.stem, record, path.parent)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--zoo", type=Path, required=True, help="zoo of fits")
    parser.add_argument(
        "--layers", nargs="+", choices=get_args(Layer), default=get_args(Layer)
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's")
    parser.add_argument("--out", type=Path, default=harness.RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = run(
        args.zoo, args.out / "peers_inr.json", args.layers, args.sizes, args.seeds
    )
    for name, one in found.items():
        spread = one["test_accuracy_std"] or float("nan")
        print(f"{name:10} {one['test_accuracy_mean']:.3f} ± {spread:.3f}")


if __name__ == "__main__":
    main()
