"""Turns `experiments/results/*.json` into the tables of the READMEs.

A README says where a table goes with two comments, and this script writes what is
between them:

    <!-- results: predict_accuracy_digits -->
    <!-- end of results -->

`python -m experiments.tables` writes; with `--check` it fails if a README and its JSON
disagree; with `--record OUT` it first takes the finished run in `OUT`, its pictures
included, into the results, with `--record-speed` what the benchmarks measured.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import (
    attention,
    cut_offs,
    derived,
    inr_curve,
    recipes,
    scaling,
    speed,
)
from experiments.align import table as align
from experiments.classify_inr import table as classify_inr
from experiments.devices import FIELDS
from experiments.edit_inr import table as edit_inr
from experiments.predict_accuracy.lines import lines as _predict_accuracy
from experiments.predict_mixed import table as predict_mixed
from experiments.quantise_gauge import table as quantise_gauge
from experiments.read_adapters import table as read_adapters
from experiments.teleport import table as teleport

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
BENCHMARKS = ROOT / "benchmarks" / "results"

_BLOCK = re.compile(
    r"(<!-- results: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- end of results -->)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Args:
    """Writes the tables of the READMEs from the committed results.

    Attributes:
        check: write nothing and fail if a table is out of date.
        record: a finished run's output directory to take into the results first.
        record_speed: take the results of the benchmarks into the results first.
    """

    check: bool = False
    record: Path | None = None
    record_speed: bool = False


def readmes(root: Path = ROOT) -> list[Path]:
    """Returns the READMEs that may hold tables."""
    return [
        path
        for path in (root / "README.md", *sorted(root.glob("experiments/*/README.md")))
        if path.exists()
    ]


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of one result, and a line that says how it was made."""
    rows, text = TABLES[result["experiment"]](result)
    headings = list(rows[0])
    table = [
        "| " + " | ".join(headings) + " |",
        "| " + " | ".join("---" for _ in headings) + " |",
        *("| " + " | ".join(row.values()) + " |" for row in rows),
    ]
    return "\n".join([*table, "", text])


def _run(result: Mapping[str, Any]) -> tuple[list[dict[str, str]], str]:
    machine, versions = result["machine"], result["versions"]
    minutes = result["metrics"]["seconds"] / 60
    return _predict_accuracy(result["metrics"]), (
        f"`{result['command']}`: {result['seeds']} seeds from seed {result['seed']}, "
        f"{minutes:.1f} minutes on {machine['cpus']} CPUs ({machine['architecture']}, "
        f"device {machine['device']}), Python {versions['python']}, jax "
        f"{versions['jax']}.\n"
    )


TABLES: dict[str, Callable[[Mapping[str, Any]], tuple[list[dict[str, str]], str]]] = {
    "align": lambda r: (align.lines(r["metrics"]), align.note(r)),
    "align_summary": lambda r: (align.kind_lines(r["metrics"]), align.kind_note(r)),
    "attention": lambda result: (attention.lines(result), attention.note(result)),
    "classify_inr": lambda r: (
        classify_inr.lines(r["metrics"]),
        classify_inr.note(r),
    ),
    "cut_offs": lambda result: (cut_offs.lines(result), cut_offs.note(result)),
    "derived": lambda result: (derived.lines(result), derived.note(result)),
    "edit_inr": lambda r: (edit_inr.lines(r["metrics"]), edit_inr.note(r)),
    "faults": lambda result: (scaling.fault_lines(result), scaling.fault_note(result)),
    "fit_speed": lambda result: (speed.fit_lines(result), speed.fit_note(result)),
    "inr_curve": lambda result: (inr_curve.lines(result), inr_curve.note(result)),
    "predict_accuracy": _run,
    "predict_mixed": lambda r: (
        predict_mixed.lines(r["metrics"]),
        predict_mixed.note(r),
    ),
    "quantise_gauge": lambda r: (
        quantise_gauge.lines(r["metrics"]),
        quantise_gauge.note(r),
    ),
    "read_adapters": lambda r: (
        read_adapters.lines(r["metrics"]),
        read_adapters.note(r),
    ),
    "recipes": lambda result: (recipes.lines(result), recipes.note(result)),
    "scaling": lambda result: (scaling.lines(result), scaling.note(result)),
    "speed": lambda result: (speed.lines(result), speed.notes(result)),
    "teleport": lambda r: (teleport.lines(r["metrics"]), teleport.note(r)),
}
"""By experiment: a result to the rows of its table and the text under it."""

TOGETHER = {
    "align_summary": ("align", align.summary),
    "cut_offs": ("predict_accuracy", cut_offs.runs),
    "inr_curve": ("classify_inr", inr_curve.runs),
}
"""Other tables of a preset, `cut_offs_of_PRESET` in a marker: the experiment, and what
collects its runs."""


def render(text: str, results: Path = RESULTS) -> str:
    """Returns a README with every table written anew.

    Raises:
        ValueError: if a marker names a result that is not there, or has no end.
    """
    if text.count("<!-- results: ") != len(_BLOCK.findall(text)):
        raise ValueError(
            "every `<!-- results: NAME -->` needs a `<!-- end of results -->` after "
            "it, both on lines of their own."
        )

    def table(block: re.Match[str]) -> str:
        return block[1] + markdown(_result(block["name"], results)) + block[4]

    return _BLOCK.sub(table, text)


def _result(name: str, results: Path) -> dict[str, Any]:
    """A result, or several together, by the name that a marker gives it."""
    together, _, preset = name.partition("_of_")
    known = sorted(p.stem for p in results.glob("*.json"))
    experiment, runs = TOGETHER.get(together, ("", None))
    if runs is not None and f"{experiment}_{preset}" in known:
        return runs(preset, results)
    if name not in known:
        raise ValueError(
            f"README asks for the results {name!r}: expected one of {known}. Record a "
            f"run with --record OUT first."
        )
    return json.loads((results / f"{name}.json").read_text())


_SUFFIXES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "classify_inr": lambda config: inr_curve.suffix(config["networks"]),
    "predict_accuracy": lambda config: cut_offs.suffix(config.get("cut_off", 0)),
    "teleport": teleport.suffix,
}
"""By experiment of several runs a preset: from a config to the end of a name."""

_DRAWN = ("teleport",)
"""Experiments whose pictures are taken of every run."""


def record(out: Path, results: Path = RESULTS) -> Path:
    """Takes a finished run into the results, and returns the file.

    Raises:
        ValueError: if the run is not finished.
    """
    for name in ("config.json", "metrics.json"):
        if not (out / name).exists():
            raise ValueError(
                f"--record {out}: expected a finished run, found no {name}. Run the "
                f"experiment to its end with --out {out}."
            )
    made = json.loads((out / "config.json").read_text())
    result = {
        "experiment": made["experiment"],
        "preset": made["preset"],
        "command": made["command"],
        "seed": made["config"]["seed"],
        "seeds": made["config"]["seeds"],
        "versions": made["versions"],
        "machine": made["machine"],
        "config": {k: v for k, v in made["config"].items() if k not in _PLACES},
        "metrics": json.loads((out / "metrics.json").read_text()),
    }
    suffix = _SUFFIXES.get(made["experiment"])
    part = suffix(made["config"]) if suffix else ""
    names = (made["experiment"], made["preset"], *([part] if part else []))
    path = results / f"{'_'.join(name for name in names if name != WHOLE)}.json"
    results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    # Pictures of the whole zoo say enough.
    drawn = not part or made["experiment"] in _DRAWN
    for picture in out.glob("*.png") if drawn else ():
        shutil.copyfile(picture, results / f"{path.stem}_{picture.name}")
    return path


WHOLE = "full"
"""Preset that is no part of the name of a result: the experiment has no other."""

_PLACES = ("out", "zoos", "zoo", *FIELDS)
"""Fields of a config that say where files lie, and nothing about the result."""


def stale(paths: Sequence[Path], results: Path = RESULTS) -> list[Path]:
    """Returns the READMEs that disagree with the results."""
    return [path for path in paths if render(path.read_text(), results) != _read(path)]


def _read(path: Path) -> str:
    return path.read_text()


def main(args: Args) -> int:
    """Runs the command line; returns the exit status."""
    if args.record is not None:
        print(f"wrote {record(args.record).relative_to(ROOT)}")
    if args.record_speed:
        for name, found in (
            ("speed", speed.summarise(BENCHMARKS, RESULTS)),
            ("fit_speed", speed.summarise_fits(BENCHMARKS)),
            ("attention", attention.summarise(BENCHMARKS)),
            ("scaling", scaling.summarise(BENCHMARKS)),
            ("faults", scaling.summarise_faults(BENCHMARKS)),
            ("derived", derived.summarise(BENCHMARKS)),
        ):
            text = json.dumps(found, indent=1)
            (RESULTS / f"{name}.json").write_text(text + "\n")
    paths = readmes()
    old = stale(paths)
    for path in old:
        if args.check:
            print(
                f"{path.relative_to(ROOT)} disagrees with experiments/results: run "
                f"`python -m experiments.tables`."
            )
        else:
            path.write_text(render(path.read_text()))
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if args.check and old else 0


if __name__ == "__main__":
    import tyro

    sys.exit(main(tyro.cli(Args, description=__doc__)))
