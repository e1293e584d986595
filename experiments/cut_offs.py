"""How well is accuracy predicted when poor networks are left out? One table of runs.

Networks below a cut-off are dropped before the zoo is split, as the literature of
transformer zoos reports: what is left is harder to rank. Every column is a run of its
own:

    python -m experiments.predict_accuracy transformers_digits --cut-off 0.4 --out OUT
    python -m experiments.tables --record OUT
    python -m experiments.tables --record-cut-offs transformers_digits

====== ===========================================================================
Device 2 CPU cores
Time   10 minutes a column
Numbers in `experiments/results/cut_offs_*.json`
Source Tran et al. 2024, arXiv:2410.04209, table 3 (cut-offs 0, .2, .4, .6, .8)
====== ===========================================================================
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOVED = "1e2"
"""Condition number of the matrices that move the test networks of the last column."""


def suffix(cut_off: float) -> str:
    """Returns what a run with a cut-off has behind its name: nothing for 0."""
    return f"cut_{round(100 * cut_off)}" if cut_off else ""


def summarise(preset: str, results: Path) -> dict[str, Any]:
    """Returns the record behind the table of one preset.

    Args:
        preset: of `experiments.predict_accuracy`.
        results: the folder of the experiments' results.

    Raises:
        FileNotFoundError: if there is no run of the preset without a cut-off.
    """
    stem = f"predict_accuracy_{preset}"
    runs = [json.loads((results / f"{stem}.json").read_text())]
    runs += [json.loads(p.read_text()) for p in results.glob(f"{stem}_cut_*.json")]
    runs.sort(key=lambda run: run["metrics"]["cut_off"])
    return {
        "experiment": "cut_offs",
        "preset": preset,
        "command": runs[0]["command"],
        "seeds": runs[0]["seeds"],
        "versions": runs[0]["versions"],
        "machine": runs[0]["machine"],
        "runs": [
            {
                "cut_off": run["metrics"]["cut_off"],
                "networks": run["metrics"]["networks"],
                "seconds": run["metrics"]["seconds"],
                "rows": _rows(run["metrics"]),
            }
            for run in runs
        ],
    }


def _rows(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    columns = {
        name: {**metrics[name], **metrics[name]["test"], "probes": probes}
        for name, probes in (("without_probes", False), ("with_probes", True))
    }
    return {
        name: {
            "model": entry["model"],
            "probes": entry["probes"],
            "tau": entry["kendall_tau"],
            "tau_std": entry["kendall_tau_std"],
            "moved": entry["test_scaled"][MOVED],
        }
        for name, entry in {**columns, **metrics["baselines"]}.items()
    }


def lines(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings, headings the keys."""
    runs = record["runs"]
    first = runs[0]["rows"]
    rows = []
    for name in sorted(first, key=lambda name: first[name]["probes"]):
        row = {
            "row": name,
            "model": first[name]["model"],
            "probes": "yes" if first[name]["probes"] else "no",
        }
        for run in runs:
            one = run["rows"][name]
            heading = f"{run['cut_off']:g} ({run['networks']:,})"
            row[heading] = f"{one['tau']:.3f} ± {one['tau_std']:.3f}"
        row["0, heads moved"] = f"{first[name]['moved']:.3f}"
        rows.append(row)
    return rows


def note(record: Mapping[str, Any]) -> str:
    """Returns the sentences under the table."""
    minutes = sum(run["seconds"] for run in record["runs"]) / 60
    return (
        f"`{record['command']} --cut-off X`: tau by cut-off (and networks left), "
        f"{record['seeds']} seeds; last column: the test networks moved, matrices of "
        f"condition number {float(MOVED):g}, other scales in [1, {float(MOVED):g}]. "
        f"{minutes:.0f} minutes in all on {record['machine']['cpus']} CPUs, jax "
        f"{record['versions']['jax']}.\n"
    )
