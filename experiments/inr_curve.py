r"""What signals show, read from weights, by how many networks were learned from.

One table of several runs of one preset, next to `nfn` on the same networks:

    python -m experiments.classify_inr mnist
    python -m experiments.classify_inr mnist --rows signed --out OUT \
        --networks 3000 --steps 800
    python -m experiments.classify_inr mnist --rows signed --out OUT \
        --networks 1000 --steps 400
    python -m benchmarks.peers.inr_curve --zoo runs/make_zoo/inr_mnist/zoo
    python -m experiments.tables --record OUT
    python -m experiments.tables

====== ===========================================================================
Device 2 CPU cores
Time   an hour for our rows, as much for those of `nfn`
Numbers in `experiments/results/classify_inr_*.json`, `benchmarks/results`
Source Layers NP and HNP of Zhou et al. 2023, arXiv:2302.14040, package `nfn` 0.1.2
====== ===========================================================================
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent.parent / "benchmarks" / "results" / "peers_inr.json"

LAYERS = {"NP": "`nfn` 0.1.2, NP", "HNP": "`nfn` 0.1.2, HNP"}
"""Of `nfn`, in words."""


def suffix(networks: int) -> str:
    """Returns what a run on some networks has behind its name: nothing for all."""
    return f"networks_{networks}" if networks else ""


def runs(preset: str, results: Path, peers: Path = PEERS) -> dict[str, Any]:
    """Returns the runs of one preset in the order of their networks, and the peers.

    Args:
        preset: of `experiments.classify_inr`.
        results: the folder of the experiments' results.
        peers: the result of the benchmark of `nfn`.

    Raises:
        FileNotFoundError: if there is no run of the preset on all networks, or of the
            peers.
    """
    stem = f"classify_inr_{preset}"
    found = [json.loads(p.read_text()) for p in results.glob(f"{stem}_networks_*.json")]
    found.append(json.loads((results / f"{stem}.json").read_text()))
    found.sort(key=lambda run: run["metrics"]["zoo"]["train"])
    return {
        "experiment": "inr_curve",
        "runs": found,
        "peers": json.loads(peers.read_text()),
    }


def lines(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings, headings the keys."""
    sizes = [run["metrics"]["zoo"]["train"] for run in result["runs"]]
    # Rows that every run has, none of which runs the networks.
    names = [
        name
        for name, row in result["runs"][0]["metrics"]["rows"].items()
        if not row["probes"]
        and all(name in run["metrics"]["rows"] for run in result["runs"])
    ]
    ours = [
        {
            "model": f"`qejax`, {name}",
            "parameters": f"{result['runs'][0]['metrics']['rows'][name]['params']:,}",
            **{
                f"{size:,}": _percent(
                    run["metrics"]["rows"][name]["test"]["accuracy"],
                    run["metrics"]["rows"][name]["test"]["accuracy_std"],
                )
                for size, run in zip(sizes, result["runs"], strict=True)
            },
        }
        for name in names
    ]
    summary = result["peers"]["summary"]
    theirs = [
        {
            "model": words,
            "parameters": f"{summary[f'{name} {sizes[0]}']['parameters']:,}",
            **{
                f"{size:,}": _percent(
                    summary[f"{name} {size}"]["test_accuracy_mean"],
                    summary[f"{name} {size}"]["test_accuracy_std"],
                )
                for size in sizes
            },
        }
        for name, words in LAYERS.items()
    ]
    return ours + theirs


def note(result: Mapping[str, Any]) -> str:
    """Returns the sentences under the table."""
    last = result["runs"][-1]
    zoo, summary = last["metrics"]["zoo"], result["peers"]["summary"]
    steps = last["config"]["steps"]
    most = f"{zoo['train']}"
    fewer = [
        f"`--networks {run['metrics']['zoo']['train']} "
        f"--steps {run['config']['steps']}`"
        for run in result["runs"][:-1]
    ]
    rounds = {name: summary[f"{name} {most}"]["epochs"] for name in LAYERS}
    largest = [summary[f"{name} {most}"] for name in LAYERS]
    late = [f"{one['best_in_last_epoch']} of {one['seeds']}" for one in largest]
    return (
        f"`{last['command']}`, smaller ones with {' and '.join(fewer)}: accuracy in "
        f"% on {zoo['test']:,} test networks by networks to learn from, weights alone, "
        f"no probes, one fit an image; {last['seeds']} seeds. `qejax`: {steps:,} steps "
        f"of {last['config']['batch']} networks at {zoo['train']:,} "
        f"({steps * last['config']['batch'] / zoo['train']:.0f} epochs). `nfn`: "
        f"`{result['peers']['command']}`, "
        f"{' and '.join(f'{n} epochs ({name})' for name, n in rounds.items())} at "
        f"{zoo['train']:,}, best in the last one for "
        f"{' and '.join(late)} seeds; as published it has 512 channels and 200,000 "
        f"steps, here what an hour on one core allows.\n"
    )


def _percent(mean: float, sd: float) -> str:
    return f"{100 * mean:.1f} ± {100 * sd:.1f}"
