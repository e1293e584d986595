"""The rows of the table as strings, for the terminal and for the README."""

from collections.abc import Mapping
from typing import Any


def lines(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings; keys are the headings."""

    def pm(scores: Mapping[str, float], name: str) -> str:
        return f"{scores[name]:.3f} ± {scores[f'{name}_std']:.3f}"

    return [
        {
            "row": name,
            "model": row["model"],
            "parameters": f"{row['params']:,}" if row["params"] else "-",
            "tau": pm(row["test"], "kendall_tau"),
            "tau within": pm(row["test"], "tau_within"),
            "tau, unseen": pm(row["unseen"], "kendall_tau"),
            "tau within, unseen": pm(row["unseen"], "tau_within"),
        }
        for name, row in metrics["rows"].items()
    ]


def note(result: Mapping[str, Any]) -> str:
    """Returns the text under the table of a recorded result."""
    metrics, machine = result["metrics"], result["machine"]
    zoo = metrics["zoo"]
    return (
        f"`{result['command']}`: {zoo['networks']} networks of "
        f"{len(zoo['architectures'])} architectures ({zoo['train']} to train on, "
        f"{zoo['val']} to select by, {zoo['test']} in the table); within: mean over "
        f"architectures of the tau among the networks of one; unseen: other models, "
        f"trained without {' and '.join(result['config']['unseen'])} and tested on "
        f"{zoo['unseen']} networks of these; {result['seeds']} seeds from seed "
        f"{result['seed']}, {metrics['seconds'] / 60:.1f} minutes "
        f"beside the zoo on {machine['cpus']} CPUs, jax {result['versions']['jax']}.\n"
    )
