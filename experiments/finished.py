"""A run that is there already: shown again, and never overwritten by another one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.devices import FIELDS
from experiments.predict_accuracy.record import fingerprint, machine, plain, versions
from qejax._processes import on_first


def made(
    experiment: str,
    preset: str,
    command: str,
    config: Any,
    places: Sequence[str],
    data: str = "",
) -> dict[str, Any]:
    """Returns what `config.json` says of a run.

    Args:
        experiment: its name.
        preset: its name.
        command: that repeats the run.
        config: a dataclass.
        places: fields that decide where files lie, and no number.
        data: checksum of what it reads, of `checksum.digest_of`.
    """
    places = (*places, *FIELDS)
    fields = {k: v for k, v in vars(config).items() if k not in places}
    return {
        "experiment": experiment,
        "preset": preset,
        "command": command,
        "fingerprint": fingerprint(fields, data),
        "config": vars(config),
        "data_sha256": data,
        "versions": versions(),
        "machine": machine(),
    }


def finished(
    out: Path, made: Mapping[str, Any], places: Sequence[str]
) -> dict[str, Any] | None:
    """Returns the metrics of this run if `out` has them.

    Raises:
        ValueError: if `out` holds the results of another run; says what differs.
    """
    return on_first(lambda: _found(out, made, places))


def _found(
    out: Path, made: Mapping[str, Any], places: Sequence[str]
) -> dict[str, Any] | None:
    if not (out / "metrics.json").exists():
        return None
    before = json.loads((out / "config.json").read_text())
    if before["fingerprint"] == made["fingerprint"]:
        return json.loads((out / "metrics.json").read_text())
    old, new = before["config"], plain(made["config"])
    places = (*places, *FIELDS)
    names = [k for k in new if k not in places and new[k] != old.get(k)]
    changed = [f"--{k.replace('_', '-')} {old.get(k)}, now {new[k]}" for k in names]
    if before.get("data_sha256", "") != made["data_sha256"]:
        changed.append("networks of other bytes, those of another zoo")
    raise ValueError(
        f"--out {out}: holds the results of another run, with {'; '.join(changed)}. "
        f"Choose another --out, or move that one away."
    )
