"""The rows of the table as strings, for the terminal and for the README."""

from collections.abc import Mapping
from typing import Any

from experiments.teleport.config import BASELINES, RATES, ROWS

WORDS = {
    "none": "none",
    "balanced": "balanced",
    "random": "random",
    "ascent": "up the gradient's norm",
    "descent": "descent of the loss after 5 steps",
    "learned1": "learned for 1 step",
    "learned5": "learned for 5 steps",
    "learned20": "learned for 20 steps",
    "learned60": "learned for 60 steps",
    "strict60": "strictly equivariant, 60 steps",
    "constant60": "one size a layer, for 60 steps",
    "learned_descent": "learned descent, 5 steps",
}
"""What a row is."""


def suffix(config: Mapping[str, Any]) -> str:
    """Returns which optimisers and rows a run has, if not all.

    Example:
        >>> suffix({"optimisers": ["sgd"], "rows": list(ROWS)})
        'sgd'
    """
    every = (("optimisers", RATES), ("rows", ROWS))
    some = [config[name] for name, all_ in every if len(config[name]) < len(all_)]
    return "_".join(name for names in some for name in names)


def with_map(row: Mapping[str, Any]) -> float:
    """Returns the steps of a row with what its map costs counted in, as steps."""
    return row["steps"] + row["cost"]


def best_baseline(rows: Mapping[str, Any], counted: bool = False) -> str:
    """Returns the baseline that takes the fewest steps.

    Args:
        rows: of one optimiser.
        counted: whether the cost of maps is counted in.
    """
    known = [name for name in BASELINES if name in rows]
    return min(known, key=lambda n: with_map(rows[n]) if counted else rows[n]["steps"])


def lines(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings; keys are the headings."""
    found = metrics["optimisers"]
    table = []
    for name in next(iter(found.values()))["rows"]:
        line = {"weights": WORDS[name]}
        for optimiser, about in found.items():
            row = about["rows"][name]
            seeds = row["by_seed"]
            mean = sum(seeds) / len(seeds)
            sd = (sum((x - mean) ** 2 for x in seeds) / len(seeds)) ** 0.5
            line[optimiser] = f"{mean:.1f} ± {sd:.1f}"
            line[f"{optimiser}: with the map"] = f"{with_map(row):.1f}"
            line[f"{optimiser}: moved"] = f"{row['moved']:.1f}"
        table.append(line)
    return table


def note(result: Mapping[str, Any]) -> str:
    """Returns the text under the table of a recorded result."""
    metrics, machine, config = result["metrics"], result["machine"], result["config"]
    counts, found = metrics["networks"], metrics["optimisers"]
    targets = ", ".join(f"{about['target']:.3f} ({n})" for n, about in found.items())
    return (
        f"`{result['command']}`: steps to a training loss, that of `none` behind "
        f"{config['target']} steps on validation networks, {targets}; at most "
        f"{config['steps']}; mean over {counts['test']} networks, each of its own "
        f"unseen task (maps trained on {counts['train']}, selected, and every "
        f"learning rate chosen, on {counts['val']}), sd over {result['seeds']} seeds "
        f"of maps and data orders; with the map: its seconds as steps of training "
        f"added; moved: "
        f"the same networks moved along their orbits first; seed {result['seed']}, "
        f"{metrics['seconds'] / 60:.1f} minutes on {machine['cpus']} CPUs, jax "
        f"{result['versions']['jax']}.\n"
    )
