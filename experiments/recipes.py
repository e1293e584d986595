"""Which recipe? Cross-validation of the metanetwork's choices; the test split is shut.

Networks of the training and validation splits are dealt into folds; each fold is
predicted by metanetworks that were trained on the others, at the step that is best on
that fold: it compares recipes and estimates no test score. One row a recipe: mean and
standard deviation over folds. A bucket (activation) is judged by itself, then averaged.

    python -m experiments.recipes --zoo small_cnn_zoo:DIR
    python -m experiments.recipes --preset transformers_digits
    python -m experiments.tables --record runs/recipes/transformers_digits

====== ===========================================================================
Device 2 CPU cores
Time   12 minutes, most of it strict layers; 10 minutes of transformers
Numbers in `experiments/results/recipes_*.json`
====== ===========================================================================
"""

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.predict_accuracy import metanets, zoos
from experiments.predict_accuracy.buckets import TEST, TRAIN, VALIDATION, Bucket
from experiments.predict_accuracy.config import PRESETS, Config
from experiments.predict_accuracy.progress import Bars, clock
from experiments.predict_accuracy.record import Log, machine, versions, write_json


@dataclass(frozen=True)
class Recipe:
    """One way to build the metanetwork.

    Attributes:
        words: what it is.
        row: the metanetwork of `metanets` that it starts from.
        config: changed fields of the experiment's config.
        choices: changed fields of its `PredictorConfig`.
    """

    words: str
    row: str
    config: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)


_CNNS = {
    "without_probes": Recipe("the model without probes", "without_probes"),
    "no_comparisons": Recipe(
        "without comparisons to good networks",
        "without_probes",
        choices={"sketches": ()},
    ),
    "messages_16": Recipe(
        "with message passing, 16 channels", "without_probes", {"channels": 16}
    ),
    "strict": Recipe("strict layers, as many parameters as the model", "strict"),
    "with_probes": Recipe("the model with 64 probes", "with_probes"),
    "probes_128": Recipe("with 128 probes", "with_probes", {"probes": 128}),
    "probes_no_comparisons": Recipe(
        "with 64 probes, without comparisons", "with_probes", choices={"sketches": ()}
    ),
}
_TRANSFORMERS = {
    "without_probes": _CNNS["without_probes"],
    "no_comparisons": _CNNS["no_comparisons"],
    "no_knots": Recipe(
        "without thresholds between knots", "without_probes", choices={"knots": ()}
    ),
    "shorter": Recipe("trained for half the steps", "without_probes", {"steps": 450}),
    "neither": Recipe(
        "without thresholds, half the steps, without comparisons",
        "without_probes",
        {"steps": 450},
        {"knots": (), "sketches": ()},
    ),
    "messages_8": Recipe(
        "with message passing, 8 channels", "without_probes", {"channels": 8}
    ),
    "with_probes": _CNNS["with_probes"],
    "probes_no_knots": Recipe(
        "with 64 probes, without thresholds", "with_probes", choices={"knots": ()}
    ),
}

RECIPES = {"small_cnn_zoo": _CNNS, "transformers_digits": _TRANSFORMERS}
"""What was tried, by preset of `experiments.predict_accuracy` and name."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """One comparison of recipes.

    Attributes:
        preset: of `experiments.predict_accuracy`, from which recipes start.
        zoo: as there; empty for that of the preset.
        out: where it writes, by default a folder of the preset; re-running with the
            same `out` resumes.
        folds: of the cross-validation.
        seeds: metanetworks per fold.
        seed: of the folds and of the first metanetwork.
    """

    preset: Literal["small_cnn_zoo", "transformers_digits"] = "small_cnn_zoo"
    zoo: str = ""
    out: Path | None = None
    folds: int = 3
    seeds: int = 1
    seed: int = 0


def fold_of(bucket: Bucket, fold: int, folds: int, seed: int) -> Bucket:
    """Returns the bucket with one fold of its known networks as the validation split.

    The test split stays what it was and is not read.
    """
    known = np.flatnonzero(bucket.split != TEST)
    dealt = np.random.default_rng(seed).permutation(known)
    split = np.full_like(bucket.split, TRAIN)
    split[dealt[fold::folds]] = VALIDATION
    split[bucket.split == TEST] = TEST
    return dataclasses.replace(bucket, split=split, _cache={})


def metanet(recipe: Recipe, config: Config) -> metanets.Metanet:
    """Returns the metanetwork of a recipe."""
    (net,) = (net for net in metanets.metanets(config) if net.name == recipe.row)
    if not recipe.choices:
        return net
    return dataclasses.replace(
        net, build=metanets.reported(net.probes, **recipe.choices)
    )


def compare(
    buckets: Sequence[Bucket],
    config: Config,
    recipes: Mapping[str, Recipe],
    folds: int,
    bars: Bars,
) -> dict[str, Any]:
    """Returns for each recipe its `parameters` and `tau`, one per fold.

    Args:
        buckets: their test splits are not read.
        config: of the experiment; recipes change it.
        recipes: by name.
        folds: of the cross-validation.
        bars: where progress goes.
    """
    for name, recipe in recipes.items():
        changed = dataclasses.replace(config, **recipe.config)
        seconds = metanets.estimate(metanet(recipe, changed), changed)
        bars.plan.add(name, folds * len(buckets), seconds)
    found: dict[str, Any] = {}
    for fold in range(folds):
        parts: dict[int, list[Bucket]] = {}
        for name, recipe in recipes.items():
            changed = dataclasses.replace(
                config, **recipe.config, out=config.out / "ckpt" / name
            )
            net = dataclasses.replace(metanet(recipe, changed), name=name)
            # What is exact is read once for all recipes with as many probes.
            if changed.probes not in parts:
                parts[changed.probes] = [
                    fold_of(_probed(b, changed), fold, folds, config.seed)
                    for b in buckets
                ]
            trained = metanets.train_net(net, parts[changed.probes], changed, bars)
            best = [one.tau.mean(axis=0).max() for one in trained.values()]
            entry = found.setdefault(name, {"words": recipe.words, "tau": []})
            entry["probes"] = net.probes
            entry["parameters"] = next(iter(trained.values())).num_params
            entry["tau"].append(float(np.mean(best)))
    return found


def _probed(bucket: Bucket, config: Config) -> Bucket:
    """Returns the bucket read with as many probes as the config says."""
    if bucket.everything.probes == config.probes:
        return bucket
    old = bucket.everything
    new = type(old)(old.network, old.shape, old.thetas, config.probes)
    return dataclasses.replace(bucket, everything=new, _cache={})


def lines(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings, headings the keys."""
    return [
        {
            "recipe": one["words"],
            "probes": "yes" if one["probes"] else "no",
            "parameters": f"{one['parameters']:,}",
            "tau": f"{np.mean(one['tau']):.3f} ± {np.std(one['tau'], ddof=1):.3f}",
        }
        for one in result["metrics"]["recipes"].values()
    ]


def note(result: Mapping[str, Any]) -> str:
    """Returns the sentence under the table."""
    metrics = result["metrics"]
    return (
        f"`{result['command']}`: {metrics['folds']} folds of the training and "
        f"validation splits, each at its best step, mean and standard deviation over "
        f"folds, "
        f"{metrics['seconds'] / 60:.0f} minutes on {result['machine']['cpus']} CPUs, "
        f"jax {result['versions']['jax']}.\n"
    )


def main(args: Args) -> int:
    """Runs the comparison and writes `config.json` and `metrics.json` under `out`."""
    base = PRESETS[args.preset][1]
    place = args.zoo or base.zoo
    out = args.out or Path("runs/recipes", args.preset)
    config = dataclasses.replace(
        base, zoo=place, out=out, seeds=args.seeds, seed=args.seed
    )
    command = shlex.join(["python", "-m", "experiments.recipes", *sys.argv[1:]])
    log = Log(out / "log.jsonl", command)
    with Bars(console=_console()) as bars:
        zoos.plan(config, bars)
        buckets = zoos.load(config, bars)
        found = compare(buckets, config, RECIPES[args.preset], args.folds, bars)
    write_json(
        out / "config.json",
        {
            "experiment": "recipes",
            "preset": args.preset,
            "command": command,
            "config": vars(config),
            "versions": versions(),
            "machine": machine(),
        },
    )
    metrics = {"recipes": found, "folds": args.folds, "seconds": log.seconds}
    write_json(out / "metrics.json", metrics)
    print(f"{clock(log.seconds)} in all; metrics.json in {out}")
    return 0


def _console() -> Any:
    from rich.console import Console

    return Console()


if __name__ == "__main__":
    import tyro

    sys.exit(main(tyro.cli(Args, description=__doc__)))
