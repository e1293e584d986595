"""The rows of the table as strings, for the terminal and for the README."""

from collections.abc import Mapping
from typing import Any

COLUMNS = (
    ("accuracy %", "test", False),
    ("moved %", "test_moved", False),
    ("with probes %", "test", True),
    ("with probes, moved %", "test_moved", True),
)
"""Headings, what is under them, and whether the networks are run for it."""


def lines(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows as strings, headings the keys; rows with probes come last.

    Accuracies of rows that run the networks have columns of their own.
    """

    def percent(scores: Mapping[str, float]) -> str:
        return f"{100 * scores['accuracy']:.1f} ± {100 * scores['accuracy_std']:.1f}"

    ordered = sorted(metrics["rows"].items(), key=lambda item: item[1]["probes"])
    return [
        {
            "row": name,
            "model": row["model"],
            "parameters": f"{row['params']:,}",
            **{
                heading: percent(row[part]) if row["probes"] == probes else "-"
                for heading, part, probes in COLUMNS
            },
            "predictions changed": str(row["changed"]),
            "invariance gap": f"{row['invariance_gap']:.0e}",
        }
        for name, row in ordered
    ]


def note(result: Mapping[str, Any]) -> str:
    """Returns the text under the table of a recorded result."""
    metrics, machine = result["metrics"], result["machine"]
    zoo = metrics["zoo"]
    return (
        f"`{result['command']}`: {zoo['train']:,} networks of "
        f"{zoo['parameters']:,} weights to train on ({zoo['copies']} fit an image), "
        f"{zoo['val']:,} to select by, {zoo['test']:,} in the table; moved: random "
        f"signs, half periods and order, values change by "
        f"{metrics['function_gap']:.0e} of their deviation; {result['seeds']} seeds "
        f"from seed {result['seed']}, {metrics['seconds'] / 60:.1f} minutes on "
        f"{machine['cpus']} CPUs, jax {result['versions']['jax']}.\n"
    )
