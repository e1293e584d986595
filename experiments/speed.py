"""The speed table of the README: what the benchmarks measured, in a few rows.

`python -m experiments.tables --record-speed` takes `benchmarks/results/*.json` and the
taus of the shared zoo into `results/speed.json`, and the times of fits into
`results/fit_speed.json`; the README is written from both.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PREDICTORS = {
    "qejax": "`qejax`, the model of the table above, without probes",
    "qejax_messages": "`qejax`, the same with message passing, 32 channels",
    "nfn_hnp": "`nfn` 0.1.2, HNP, published CNN recipe",
    "nfn_np": "`nfn` 0.1.2, NP, published CNN recipe",
    "monomial_torch": "strict monomial recipe in PyTorch",
}
"""Competitors of `benchmarks/bench_predictor.py` in words."""


def summarise(benchmarks: Path, results: Path) -> dict[str, Any]:
    """Returns the record behind the speed table.

    Args:
        benchmarks: the folder of the benchmarks' results.
        results: the folder of the experiments' results.

    Raises:
        FileNotFoundError: if a benchmark was not run; names its file.
    """
    found = {
        name: json.loads((benchmarks / f"{name}.json").read_text())
        for name in ("predictor_speed", "peers_tau", "act", "generate")
    }
    public = json.loads((results / "predict_accuracy_small_cnn_zoo.json").read_text())
    test = public["metrics"]["without_probes"]["test"]
    taus = {"qejax": (test["kendall_tau"], test["kendall_tau_std"])} | {
        name: (one["test_tau_mean"], one["test_tau_std"])
        for name, one in found["peers_tau"]["summary"].items()
    }
    speed = found["predictor_speed"]
    return {
        "experiment": "speed",
        "stamps": {name: one["stamp"] for name, one in found.items() if "stamp" in one},
        "peak_memory_bytes": speed["peak_memory_bytes"],
        "predictors": {
            name: {
                "parameters": row["parameters"],
                "networks_per_second": row["networks_per_second"],
                "compile_seconds": row.get("compile_seconds"),
                "tau": taus.get(name),
            }
            for name, row in speed["competitors"].items()
            if name in PREDICTORS and row["status"] == "ok"
        },
        "times_faster_than": speed["times_faster_than"],
        "prepare_networks_per_second": speed["competitors"]["qejax_prepare"][
            "networks_per_second"
        ],
        "act": found["act"]["answer"],
        "generate": {
            kind: {
                key: found["generate"][kind]["at_once"][key]
                for key in ("networks_per_second", "rate_ratio", "loop_ratio")
            }
            for kind in ("mlp", "cnn")
        },
    }


def lines(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the speed table as strings, headings the keys."""
    rows = []
    for name, one in record["predictors"].items():
        tau = one["tau"]
        compiling = one["compile_seconds"]
        ratio = record["times_faster_than"]["qejax"].get(name)
        rows.append(
            {
                "training step, 64 CNNs of the Small CNN Zoo": PREDICTORS[name],
                "parameters": f"{one['parameters']:,}",
                "networks/s": f"{one['networks_per_second']:,.0f}",
                "compile": "-" if compiling is None else f"{compiling:.1f} s",
                "`qejax` is faster by": "-" if ratio is None else f"{ratio:.1f} x",
                "tau": "-" if tau is None else f"{tau[0]:.3f} ± {tau[1]:.3f}",
            }
        )
    return rows


def notes(record: Mapping[str, Any]) -> str:
    """Returns the sentences under the table."""
    stamp = record["stamps"]["predictor_speed"]
    act, made = record["act"], record["generate"]
    generated = "; ".join(
        f"{name}s: {one['networks_per_second']:.1f} networks/s, "
        f"{one['rate_ratio']:.0%} of the rate of bare products, "
        f"{one['loop_ratio']:.1f} x a loop over networks"
        for name, one in (("MLP", made["mlp"]), ("CNN", made["cnn"]))
    )
    return (
        f"`{stamp['command']}` on {stamp['cores']} cores ({stamp['device']}), jax "
        f"{stamp['versions']['jax']}, torch {stamp['versions']['torch']}; peak memory "
        f"of the process {record['peak_memory_bytes'] / 2**30:.1f} GiB. The exact part "
        f"runs once per network, before training: "
        f"{record['prepare_networks_per_second']:,.0f} networks/s.\n\n"
        f"`python -m benchmarks.bench_act`: moving 4,096 CNNs by group elements takes "
        f"{act['median_ratio']:.2f} of the bytes per second of an elementwise pass.\n\n"
        f"`python -m benchmarks.bench_generate`: training zoos, {generated}.\n"
    )


FITS = {
    "at_once": "`zoo.fit`, many at once",
    "loop_fit": "a loop of single fits, each jitted",
    "loop_steps": "a loop of single fits, steps jitted",
}
"""Programs of `benchmarks/bench_fit.py` in words."""


def summarise_fits(benchmarks: Path) -> dict[str, Any]:
    """Returns the record behind the table of fits.

    Args:
        benchmarks: the folder of the benchmarks' results.

    Raises:
        FileNotFoundError: if the benchmark was not run; names its file.
    """
    found = json.loads((benchmarks / "fit.json").read_text())
    kept = ("stamp", "fits", "together", "steps", "floor_share", "loop_ratio")
    seconds = {name: found["times"][name]["median_seconds"] for name in FITS}
    # The loops are timed on one fit, `at_once` on all.
    rates = {name: 1 / one for name, one in seconds.items()}
    rates["at_once"] *= found["fits"]
    return {
        "experiment": "fit_speed",
        **{key: found[key] for key in kept},
        "fits_per_second": rates,
    }


def fit_lines(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table of fits as strings, headings the keys."""
    rates = record["fits_per_second"]
    loop = rates["at_once"] / record["loop_ratio"]
    shares = {"at_once": f"{record['floor_share']:.0%}"}
    return [
        {
            f"fits of sine networks to 28 x 28, {record['steps']} steps": FITS[name],
            "fits/s": f"{rate:.1f}",
            "against the faster loop": f"{rate / loop:.1f} x",
            "share of the floor": shares.get(name, "-"),
        }
        for name, rate in rates.items()
    ]


def fit_note(record: Mapping[str, Any]) -> str:
    """Returns the sentences under the table of fits."""
    stamp = record["stamp"]
    return (
        f"`{stamp['command']}` on {stamp['cores']} cores ({stamp['device']}), jax "
        f"{stamp['versions']['jax']}; {record['fits']} fits, {record['together']} in a "
        f"loop. The floor is the time of the bare matrix products and sines of all "
        f"steps; the share is the floor over the time taken.\n"
    )
