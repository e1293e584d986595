"""The rows of the table as strings, for the terminal and for the README."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WAYS = ("none", "permutations", "weights", "activations", "chosen")
"""To bring the second network to the first one."""

SHORT: dict[str, str] = {
    "permutation": "perm",
    "positive_scale": "scale",
    "general_linear": "GL",
}


def lines(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings; keys are the headings."""
    digits = metrics["task"] == "digits"
    return [
        {"network": name, **(_accuracies(row) if digits else _barriers(row))}
        for name, row in metrics["rows"].items()
    ]


def _short(groups: list[str]) -> list[str]:
    return [SHORT.get(name, name) for name in groups]


def _barriers(row: Mapping[str, Any]) -> dict[str, str]:
    trained = row["trained"]
    told = {
        "groups": ", ".join(_short(row["groups"])) or "-",
        "loss": f"{trained['none']['apart']['ends_error']:.2g}",
    }
    for way in WAYS:
        told[way] = _pm(trained, way, "apart", "test_barrier")
    for way in WAYS[:3]:
        told[f"moved: {way}"] = _pm(trained, way, "moved", "test_barrier")
    return told | _milliseconds(row)


def _accuracies(row: Mapping[str, Any]) -> dict[str, str]:
    trained = row["trained"]
    ends = [trained["none"]["apart"][f"{name}_error"] for name in ("ends", "other")]
    told = {"networks": f"{100 * (1 - sum(ends) / 2):.1f}"}
    for case, ways in (("apart", WAYS), ("moved", WAYS[:3])):
        before = "" if case == "apart" else "moved: "
        for way in ways:
            one = trained.get(way, {}).get(case)
            told[f"{before}{way}"] = (
                f"{100 * (1 - one['average_error']):.1f} ± "
                f"{100 * one['average_error_std']:.1f}, {one['test_barrier']:.2g}"
                if one
                else "-"
            )
    return told | _milliseconds(row)


def _pm(trained: Mapping[str, Any], way: str, case: str, name: str) -> str:
    one = trained.get(way, {}).get(case)
    return f"{one[name]:.2g} ± {one[f'{name}_std']:.1g}" if one else "-"


def _milliseconds(row: Mapping[str, Any]) -> dict[str, str]:
    seconds = row["seconds"]["weights"]
    return {
        "ms a pair": f"{1000 * seconds['pair']:.2g}",
        "compiling": f"{seconds['compile']:.0f} s",
    }


def higher(metrics: Mapping[str, Any], way: str = "weights") -> dict[str, list[str]]:
    """Returns the rows whose mean barrier is above that of permutations, by case."""
    found: dict[str, list[str]] = {}
    for case in ("apart", "moved"):
        found[case] = []
        for name, row in metrics["rows"].items():
            own, alone = (
                row["trained"][w][case]["test_barrier"] for w in (way, "permutations")
            )
            if own > alone + 1e-4:
                found[case].append(name)
    return found


def note(result: Mapping[str, Any]) -> str:
    """Returns the text under the table of a recorded result."""
    metrics, machine, config = result["metrics"], result["machine"], result["config"]
    count = len(metrics["rows"])
    told = []
    for way in ("weights", "chosen"):
        above = higher(metrics, way)
        told.append(
            f"{way}: above permutations on {len(above['apart'])} of {count} rows, of "
            f"moved networks on {len(above['moved'])}"
        )
    return (
        f"`{result['command']}`: {config['seeds']} pairs a row trained for "
        f"{config['steps']} steps from different initialisations, and "
        f"{config['pairs'] - config['seeds']} with the second network moved by scales "
        f"and matrices of spread {config['spread']:g}; barriers on inputs not trained "
        f"on, mean ± sd over pairs. Mean barrier by {'; by '.join(told)}. "
        f"{config['pairs']} pairs aligned together, median of {config['repeats']}, "
        f"compiled {'as usual' if config['optimise'] else 'plainly'}; "
        f"{metrics['seconds'] / 60:.1f} minutes on {machine['cpus']} CPUs, jax "
        f"{result['versions']['jax']}.\n"
    )


KINDS = {
    "matrices": {"general_linear", "linear_stream", "orthogonal", "orthogonal_ones"},
    "half periods": {"dihedral"},
    "scales": {"positive_scale"},
    "signs": {"sign"},
    "permutations alone": set(),
}
"""What an architecture has beyond permutations: the first of these."""


def summary(preset: str, results: Path) -> dict[str, Any]:
    """Returns a recorded result as one whose table has a row for each kind."""
    result = json.loads((results / f"align_{preset}.json").read_text())
    return result | {"experiment": "align_summary"}


def kind_lines(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns medians over the architectures of each kind."""
    kinds: dict[str, dict[str, Any]] = {}
    for name, row in metrics["rows"].items():
        own = set(row["groups"])
        kind = next(k for k, groups in KINDS.items() if own & groups or not groups)
        kinds.setdefault(kind, {})[name] = row
    above = {way: higher(metrics, way) for way in ("weights", "chosen")}
    return [
        {
            "beyond permutations": kind,
            "networks": str(len(kinds[kind])),
            **{way: _median(kinds[kind], way, "apart") for way in _ALWAYS},
            **{f"moved: {way}": _median(kinds[kind], way, "moved") for way in _ALWAYS},
            **{
                f"{way} above permutations": " / ".join(
                    str(sum(name in kinds[kind] for name in names))
                    for names in found.values()
                )
                for way, found in above.items()
            },
        }
        for kind in KINDS
        if kind in kinds
    ]


_ALWAYS = ("none", "permutations", "weights", "chosen")


def _median(rows: Mapping[str, Any], way: str, case: str) -> str:
    barriers = [row["trained"][way][case]["test_barrier"] for row in rows.values()]
    return f"{statistics.median(barriers):.2g}"


def kind_note(result: Mapping[str, Any]) -> str:
    """Returns the text under the table of kinds."""
    return (
        f"`{result['command']}`: barriers, medians over architectures; above "
        f"permutations: on how many the mean over pairs is, as trained / moved.\n"
    )
