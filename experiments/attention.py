"""The table of attention benchmarks: what a training step of each kind costs.

`python -m experiments.tables --record-speed` takes `benchmarks/results/attention.json`,
which `python -m benchmarks.bench_attention` writes, into `results/attention.json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = {
    "strict": "strict layers",
    "gauge": "with the paper's shared alpha",
    "relative": "with relative alpha",
    "canonical": "message passing on the normal form",
}
"""Kinds of predictors in words."""


def summarise(benchmarks: Path) -> dict[str, Any]:
    """Returns the record behind the table.

    Args:
        benchmarks: the folder of the benchmarks' results.

    Raises:
        FileNotFoundError: if the benchmark was not run; names its file.
    """
    found = json.loads((benchmarks / "attention.json").read_text())
    kept = ("parameters", "compile_seconds", "networks_per_second", "speed_of_strict")
    return {
        "experiment": "attention",
        "stamp": found["stamp"],
        "steps": {
            kind: {name: found["step"][kind][name] for name in kept} for kind in KINDS
        },
        "slopes": found["width_slopes"],
        "widths": {
            name: {
                "bytes": one["compiled_memory"]["temp_bytes"],
                "seconds": one["median_seconds"],
            }
            for name, one in found["width"].items()
            if one["status"] == "ok"
        },
        "forms": {
            name: {"networks": one["networks"], "seconds": one["median_seconds"]}
            for name, one in found["normal_form"].items()
        },
    }


def lines(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings, headings the keys."""
    return [
        {
            "training step, 32 encoders of the Small Transformer Zoo": KINDS[kind],
            "parameters": f"{one['parameters']:,}",
            "networks/s": f"{one['networks_per_second']:,.0f}",
            "compile": f"{one['compile_seconds']:.1f} s",
            "speed of strict": f"{one['speed_of_strict']:.2f} x",
        }
        for kind, one in record["steps"].items()
    ]


def note(record: Mapping[str, Any]) -> str:
    """Returns the sentences under the table."""
    stamp, slopes = record["stamp"], record["slopes"]
    first, wide = (record["widths"][f"probed {width}"] for width in (64, 4096))
    probed, dense = slopes["probed"], slopes["dense"]
    forms = record["forms"]["canonical_form"]
    return (
        f"`{stamp['command']}` on {stamp['cores']} cores ({stamp['device']}), jax "
        f"{stamp['versions']['jax']}. Invariants of a head, value and gradient, from "
        f"width 64 to 4,096: probed {1e3 * first['seconds']:.1f} to "
        f"{1e3 * wide['seconds']:.0f} ms and {first['bytes'] / 2**20:.1f} to "
        f"{wide['bytes'] / 2**20:.0f} MiB. From {slopes['from_width']} up "
        f"they grow as powers of the width: operations {probed['flops']:.2f}, memory "
        f"{probed['memory']:.2f}, time {probed['time']:.2f}; dense products "
        f"{dense['flops']:.2f}, {dense['memory']:.2f}, {dense['time']:.2f}. Canonical "
        f"forms of {forms['networks']:,} encoders: {forms['seconds']:.1f} s.\n"
    )
