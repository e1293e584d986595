"""How well is accuracy predicted when poor networks are left out? One table of runs.

Networks below a cut-off are dropped before the zoo is split, as the literature of
transformer zoos reports: what is left is harder to rank. Every column is a run of its
own:

    python -m experiments.predict_accuracy transformers_digits --cut-off 0.4 --out OUT
    python -m experiments.tables --record OUT
    python -m experiments.tables

====== ===========================================================================
Device 2 CPU cores
Time   10 minutes a column
Numbers in `experiments/results/predict_accuracy_*.json`
Source Cut-offs 0, .2, .4, .6 and .8 of Tran et al. 2024, arXiv:2410.04209
====== ===========================================================================
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.predict_accuracy.lines import plus_minus, rows

MOVED = "1e2"
"""Condition number of the matrices that move the test networks of the last column."""


def suffix(cut_off: float) -> str:
    """Returns what a run with a cut-off has behind its name: nothing for 0."""
    return f"cut_{round(100 * cut_off)}" if cut_off else ""


def runs(preset: str, results: Path) -> dict[str, Any]:
    """Returns the runs of one preset in the order of their cut-offs.

    Args:
        preset: of `experiments.predict_accuracy`.
        results: the folder of the experiments' results.

    Raises:
        FileNotFoundError: if there is no run of the preset without a cut-off.
    """
    stem = f"predict_accuracy_{preset}"
    found = [json.loads((results / f"{stem}.json").read_text())]
    found += [json.loads(p.read_text()) for p in results.glob(f"{stem}_cut_*.json")]
    found.sort(key=lambda run: run["metrics"]["cut_off"])
    return {"experiment": "cut_offs", "runs": found}


def lines(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings, headings the keys."""
    measured = [run["metrics"] for run in result["runs"]]
    columns = {f"{m['cut_off']:g} ({m['networks']:,})": rows(m) for m in measured}
    return [
        {
            "row": name,
            "model": entry["model"],
            "probes": "yes" if entry["probes"] else "no",
            **{head: plus_minus(c[name], "kendall_tau") for head, c in columns.items()},
            "0, heads moved": f"{entry['test_scaled'][MOVED]:.3f}",
        }
        for name, entry in rows(measured[0]).items()
    ]


def note(result: Mapping[str, Any]) -> str:
    """Returns the sentences under the table."""
    first = result["runs"][0]
    minutes = sum(run["metrics"]["seconds"] for run in result["runs"]) / 60
    return (
        f"`{first['command']} --cut-off X`: tau by cut-off (and networks left), "
        f"{first['seeds']} seeds; last column: the test networks moved, matrices of "
        f"condition number {float(MOVED):g}, other scales in [1, {float(MOVED):g}]. "
        f"{minutes:.0f} minutes in all on {first['machine']['cpus']} CPUs, jax "
        f"{first['versions']['jax']}.\n"
    )
