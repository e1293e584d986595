"""The rows of the final table as strings, for the terminal and for the README."""

from collections.abc import Mapping
from typing import Any

COLUMNS = {"without_probes": False, "with_probes": True}
"""The two columns of the model, and whether it reads outputs on probes."""


def plus_minus(entry: Mapping[str, Any], name: str) -> str:
    """Returns mean and standard deviation over seeds of one number of a row."""
    return f"{entry[name]:.3f} ± {entry[f'{name}_std']:.3f}"


def rows(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns what was measured by row, rows without probes first.

    Args:
        metrics: as written to `metrics.json`.
    """
    found = {
        name: {**metrics[name], **metrics[name]["test"], "probes": probes}
        for name, probes in COLUMNS.items()
    } | metrics["baselines"]
    return dict(sorted(found.items(), key=lambda item: item[1]["probes"]))


def lines(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the final table as strings, the two columns first.

    Args:
        metrics: as written to `metrics.json`.

    Returns:
        One dict per row; its keys are the headings.
    """
    table = []
    for name, entry in rows(metrics).items():
        gradient = entry.get("alpha_gradient")
        table.append(
            {
                "row": name,
                "model": entry["model"],
                "probes": "yes" if entry["probes"] else "no",
                "parameters": f"{entry['params']:,}" if entry["params"] else "-",
                "tau": plus_minus(entry, "kendall_tau"),
                "R2": plus_minus(entry, "r2"),
                "MAE": plus_minus(entry, "mae"),
                "tau U[1,10]": f"{entry['test_scaled']['1e1']:.3f}",
                "tau U[1,1e4]": f"{entry['test_scaled']['1e4']:.3f}",
                "invariance gap": f"{entry['invariance_gap']:.0e}",
                "alpha gradient": "-" if gradient is None else f"{gradient:.0e}",
            }
        )
    return table
