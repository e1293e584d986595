"""The table of derived specs: architectures of others, and how much of each is known.

`python -m experiments.tables --record-speed` takes what `benchmarks/derived.py` wrote
into `results/derived.json`; the README is written from that.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEPT = ("style", "source", "parameters", "unit_spaces", "shifts", "kept")
"""Of every row of `benchmarks/results/derived_architectures.json`."""

COUNTED = ("null", "orbit", "missing")
"""Of rows of which directions were counted."""

SEARCH = (
    "first",
    "programs",
    "next",
    "samples",
    "kept",
    "hidden",
    "changed",
    "refused",
)

DEEP = (
    "layers parameters unit_spaces seconds_first seconds_median seconds_with_check "
    "table_lines table_width"
).split()


def summarise(benchmarks: Path) -> dict[str, Any]:
    """Returns the record behind the table of derived specs.

    Args:
        benchmarks: the folder of the benchmarks' results.

    Raises:
        FileNotFoundError: if a question was not asked; names its file.
    """
    rows, search, deep = (
        json.loads((benchmarks / f"derived_{name}.json").read_text())
        for name in ("architectures", "search", "deep")
    )
    return {
        "experiment": "derived",
        "stamp": rows["stamp"],
        "seed": rows["seed"],
        "samples": rows["samples"],
        "rows": {
            name: {key: row[key] for key in (*KEPT, *COUNTED) if key in row}
            for name, row in rows["rows"].items()
        },
        "search": {key: search[key] for key in SEARCH},
        "deep": {key: deep[key] for key in DEEP},
    }


def lines(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings, headings the keys."""
    return [
        {
            "architecture": name.replace("_", " "),
            "module": row["style"],
            "parameters": f"{row['parameters']:,}",
            "unit spaces": ", ".join(
                f"{count} {group}" for group, count in row["unit_spaces"].items()
            )
            or "none",
            "shifts": str(row["shifts"]),
            "function kept": "yes" if row["kept"] else "no",
            "directions that change no output": _number(row, "null"),
            "in the group": _number(row, "orbit"),
            "missing": _number(row, "missing"),
        }
        for name, row in record["rows"].items()
    ]


def _number(row: Mapping[str, Any], key: str) -> str:
    return f"{row[key]:,}" if key in row else "-"


def note(record: Mapping[str, Any]) -> str:
    """Returns the line under the table: what was run, and on what."""
    stamp, search, deep = record["stamp"], record["search"], record["deep"]
    done = search["next"] - search["first"]
    return (
        f"`python -m benchmarks.derived architectures`: weights of seed "
        f"{record['seed']}, {record['samples']} random elements each, "
        f"{stamp['cores']} cores of {stamp['cpu']}, jax {stamp['versions']['jax']}. "
        f"`python -m benchmarks.derived search`: of {done:,} random programs, "
        f"{search['kept']:,} keep their function to 1e-10 under "
        f"{search['samples']} elements each, {len(search['changed'])} do not, "
        f"{len(search['refused'])} are refused, {len(search['hidden'])} amplify "
        f"rounding of their weights so that nothing can be seen. "
        f"`python -m benchmarks.derived deep`: {deep['layers']} layers, "
        f"{deep['unit_spaces']} unit spaces in {deep['seconds_median']:.1f} s "
        f"({deep['seconds_with_check']:.1f} s with a check on numbers), a table of "
        f"{deep['table_lines']} lines.\n"
    )
