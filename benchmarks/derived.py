"""What is derived of functions that no spec was made for: three questions.

    python -m benchmarks.derived architectures
    python -m benchmarks.derived search --programs 2000
    python -m benchmarks.derived deep

`architectures`: every row of `tests/derive/architectures`, small Flax modules in the
style of others. Is the function kept (samples of the group, float64)? How many of the
directions that change no output are in the group (`Derived.deficit`)? Directions that
are not: what an activation never reaches at these weights, and what no group here has.

`search`: random programs of `tests/derive/programs.py`. Does an element of any derived
group change the outputs? None should. Programs that are refused are named, and those
that amplify rounding of their own weights, so that nothing can be seen (`hidden`).

`deep`: a decoder of 100 layers. How long does it take to derive, and how many lines is
the table? The check on numbers is timed apart.

Results are saved as they come, so that a run that is stopped goes on.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from qejax import nets
from qejax.derive import Derived, derive_spec
from tests.derive.architectures import ARCHITECTURES, apply_of, variables_of
from tests.derive.programs import program

CODE = ("qejax", "benchmarks/*.py", "tests/derive")

SAMPLES = 3
"""Random elements that a derived group is checked with."""

SAVED_EVERY = 20
"""Programs between two savings; compiled programs are dropped then as well."""


def _earlier(name: str) -> dict[str, Any]:
    path = harness.RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def architecture_row(name: str, seed: int) -> dict[str, Any]:
    """Returns what was derived of one architecture.

    Args:
        name: in `ARCHITECTURES`.
        seed: of the weights and inputs.
    """
    row = ARCHITECTURES[name]
    theta, inputs, apply = variables_of(row, seed), row.inputs(seed), apply_of(row)
    start = time.perf_counter()
    derived = derive_spec(apply, theta, *inputs, samples=0, count_missing=False)
    seconds = time.perf_counter() - start
    found: dict[str, Any] = {
        "style": row.style,
        "source": row.source,
        "seconds": round(seconds, 2),
        "parameters": derived.spec.num_parameters,
        "unit_spaces": dict(Counter(s.group for s in derived.spec.spaces)),
        "shifts": len(derived.spec.shifts),
        "free": list(derived.free),
        "unsupported": dict(derived.unsupported),
    }
    checked = _outcome(
        lambda: derive_spec(apply, theta, *inputs, samples=SAMPLES, count_missing=True)
    )
    if isinstance(checked, str):
        return {**found, "kept": False, "error": checked}
    deficit = checked.deficit
    if deficit is None:
        return {**found, "kept": checked.checked, "uncounted": checked.uncounted[:200]}
    missing = {path: int(n) for path, n in deficit.leaves.items() if n}
    return {
        **found,
        "kept": checked.checked,
        "null": int(deficit.null),
        "orbit": int(deficit.orbit),
        "missing": int(deficit.missing),
        "missing_at": missing,
    }


def _outcome(run: Callable[[], Derived]) -> Derived | str:
    try:
        return run()
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"


def architectures(seed: int, names: list[str]) -> None:
    """Derives all architectures, or some, and saves a row for each."""
    stamp = harness.stamp(CODE)
    found = _earlier("derived_architectures").get("rows", {})
    for name in names or ARCHITECTURES:
        if name in found and not names:
            continue
        found[name] = architecture_row(name, seed)
        record = {"seed": seed, "samples": SAMPLES, "stamp": stamp, "rows": found}
        harness.save("derived_architectures", record)
        print(name, {k: found[name].get(k) for k in ("kept", "null", "missing")})
        jax.clear_caches()


def search(first: int, programs: int) -> None:
    """Derives random programs, and saves how many keep their function."""
    record: dict[str, Any] = _earlier("derived_search")
    if (record.get("first"), record.get("programs")) != (first, programs):
        record = dict[str, Any](first=first, programs=programs, next=first)
        record |= {"stamp": harness.stamp(CODE), "kept": 0, "hidden": []}
        record |= {"changed": [], "refused": {}, "groups": {}, "rules": {}}
    groups, rules = Counter(record["groups"]), Counter(record["rules"])
    for seed in range(record["next"], first + programs):
        one = program(seed)
        derived = _outcome(
            lambda one=one: derive_spec(
                one.apply,
                one.theta,
                *one.inputs,
                samples=SAMPLES,
                count_missing=False,
            )
        )
        if isinstance(derived, Derived) and not derived.checked:
            record["hidden"].append(seed)
        elif isinstance(derived, Derived):
            record["kept"] += 1
            groups.update({space.group for space in derived.spec.spaces} or {"none"})
            groups.update({"shift" for _ in derived.spec.shifts})
            rules.update(set(one.used))
        elif derived.startswith("AssertionError: derive_spec"):
            record["changed"].append(seed)
        else:
            record["refused"][str(seed)] = derived
        record["next"] = seed + 1
        if record["next"] % SAVED_EVERY == 0 or record["next"] == first + programs:
            record |= {"samples": SAMPLES, "groups": dict(groups), "rules": dict(rules)}
            harness.save("derived_search", record)
            print(record["next"], record["kept"], record["changed"], record["refused"])
            jax.clear_caches()


def deep(layers: int) -> None:
    """Derives a decoder of many layers, and saves how long that takes."""
    net = nets.transformer(
        16,
        layers,
        2,
        32,
        vocabulary=11,
        length=6,
        num_outputs=11,
        causal=True,
        pool="tokens",
        norm="rms",
        position="rotary",
        gated=True,
        activation="silu",
        mlp_bias=False,
        attention_bias=False,
    )
    theta = net.init(jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).integers(11, size=(2, 6)))
    stamp, seconds = harness.stamp(CODE), []
    for samples in (0, 0, 0, 1):
        start = time.perf_counter()
        derived = derive_spec(net.apply, theta, x, samples=samples, count_missing=False)
        seconds.append(round(time.perf_counter() - start, 2))
    lines = str(derived).splitlines()
    record = {
        "stamp": stamp,
        "layers": layers,
        "parameters": derived.spec.num_parameters,
        "unit_spaces": len(derived.spec.spaces),
        "seconds_first": seconds[0],
        "seconds_median": float(np.median(seconds[:3])),
        "seconds_with_check": seconds[3],
        "table_lines": len(lines),
        "table_width": max(map(len, lines)),
    }
    print(json.dumps(record, indent=1), derived, sep="\n")
    harness.save("derived_deep", record)


def main() -> None:
    """Runs one of the questions."""
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", choices=("architectures", "search", "deep"))
    parser.add_argument("names", nargs="*", help="of architectures; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of weights and inputs")
    parser.add_argument("--first", type=int, default=0, help="seed of the programs")
    parser.add_argument("--programs", type=int, default=2000)
    parser.add_argument("--layers", type=int, default=100)
    args = parser.parse_args()
    if args.question == "architectures":
        architectures(args.seed, args.names)
    elif args.question == "search":
        search(args.first, args.programs)
    else:
        deep(args.layers)


if __name__ == "__main__":
    main()
