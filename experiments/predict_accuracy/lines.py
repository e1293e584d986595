"""The rows of the final table as strings, for the terminal and for the README."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("without_probes", "with_probes")


def _pm(entry: Mapping[str, Any], name: str) -> str:
    return f"{entry[name]:.3f} ± {entry[f'{name}_std']:.3f}"


def lines(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the final table as strings, the two columns first.

    Args:
        metrics: as written to `metrics.json`.

    Returns:
        One dict per row; its keys are the headings.
    """
    entries: list[tuple[str, bool, Mapping[str, Any]]] = []
    for name in COLUMNS:
        entry = metrics[name]
        entries.append((name, name == "with_probes", {**entry, **entry["test"]}))
    for name, entry in metrics["baselines"].items():
        entries.append((name, entry["probes"], entry))
    table = []
    for name, probes, entry in sorted(entries, key=lambda item: item[1]):
        gradient = entry.get("alpha_gradient")
        table.append(
            {
                "row": name,
                "model": entry["model"],
                "probes": "yes" if probes else "no",
                "parameters": f"{entry['params']:,}" if entry["params"] else "-",
                "tau": _pm(entry, "kendall_tau"),
                "R2": _pm(entry, "r2"),
                "MAE": _pm(entry, "mae"),
                "tau U[1,10]": f"{entry['test_scaled']['1e1']:.3f}",
                "tau U[1,1e4]": f"{entry['test_scaled']['1e4']:.3f}",
                "invariance gap": f"{entry['invariance_gap']:.0e}",
                "alpha gradient": "-" if gradient is None else f"{gradient:.0e}",
            }
        )
    return table
