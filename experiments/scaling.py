"""The tables of devices and of faults: what many of them cost, and what is lost.

`python -m experiments.tables --record-speed` takes what `benchmarks/bench_mesh.py`,
`benchmarks/soak.py` and `benchmarks/faults.py` wrote into `results/scaling.json` and
`results/faults.json`; the README is written from both.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEPT = (
    "devices mesh batch parameters step_seconds networks_per_second collective_count "
    "bytes bytes_over_floor bytes_per_device"
).split()
"""Of every row of `benchmarks/results/mesh.json`."""

SOAK = (
    "stamp minutes steps step_seconds_p50 p99_over_p50 memory_first_bytes "
    "memory_last_bytes memory_bytes_per_hour compilations_after_warm_up"
).split()


def summarise(benchmarks: Path) -> dict[str, Any]:
    """Returns the record behind the table of devices.

    Args:
        benchmarks: the folder of the benchmarks' results.

    Raises:
        FileNotFoundError: if a benchmark was not run; names its file.
    """
    mesh, soak = (
        json.loads((benchmarks / f"{name}.json").read_text())
        for name in ("mesh", "soak")
    )
    rows = [*mesh["same_batch"], *mesh["same_per_device"][1:], *mesh["large"]]
    return {
        "experiment": "scaling",
        "stamp": mesh["stamp"],
        "rows": [{name: row[name] for name in KEPT} for row in rows],
        "pod": [
            {k: v for k, v in one.items() if k != "one_chip"}
            for one in mesh["pod"]["estimates"]
        ],
        "soak": {name: soak[name] for name in SOAK},
    }


def lines(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings, headings the keys."""
    return [
        {
            "training": f"{row['parameters']:,} parameters, `{row['mesh']}`",
            "devices": str(row["devices"]),
            "batch": str(row["batch"]),
            "step": f"{row['step_seconds']:.2f} s",
            "networks/s": f"{row['networks_per_second']:,.0f}",
            "collectives a step": f"{row['collective_count']:,}",
            "sent, of the floor": f"{row['bytes_over_floor']:.2f} x",
            "state a device": f"{row['bytes_per_device'] / 1e6:.0f} MB",
        }
        for row in record["rows"]
    ]


def note(record: Mapping[str, Any]) -> str:
    """Returns the sentences under the table."""
    stamp, soak = record["stamp"], record["soak"]
    pod = "; ".join(
        f"{one['batch_per_chip']} networks a chip, "
        f"{one['networks_per_second'] / 1e6:.1f} million networks/s, "
        f"{one['share_of_one_chip_rate']:.0%} of the rate of chips alone"
        for one in record["pod"]
    )
    return (
        f"`{stamp['command'].split(' --')[0]}`: devices of one host that share "
        f"{stamp['cores']} cores, jax {stamp['versions']['jax']}: seen is what cutting "
        f"costs, not what devices bring. Data parallel, the compiled step has one "
        f"collective, the all-reduce of gradients and loss; the floor is 4 bytes a "
        f"parameter. On paper, 256 chips of TPU v5e: {pod} (bound by "
        f"{record['pod'][0]['bound_by']}; method in `benchmarks/results/mesh.json`; "
        f"nothing here ran on a TPU).\n\n"
        f"`python -m benchmarks.soak`, {soak['minutes']:.0f} minutes of training on a "
        f"stream: after the warm-up {soak['steps']:,} steps, the 99th percentile "
        f"{soak['p99_over_p50']:.2f} x the median, "
        f"{soak['compilations_after_warm_up']} compilations, memory "
        f"{soak['memory_first_bytes'] / 2**20:,.0f} MiB at its start and "
        f"{soak['memory_last_bytes'] / 2**20:,.0f} at the end "
        f"({soak['memory_bytes_per_hour'] / 2**20:+.0f} MiB an hour by least "
        f"squares).\n"
    )


def summarise_faults(benchmarks: Path) -> dict[str, Any]:
    """Returns the record behind the table of faults.

    Args:
        benchmarks: the folder of the benchmarks' results.

    Raises:
        FileNotFoundError: if the benchmark was not run; names its file.
    """
    found = json.loads((benchmarks / "faults.json").read_text())
    kept = ("stamp", "seconds", "checkpoint_interval_steps", "rows")
    return {"experiment": "faults", **{name: found[name] for name in kept}}


def fault_lines(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings, headings the keys."""

    def shown(row: Mapping[str, Any], name: str) -> str:
        return "-" if row.get(name) is None else str(row[name])

    return [
        {
            "fault": name,
            "times": str(row["faults"]),
            "as promised": str(row["as_promised"]),
            "said what to do": shown(row, "said_what_to_do"),
            "most steps lost": shown(row, "most_steps_lost"),
            "more than an interval": shown(row, "over_one_interval"),
        }
        for name, row in record["rows"].items()
    ]


def fault_note(record: Mapping[str, Any]) -> str:
    """Returns the sentences under the table."""
    interval = record["checkpoint_interval_steps"]
    return (
        f"`python -m benchmarks.faults`, {record['seconds'] / 60:.0f} minutes. As "
        f"promised: run again to its end, a job has the bits of one that nobody "
        f"touched. A checkpoint every {interval} steps; the one before counts where a "
        f"kill hits its writing, which is in the background, so at most {2 * interval} "
        f"steps are trained again.\n"
    )
