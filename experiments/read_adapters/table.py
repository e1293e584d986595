"""The rows of the table as strings, for the terminal and for the README."""

from collections.abc import Mapping
from typing import Any


def lines(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings; keys are the headings."""

    def pm(scores: Mapping[str, float], name: str, factor: float = 1.0) -> str:
        digits = 1 if factor > 1 else 3
        mean, sd = factor * scores[name], factor * scores[f"{name}_std"]
        return f"{mean:.{digits}f} ± {sd:.{digits}f}"

    table = []
    for name, row in metrics["rows"].items():
        test, moved = row["test"], row["test_moved"]
        table.append(
            {
                "row": name,
                "model": row["model"],
                "parameters": f"{row['params']:,}" if row["params"] else "-",
                "task %": pm(test, "task_accuracy", 100),
                "cross-entropy": pm(test, "cross_entropy"),
                "tau": pm(test, "kendall_tau"),
                "tau within a task": pm(test, "tau_within"),
                "task %, moved": pm(moved, "task_accuracy", 100),
                "tau, moved": pm(moved, "kendall_tau"),
                "invariance gap": f"{row['invariance_gap']:.0e}",
            }
        )
    return table


def note(result: Mapping[str, Any]) -> str:
    """Returns the text under the table of a recorded result."""
    metrics, machine = result["metrics"], result["machine"]
    zoo, condition = metrics["zoo"], result["config"]["spread"]
    return (
        f"`{result['command']}`: {zoo['adapters']} adapters of rank "
        f"{result['config']['rank']} ({zoo['train']} to train on, {zoo['val']} to "
        f"select by, {zoo['test']} in the table), {len(zoo['tasks'])} tasks (chance "
        f"{100 / len(zoo['tasks']):.1f} %); moved: a random basis of condition number "
        f"{condition:g} between the factors of every adapter, and means that no norm "
        f"sees, outputs of the adapted networks change by "
        f"{metrics['function_gap']:.0e} of their deviation; "
        f"{result['seeds']} seeds from seed {result['seed']}, "
        f"{metrics['seconds'] / 60:.1f} minutes on {machine['cpus']} CPUs, jax "
        f"{result['versions']['jax']}.\n"
    )
