"""With which settings do HNP layers of `nfn` read classes best?

One setting after the other: its values are tried in order until one does no better, and
the best stays. Trained on the first 3,000 training networks with one seed, judged by
the best epoch on the next 1,000 of them; validation and test networks are not read.

    python -m benchmarks.peers.inr_search --zoo DIR

DIR is a zoo of `python -m experiments.make_zoo --task inr inr_mnist`. What was tried
is written to `results/peers_inr_search.json`, trial by trial, so that it can be cut off
and goes on where it was.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import harness
from benchmarks.peers import classify
from benchmarks.peers.inr_zoo import read_fits

QUESTION = str(__doc__).splitlines()[0]
TRAINING, JUDGED = 3_000, 1_000
SEED = 100  # none of those of the results
STAGES: dict[str, tuple[object, ...]] = {
    "learning_rate": (3e-4, 1e-4),
    "waves": (0,),
    "scale": (10.0,),
    "dropout": (0.0,),
}
"""What is tried beside the settings so far."""


def search(
    score_of: Callable[[classify.Trial], float],
) -> tuple[classify.Trial, float]:
    """The best trial that was met, and its score."""
    best = classify.START
    score = score_of(best)
    for name, values in STAGES.items():
        for value in values:
            trial = best.changed(name, value)
            found = score_of(trial)
            if found <= score:
                break
            best, score = trial, found
    return best, score


def run(folder: Path, path: Path) -> None:
    """Searches, and writes what was met to `path`."""
    zoo, split = read_fits(folder)
    training = zoo.take(split.train[:TRAINING])
    judged = zoo.take(split.train[TRAINING : TRAINING + JUDGED])
    stamp = harness.stamp(code=("benchmarks/*.py",))

    def score_of(trial: classify.Trial) -> float:
        runs = harness.read_runs(path)
        name = json.dumps(asdict(trial), sort_keys=True)
        if name not in runs:
            print(name, flush=True)
            runs[name] = classify.fit("HNP", training, judged, None, trial, SEED, print)
            _save(path, runs, stamp)
        return max(runs[name]["val_accuracy"])

    best, score = search(score_of)
    print(f"{score:.4f} with {asdict(best)}", flush=True)


def _save(path: Path, runs: harness.Record, stamp: harness.Record) -> None:
    record = {
        "question": QUESTION,
        "networks": {"train": TRAINING, "judged": JUDGED},
        "stamp": stamp,
        "runs": runs,
    }
    harness.save(path.stem, record, path.parent)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--zoo", type=Path, required=True, help="zoo of fits")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's")
    parser.add_argument("--out", type=Path, default=harness.RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run(args.zoo, args.out / "peers_inr_search.json")


if __name__ == "__main__":
    main()
