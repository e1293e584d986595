"""The rows of the table as strings, for the terminal and for the README."""

from collections.abc import Mapping
from typing import Any

from experiments.quantise_gauge.config import RULES

WORDS = {
    "none": "none",
    "equalised": "cross-layer equalisation",
    "absmax": "absolute maximum",
    "balanced": "balanced",
    "absorbed": "norms absorbed",
    "hadamard": "random Hadamard",
    "weights": "learned, weights alone",
    "strict": "learned, strictly equivariant",
    "descent": "descent, random inputs",
    "descent32": "descent, real inputs",
    "learned": "learned descent, random inputs",
    "learned32": "learned descent, real inputs",
}
"""What a row is."""


def best_rule(metrics: Mapping[str, Any], setting: str) -> tuple[str, float]:
    """Returns the hand-made row that is best in a setting, and its accuracy."""
    rows = {n: r["accuracy"][setting] for n, r in metrics["rows"].items() if n in RULES}
    return max(rows.items(), key=lambda item: item[1])


def recovered(metrics: Mapping[str, Any], row: str, setting: str) -> float:
    """Returns the share of what the best hand-made row loses that a row does not."""
    best = best_rule(metrics, setting)[1]
    lost = metrics["float"] - best
    gained = metrics["rows"][row]["accuracy"][setting] - best
    return gained / lost if lost > 0 else float("nan")


def settings(metrics: Mapping[str, Any]) -> list[str]:
    """Returns the names of bits and steps, such as "4/tensor"."""
    return list(next(iter(metrics["rows"].values()))["accuracy"])


def lines(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings; keys are the headings."""
    table = []
    for name, row in metrics["rows"].items():
        line = {"weights": WORDS[name]}
        for setting in settings(metrics):
            seeds = row["by_seed"][setting]
            mean = sum(seeds) / len(seeds)
            sd = (sum((x - mean) ** 2 for x in seeds) / len(seeds)) ** 0.5
            spread = f" ± {sd:.4f}" if sd > 0 else ""
            line[setting] = f"{mean:.4f}{spread}"
        setting = f"{row['moved_bits']}/tensor"
        line["moved"] = f"{row['moved']:.4f}"
        line["recovered"] = (
            "-" if name in RULES else f"{recovered(metrics, name, setting):+.0%}"
        )
        table.append(line)
    return table


def note(result: Mapping[str, Any]) -> str:
    """Returns the text under the table of a recorded result."""
    metrics, machine, config = result["metrics"], result["machine"], result["config"]
    counts, first = metrics["networks"], next(iter(metrics["rows"].values()))
    return (
        f"`{result['command']}`: accuracy on 797 test images, mean over "
        f"{counts['test']} unseen networks (maps trained on {counts['train']}, "
        f"selected on {counts['val']}), {metrics['float']:.4f} before rounding; bits "
        f"and what has one step; moved: {first['moved_bits']} bits per tensor, of the "
        f"same networks moved along their orbits; recovered: of what the best "
        f"hand-made row loses there; descent takes {config['descent']} gradients on "
        f"{config['inputs']} inputs; {result['seeds']} seeds from seed "
        f"{result['seed']}, {metrics['seconds'] / 60:.1f} minutes on "
        f"{machine['cpus']} CPUs, jax {result['versions']['jax']}.\n"
    )
